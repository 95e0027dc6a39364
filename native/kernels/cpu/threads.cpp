// See threads.h.

#include "kernels/cpu/threads.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "error.h"
#include "kernels/cpu/processors.h"
#include "kernels/cpu/share.h"

#ifdef __linux__
#include <sys/syscall.h>
#endif

namespace mlxk::kernels {
namespace {

// An idle thread looks for work this long before it sleeps: longer than the gap between two kernels of a step.
constexpr int64_t kSpin = 100'000;  // ns

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True once `ready` is, false where it was not within kSpin.
template <class Ready>
bool spin_until(Ready ready) {
  for (int64_t end = 0;;) {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      relax();
    }
    const int64_t at = now();
    if (end == 0) end = at + kSpin;
    if (at > end) return false;
  }
}

// How long a thread has been ready without a core, in ns since it began. Linux tells it in a file of each thread.
class WaitingTime {
 public:
  WaitingTime() {
#ifdef __linux__
    const std::string file = "/proc/self/task/" + std::to_string(syscall(SYS_gettid)) + "/schedstat";
    file_ = open(file.c_str(), O_RDONLY | O_CLOEXEC);
#endif
  }
  ~WaitingTime() {
    if (file_ >= 0) close(file_);
  }
  WaitingTime(const WaitingTime&) = delete;
  WaitingTime& operator=(const WaitingTime&) = delete;

  int64_t read() const {  // from any thread; 0 where the system does not tell
    char text[96];
    const ssize_t length = file_ >= 0 ? pread(file_, text, sizeof text, 0) : 0;
    if (length <= 0) return 0;
    const char* const end = text + length;
    const auto* second = static_cast<const char*>(std::memchr(text, ' ', static_cast<size_t>(length)));
    int64_t waited = 0;
    if (second != nullptr) std::from_chars(second + 1, end, waited);
    return waited;
  }

 private:
  int file_ = -1;
};

struct alignas(64) Worker {
  std::atomic<uint32_t> signal{0};
  std::atomic<bool> parked{false};
  std::atomic<const WaitingTime*> waiting{nullptr};
  int64_t waited_before = 0;  // caller only
};

class Pool {
 public:
  explicit Pool(int threads) : share_(threads), workers_(static_cast<size_t>(threads - 1)) {
    width_ = threads;
    for (size_t i = 0; i < workers_.size(); ++i) threads_.emplace_back([this, i] { work(static_cast<int>(i)); });
  }

