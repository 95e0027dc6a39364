// The angles that rotary position embedding turns by. The layers of a step all ask for the same.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

class Angles {
 public:
  // Those of `dims` rotated numbers: base^(-2i / dims), or the inverse of freqs [dims / 2] where it is not null.
  void set_frequencies(int dims, float base, const float* freqs, int64_t step) {
    if (!freqs && dims == dims_ && base == base_) return;
    const int half = dims / 2;
    std::vector<float> frequencies;
    for (int i = 0; i < half; ++i) {
      frequencies.push_back(freqs ? 1 / freqs[i * step]
                                  : std::exp(-static_cast<float>(i) * (std::log(base) / static_cast<float>(half))));
    }
    dims_ = freqs ? 0 : dims;
    base_ = base;
    if (frequencies == frequencies_) return;
    frequencies_ = std::move(frequencies);
    count_ = 0;
  }

  // Cosine and sine of every angle of `count` positions from `start`.
  void turn_to(float scale, int start, size_t count) {
    if (scale == scale_ && start == start_ && count == count_) return;
    scale_ = scale;
    start_ = start;
    count_ = count;
    const size_t half = frequencies_.size();
    cosines_.resize(count * half);
    sines_.resize(count * half);
    for_rows(count, 8 * half, [&](size_t first, size_t last) {
      for (size_t at = first; at < last; ++at) {
        const float position = scale * static_cast<float>(start + static_cast<int>(at));
        for (size_t i = 0; i < half; ++i) {
          cosines_[at * half + i] = std::cos(position * frequencies_[i]);
          sines_[at * half + i] = std::sin(position * frequencies_[i]);
        }
      }
    });
  }
  const float* cosines(size_t at) const { return cosines_.data() + at * frequencies_.size(); }
  const float* sines(size_t at) const { return sines_.data() + at * frequencies_.size(); }

 private:
  std::vector<float> frequencies_, cosines_, sines_;
  int dims_ = 0;  // 0: of given wavelengths
  float base_ = 0, scale_ = 0;
  int start_ = 0;
  size_t count_ = 0;
};

}  // namespace mlxk::kernels
