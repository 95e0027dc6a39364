// Decides how many threads take part while other programs use the same cores. A thread that was ready but had to wait
// for a core delays everyone who waits for its piece, so when threads wait, fewer take part; now and then one more is
// tried again. Knows no threads and no clock: it is told.

#pragma once

#include <algorithm>
#include <cstdint>

namespace mlxk::kernels {

class Share {
 public:
  static constexpr int64_t kWindow = 5'000'000;  // ns between two looks
  static constexpr int64_t kFirstPause = 50'000'000, kLongestPause = 2'000'000'000;
  // What all threads together may wait, in windows. Beside four busy loops on four cores, threads that waited less
  // still made the whole faster: the caller goes on with other pieces meanwhile.
  static constexpr double kTolerated = 2.0;

  explicit Share(int threads) : threads_(threads), width_(threads) {}

  int width() const { return width_; }
  // Nobody else wants our cores: an idle thread may wait for work without sleeping.
  bool alone() const { return width_ == threads_; }

  // `waited` of `elapsed` ns the threads that took part were ready without a core, together.
  void observe(int64_t elapsed, int64_t waited) {
    if (static_cast<double>(waited) > kTolerated * static_cast<double>(elapsed) && width_ > 1) {
      // Each failed trial doubles the time to the next, so that trials cost next to nothing on a machine that stays
      // busy.
      pause_ = std::min(pause_ == 0 ? kFirstPause : 2 * pause_, kLongestPause);
      --width_;
      calm_ = 0;
      return;
    }
    calm_ += elapsed;
    if (width_ < threads_ && calm_ >= pause_) {
      ++width_;
      calm_ = 0;
    } else if (width_ == threads_ && calm_ >= kLongestPause) {
      pause_ = 0;
    }
  }

 private:
  int threads_, width_;
  int64_t pause_ = 0, calm_ = 0;
};

}  // namespace mlxk::kernels
