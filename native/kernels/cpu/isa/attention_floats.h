// A block of keys and values against the rows of a piece, in float32: few rows multiply keys and values as they lie,
// many turn the block into panels first, whose cost they share. Scores are [rows][kBlock], sums [rows][stride].

#pragma once

#include "kernels/cpu/isa/products.h"

namespace mlxk::kernels::MLXK_ISA {

constexpr int kBlock = 64;  // keys

// scores [rows][count] of keys that lie as they came.
template <class T, int kRows>
void score_few(const Attention& a, const float* queries, const T* keys, int64_t step, int count, float* scores) {
  for (int k = 0; k < count; ++k) {
    F sums[kRows] = {};
    const T* key = keys + k * step;
    int at = 0;
    for (; at + kLanes <= a.width; at += kLanes) {
      const F v = load(key + at);
      for (int r = 0; r < kRows; ++r) sums[r] += v * load(queries + int64_t{r} * a.width + at);
    }
    if (at < a.width) {
      const F v = load_some(key + at, a.width - at);
      for (int r = 0; r < kRows; ++r) {
        sums[r] += v * load_some(queries + int64_t{r} * a.width + at, a.width - at);
      }
    }
    for (int r = 0; r < kRows; ++r) scores[r * kBlock + k] = sum(sums[r]);
  }
}

// sums [rows][stride] += scores [rows][count] times values.
template <class T, int kRows>
void add_few(const Attention& a, const float* scores, const T* values, int64_t step, int count, float* sums,
             int64_t stride) {
  constexpr int kVectors = kRows > 2 ? 4 : 8;
  int at = 0;
  for (; at + kVectors * kLanes <= a.value_width; at += kVectors * kLanes) {
    F total[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) total[r][v] = load(sums + r * stride + at + v * kLanes);
    }
    for (int k = 0; k < count; ++k) {
      const T* value = values + k * step + at;
      for (int v = 0; v < kVectors; ++v) {
        const F x = load(value + v * kLanes);
        for (int r = 0; r < kRows; ++r) total[r][v] += x * scores[r * kBlock + k];
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) store(sums + r * stride + at + v * kLanes, total[r][v]);
    }
  }
  for (; at < a.value_width; at += kLanes) {
    const int left = a.value_width - at;
    for (int r = 0; r < kRows; ++r) {
      F total = load(sums + r * stride + at);  // rows of sums are padded
      for (int k = 0; k < count; ++k) {
        const T* value = values + k * step + at;
        total += (left >= kLanes ? load(value) : load_some(value, left)) * scores[r * kBlock + k];
      }
      store(sums + r * stride + at, total);
    }
  }
}

// body(number of rows, as a constant; first row) until all rows had their turn.
template <class Body>
void by_rows(int rows, Body body) {
  int row = 0;
  for (; row + 4 <= rows; row += 4) body.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) body.template operator()<2>(row);
  if (row < rows) body.template operator()<1>(row);
}

// The same by panels.
template <class T>
void score_many(const Attention& a, const float* queries, int rows, const T* keys, int64_t step, int count,
                float* panel, float* scores) {
  for (int first = 0; first < count; first += kPanel) {
    for (int half = 0; half < kPanel; half += kLanes) {
      for (int at = 0; at < a.width; at += kLanes) {
        const int left = a.width - at < kLanes ? a.width - at : kLanes;
        U block[kLanes];
        for (int i = 0; i < kLanes; ++i) {
          const int k = first + half + i;
          const T* key = keys + k * step + at;
          block[i] = k >= count ? U{} : reinterpret_cast<U>(left < kLanes ? load_some(key, left) : load(key));
        }
        transpose(block);
        for (int i = 0; i < left; ++i) store(panel + (at + i) * kPanel + half, reinterpret_cast<F>(block[i]));
      }
    }
    multiply_panel(queries, a.width, rows, panel, kPanel, a.width, scores + first, kBlock, false);
  }
}

template <class T>
void add_many(const Attention& a, const float* scores, int rows, const T* values, int64_t step, int count, float* panel,
              float* sums, int64_t stride) {
  const int64_t padded = round_up(a.value_width, kPanel);
  for (int k = 0; k < count; ++k) {
    for (int64_t at = 0; at < padded; at += kLanes) {
      const int64_t left = a.value_width - at;
      const T* value = values + k * step + at;
      store(panel + k * padded + at, left >= kLanes ? load(value)
                                     : left > 0     ? load_some(value, static_cast<int>(left))
                                                    : F{});
    }
  }
  for (int64_t at = 0; at < padded; at += kPanel) {
    multiply_panel(scores, kBlock, rows, panel + at, padded, count, sums + at, stride, true);
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
