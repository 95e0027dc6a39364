// A block of keys and values of bfloat16 against many rows, by pairs of numbers: scores sum products of pairs within a
// head's width, sums of values products of pairs of keys, with weights rounded to bfloat16.

#pragma once

#include "kernels/cpu/isa/attention_floats.h"
#include "kernels/cpu/isa/words.h"

namespace mlxk::kernels::MLXK_ISA {

inline int64_t words_of_width(const Attention& a) { return (int64_t{a.width} + 1) / 2; }

// Row `row` of queries among tiles of kTileRows, as their words side by side.
inline void put_query(const Attention& a, const Bf16* query, int row, uint32_t* queries) {
  const int64_t words = words_of_width(a);
  uint32_t* to = queries + row / kTileRows * kTileRows * words + row % kTileRows;
  for (int64_t i = 0; i < words; ++i, to += kTileRows) {
    uint32_t word = 0;
    __builtin_memcpy(&word, query + 2 * i, 2 * i + 1 < a.width ? 4 : 2);
    *to = word;
  }
}

inline void score_pairs(const Attention& a, const uint32_t* queries, int rows, const Bf16* keys, int64_t step,
                        int count, uint32_t* panel, float* scores) {
  const int64_t words = words_of_width(a);
  for (int first = 0; first < count; first += kLanes) {
    const uint8_t* lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const int k = first + i < count ? first + i : count - 1;
      lanes[i] = reinterpret_cast<const uint8_t*>(keys + k * step);
    }
    turn(lanes, int64_t{a.width} * 2, panel);
    for (int from = 0; from < rows; from += kTileRows) {
      by_tile_rows(rows - from < kTileRows ? rows - from : kTileRows, [&]<int kRows>(int row) {
        F sums[kRows] = {};
        multiply_pairs<1, kTileRows>(queries + from * words + row, panel, kLanes, words, sums);
        for (int r = 0; r < kRows; ++r) store(scores + (from + row + r) * kBlock + first, sums[r] * a.scale);
      });
    }
  }
}

// `weights` [rows][kBlock].
inline void add_pairs(const Attention& a, const Bf16* weights, int rows, const Bf16* values, int64_t step, int count,
                      uint32_t* panel, float* sums, int64_t stride) {
  const int64_t padded = round_up(a.value_width, kLanes);
  const int pairs = (count + 1) / 2;
  for (int pair = 0; pair < pairs; ++pair) {
    const Bf16 *even = values + 2 * pair * step, *odd = even + step;
    for (int64_t at = 0; at < padded; at += kLanes) {
      const int left = a.value_width - at < kLanes ? static_cast<int>(a.value_width - at) : kLanes;
      const auto bits = [&](const Bf16* from) {
        return reinterpret_cast<U>(left < kLanes ? load_some(from + at, left) : load(from + at));
      };
      const U word = (2 * pair + 1 < count ? bits(odd) : U{}) | bits(even) >> 16;
      __builtin_memcpy(panel + pair * padded + at, &word, sizeof word);
    }
  }
  for (int64_t at = 0; at < padded; at += kLanes) {
    by_tile_rows(rows, [&]<int kRows>(int row) {
      F totals[kRows];
      for (int r = 0; r < kRows; ++r) totals[r] = load(sums + (row + r) * stride + at);
      const auto* words = reinterpret_cast<const uint32_t*>(weights + row * kBlock);
      multiply_pairs<kBlock / 2, 1>(words, panel + at, padded, pairs, totals);
      for (int r = 0; r < kRows; ++r) store(sums + (row + r) * stride + at, totals[r]);
    });
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
