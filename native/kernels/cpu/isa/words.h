// Rows of 32-bit words, each of several short numbers, turned so that rows lie along lanes: how matrices and keys are
// laid out for instructions that sum the products within a word.

#pragma once

#include "kernels/cpu/isa/simd.h"
#include "kernels/cpu/routines.h"

namespace mlxk::kernels::MLXK_ISA {

// The words of kLanes rows of `bytes` each: to[word][row], zeros after the last up to a multiple of kLanes words.
inline void turn(const uint8_t* const (&rows)[kLanes], int64_t bytes, uint32_t* to) {
  for (int64_t at = 0; at < bytes; at += kVectorBytes, to += kLanes * kLanes) {
    U block[kLanes];
    const int64_t left = bytes - at;
    for (int row = 0; row < kLanes; ++row) {
      uint32_t rest[kLanes] = {};
      if (left < kVectorBytes) __builtin_memcpy(rest, rows[row] + at, static_cast<size_t>(left));
      block[row] = left < kVectorBytes ? read_vector<U>(rest) : read_vector<U>(rows[row] + at);
    }
    transpose(block);
    for (int i = 0; i < kLanes; ++i) __builtin_memcpy(to + i * kLanes, &block[i], sizeof block[i]);
  }
}

// sums[r] += row r of a times b over `depth` words of bfloat16 pairs. The words of a are kRowStep and kDepthStep apart,
// the vectors of b `b_step` words.
template <int kRowStep, int kDepthStep, int kRows>
inline void multiply_pairs(const uint32_t* a, const uint32_t* b, int64_t b_step, int64_t depth, F (&sums)[kRows]) {
  for (int64_t k = 0; k < depth; ++k, a += kDepthStep, b += b_step) {
    const U word = read_vector<U>(b);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sums[r] = add_pair_products(sums[r], word, splat(a[r * kRowStep]));
  }
}

// body(number of rows, as a constant; first row) for up to kTileRows rows.
template <class Body>
inline void by_tile_rows(int rows, Body body) {
  int row = 0;
  for (; row + kTileRows <= rows; row += kTileRows) body.template operator()<kTileRows>(row);
  for (; row + 8 <= rows; row += 8) body.template operator()<8>(row);
  for (; row + 4 <= rows; row += 4) body.template operator()<4>(row);
  for (; row < rows; ++row) body.template operator()<1>(row);
}

}  // namespace mlxk::kernels::MLXK_ISA
