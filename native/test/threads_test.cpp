// The threads of kernels: every piece runs once whatever the number of threads, and the policy that leaves threads out.

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include "check.h"
#include "kernels/cpu/processors.h"
#include "kernels/cpu/share.h"
#include "kernels/cpu/threads.h"

using namespace mlxk;
using namespace mlxk::kernels;

TEST("every piece runs exactly once, for any number of threads") {
  for (const int count : {1, 2, 3, 8, 2}) {
    set_threads(count);
    CHECK_EQ(threads(), count);
    for (size_t pieces = 0; pieces < 400; pieces = pieces * 3 / 2 + 1) {
      std::vector<std::atomic<int>> runs(pieces);
      for_pieces(pieces, [&](size_t piece) { ++runs[piece]; });
      CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
    }
  }
}

TEST("what pieces wrote is seen after them, job after job") {
  set_threads(4);
  bool right = true;
  for (uint64_t job = 0; job < 5000; ++job) {
    std::vector<uint64_t> results(16);
    for_pieces(results.size(), [&](size_t piece) { results[piece] = job + piece; });
    right = right && std::accumulate(results.begin(), results.end(), uint64_t{0}) == 16 * job + 120;
  }
  CHECK(right);
}

TEST("ranges cover everything once") {
  set_threads(3);
  for (const size_t count : {1, 2, 7, 64, 100}) {
    for (const size_t grain : {1, 3, 64, 1000}) {
      std::vector<std::atomic<int>> runs(count);
      for_ranges(count, grain, [&](size_t first, size_t last) {
        for (size_t i = first; i < last; ++i) ++runs[i];
      });
      CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
    }
  }
}

TEST("work from several threads at once is done by each of them") {
  set_threads(2);
  std::atomic<int> done{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int job = 0; job < 500; ++job) for_pieces(8, [&](size_t) { ++done; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(done.load(), 4 * 500 * 8);
}

TEST("threads that wait for a core are left out, and tried again later and later") {
  Share share(4);
  CHECK(share.alone());
  for (int i = 0; i < 10; ++i) share.observe(Share::kWindow, 3 * Share::kWindow);
  CHECK_EQ(share.width(), 1);
  CHECK(!share.alone());

  // A machine that stays busy: trials become rare.
  int64_t trials = 0;
  const int64_t windows = 60'000'000'000 / Share::kWindow;
  for (int64_t i = 0; i < windows; ++i) {
    const bool trial = share.width() > 1;
    trials += trial;
    share.observe(Share::kWindow, trial ? 3 * Share::kWindow : 0);
  }
  CHECK(trials > 10);
  CHECK(trials < windows / 100);

  // It becomes free: all take part again, and a later disturbance is forgotten quickly.
  for (int64_t i = 0; i < windows; ++i) share.observe(Share::kWindow, 0);
  CHECK(share.alone());
  share.observe(Share::kWindow, 3 * Share::kWindow);
  CHECK_EQ(share.width(), 3);
  for (int64_t waited = 0; waited < Share::kFirstPause; waited += Share::kWindow) share.observe(Share::kWindow, 0);
  CHECK(share.alone());
}

TEST("a single thread stays") {
  Share share(1);
  share.observe(Share::kWindow, 3 * Share::kWindow);
  CHECK_EQ(share.width(), 1);
}

TEST("quotas of containers") {
  CHECK_EQ(quota_of("150000 100000"), 1.5);
  CHECK_EQ(quota_of("max 100000"), 0);
  CHECK_EQ(quota_of("-1 100000"), 0);
  CHECK_EQ(quota_of(""), 0);
  CHECK_EQ(quota_of("100000 0"), 0);
  CHECK(usable_cores() >= 1);
}
