// See ranking.h.

#include "kernels/cpu/ranking.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>
#include <utility>

namespace mlxk::kernels {
namespace {

// Bits that ascend as numbers descend; zeros of both signs are one.
uint32_t key_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value + 0.0f);
  return bits >> 31 ? bits : 0x7fffffff - bits;
}
float value_of(uint32_t key) { return std::bit_cast<float>(key >> 31 ? key : 0x7fffffff - key); }

constexpr int kMostDigitBits = 12;  // counts of a digit stay in the first-level cache

// Ascending, by digits from the lowest up; gives the one of the two buffers that it ends in.
template <int kDigits>
uint32_t* sort_by_digits(uint32_t* keys, uint32_t* others, size_t count, int width) {
  const uint32_t mask = (uint32_t{1} << width) - 1;
  std::array<std::vector<uint32_t>, kDigits> places;
  for (auto& of_digit : places) of_digit.resize(size_t{mask} + 1);
  for (size_t i = 0; i < count; ++i) {
    for (int digit = 0; digit < kDigits; ++digit) ++places[digit][keys[i] >> digit * width & mask];
  }
  for (int digit = 0; digit < kDigits; ++digit) {
    uint32_t* const place = places[digit].data();
    uint32_t before = 0;
    for (uint32_t at = 0; at <= mask; ++at) before += std::exchange(place[at], before);
    for (size_t i = 0; i < count; ++i) others[place[keys[i] >> digit * width & mask]++] = keys[i];
    std::swap(keys, others);
  }
  return keys;
}

}  // namespace

std::span<const float> Ranking::descending(std::span<const float> x, float largest, float bound) {
  const auto size = static_cast<int64_t>(4 * x.size());
  auto* keys = reinterpret_cast<uint32_t*>(keys_.bytes(size));
  auto* others = reinterpret_cast<uint32_t*>(others_.bytes(size));
  float* const values = values_.floats(static_cast<int64_t>(x.size()));
  const uint32_t base = key_of(largest);
  size_t count = 0;
  // Without a branch: which ones are kept is hard to foresee. Below zero a number's bits are its key.
  const auto keep = [&](auto key) {
    for (const float value : x) {
      keys[count] = key(value) - base;
      count += value >= bound ? 1 : 0;
    }
  };
  largest < 0 ? keep([](float value) { return std::bit_cast<uint32_t>(value); }) : keep(key_of);
  // As many digits as what the keys differ in takes.
  const int bits = std::bit_width(key_of(bound) - base);
  const int digits = std::max(1, (bits + kMostDigitBits - 1) / kMostDigitBits), width = (bits + digits - 1) / digits;
  const auto sort = digits == 1 ? sort_by_digits<1> : digits == 2 ? sort_by_digits<2> : sort_by_digits<3>;
  keys = sort(keys, others, count, width);
  for (size_t i = 0; i < count; ++i) values[i] = value_of(keys[i] + base);
  return {values, count};
}

float bound_of_largest(std::span<const float> x, size_t k) {
  // Of blocks, the k-th largest of what is largest in each.
  const size_t block = std::clamp<size_t>(x.size() / (4 * k), 1, 256);
  if (block < 8) return -std::numeric_limits<float>::infinity();
  std::vector<float> most;
  for (size_t first = 0; first < x.size(); first += block) {
    const size_t count = std::min(block, x.size() - first);
    most.push_back(
        x[first + static_cast<size_t>(routines().argmax(Type::f32, x.data() + first, static_cast<int64_t>(count)))]);
  }
  std::ranges::nth_element(most, most.begin() + static_cast<int64_t>(k) - 1, std::greater());
  return most[k - 1];
}

}  // namespace mlxk::kernels