  ~Pool() {
    stopping_ = true;
    for (Worker& worker : workers_) wake(worker);
    for (std::thread& thread : threads_) thread.join();
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(uint32_t pieces, PieceFunction function, const void* body) {
    if (workers_.empty()) {
      for (uint32_t piece = 0; piece < pieces; ++piece) function(body, piece);
      return;
    }
    look_around();
    function_.store(function, std::memory_order_relaxed);
    body_.store(body, std::memory_order_relaxed);
    pieces_.store(pieces, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const uint64_t job = ((next_.load(std::memory_order_relaxed) >> 32) + 1) << 32;
    next_.store(job);
    const int helpers = std::min(width_.load(std::memory_order_relaxed) - 1, static_cast<int>(pieces) - 1);
    for (int i = 0; i < helpers; ++i) {
      if (workers_[static_cast<size_t>(i)].parked) wake(workers_[static_cast<size_t>(i)]);
    }
    take_pieces(job >> 32);
    if (!spin_until([&] { return done_.load(std::memory_order_acquire) == pieces; })) {
      caller_sleeps_ = true;
      for (uint32_t done; (done = done_.load()) != pieces;) done_.wait(done);
      caller_sleeps_ = false;
    }
    next_.store(job | kNoPiece);  // before the next job is written over this one
  }

 private:
  static constexpr uint64_t kNoPiece = 0xffffffff;  // no job has that many

  // Runs pieces of job number `job` until none is left. Between reading what the job is and claiming a piece of it the
  // caller may have ended it: then the claim fails, for `next_` has changed.
  // Their end is told once: telling it of each would have threads wait for one another's cache line.
  void take_pieces(uint64_t job) {
    uint32_t finished = 0, pieces = 0;
    while (true) {
      uint64_t next = next_.load();
      if (next >> 32 != job) break;
      pieces = pieces_.load(std::memory_order_relaxed);
      const auto function = function_.load(std::memory_order_relaxed);
      const auto* const body = body_.load(std::memory_order_relaxed);
      const auto piece = static_cast<uint32_t>(next);
      if (piece >= pieces) break;
      if (!next_.compare_exchange_weak(next, next + 1)) continue;
      function(body, piece);
      ++finished;
    }
    if (finished > 0 && done_.fetch_add(finished) + finished == pieces && caller_sleeps_) done_.notify_one();
  }

  void work(int index) {
    const WaitingTime waiting;
    Worker& self = workers_[static_cast<size_t>(index)];
    self.waiting = &waiting;
    uint64_t seen = 0;  // number of the last job looked at
    const auto wanted = [&] { return index + 1 < width_.load(std::memory_order_relaxed); };
    const auto news = [&] { return stopping_ || (wanted() && next_.load() >> 32 != seen); };
    while (true) {
      if (!(alone_.load(std::memory_order_relaxed) && spin_until(news))) {
        self.parked = true;
        for (uint32_t signal = self.signal; !news(); signal = self.signal) self.signal.wait(signal);
        self.parked = false;
      }
      if (stopping_) break;
      seen = next_.load() >> 32;
      take_pieces(seen);
    }
    self.waiting = nullptr;
  }

  static void wake(Worker& worker) {
    ++worker.signal;
    worker.signal.notify_one();
  }

  // Adjusts the number of threads that take part to how long they had to wait for a core.
  void look_around() {
    const int64_t at = now();
    if (at - looked_ < Share::kWindow) return;
    int64_t waited = 0;
    const int width = share_.width();
    for (size_t i = 0; i < workers_.size(); ++i) {
      const WaitingTime* waiting = workers_[i].waiting;
      const int64_t total = waiting ? waiting->read() : 0;
      if (static_cast<int>(i) + 1 < width) waited += total - workers_[i].waited_before;
      workers_[i].waited_before = total;
    }
    if (looked_ != 0) share_.observe(at - looked_, waited);
    looked_ = at;
    width_ = share_.width();
    alone_ = share_.alone();
  }

  Share share_;
  int64_t looked_ = 0;
  std::atomic<int> width_;
  std::atomic<bool> alone_{true}, stopping_{false}, caller_sleeps_{false};
  alignas(64) std::atomic<uint64_t> next_{0};  // job number above, next piece below
  std::atomic<PieceFunction> function_{nullptr};
  std::atomic<const void*> body_{nullptr};
  std::atomic<uint32_t> pieces_{0};
  alignas(64) std::atomic<uint32_t> done_{0};
  std::vector<Worker> workers_;
  std::vector<std::thread> threads_;
};

std::atomic<int> wanted_threads{0};  // of set_threads; 0 before

int threads_of_environment() {
  const char* text = std::getenv("MLXK_THREADS");
  if (text == nullptr || *text == '\0') return 0;
  int count = 0;
  const char* const end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, count);
  if (error != std::errc() || rest != end || count < 1 || count > kMostThreads) {
    invalid("threads_invalid",
            "MLXK_THREADS must be a whole number from 1 to " + std::to_string(kMostThreads) + ", got " + quoted(text));
  }
  return count;
}

}  // namespace

int threads() {
  if (const int wanted = wanted_threads) return wanted;
  static const int usual = [] {
    const int given = threads_of_environment();
    return given > 0 ? given : std::min(usable_cores(), kMostThreads);
  }();
  return usual;
}

void set_threads(int count) { wanted_threads = count; }

void run_pieces(size_t pieces, PieceFunction function, const void* body) {
  // Never destroyed: work may still run while the process exits.
  static auto* const mutex = new std::mutex;
  static auto* const pool = new std::unique_ptr<Pool>;
  const std::unique_lock lock(*mutex, std::try_to_lock);
  if (!lock || threads() == 1) {
    for (size_t piece = 0; piece < pieces; ++piece) function(body, piece);
    return;
  }
  if (!*pool || (*pool)->threads() != threads()) *pool = std::make_unique<Pool>(threads());
  (*pool)->run(static_cast<uint32_t>(pieces), function, body);
}

}  // namespace mlxk::kernels
