// The repeatable random numbers of the fuzz programs: the same seed gives the same run everywhere.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <vector>

namespace mlxk::test {

struct Random {
  uint64_t state;

  uint64_t next() {  // splitmix64
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }
  uint64_t below(uint64_t n) { return next() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }

  template <class T>
  const T& pick(const std::vector<T>& from) {
    return from[below(from.size())];
  }
};

// How many of `count` random cases to try: all, or one in MLXK_TEST_SHARE where each takes long.
inline int trials(int count) {
  const char* share = std::getenv("MLXK_TEST_SHARE");
  const int of = share ? std::atoi(share) : 1;
  return of > 1 ? (count + of - 1) / of : count;
}

}  // namespace mlxk::test
