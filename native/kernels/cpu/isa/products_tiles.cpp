// A matrix times many rows in float32: a panel of outputs is unpacked once and turned so that outputs lie along lanes,
// then multiplied with as many rows at a time as registers hold.

#include "kernels/cpu/isa/products.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kMostRows = 12;  // 24 sums in 32 registers
#else
constexpr int kMostRows = 6;  // 12 sums in 16 registers
#endif
constexpr int kDepth = 256;  // inputs of a panel that is worked on: it stays in the first-level cache

template <int kRows>
void multiply_rows(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int depth, float* c,
                   int64_t c_stride, bool add) {
  F sums[kRows][2] = {};
  if (add) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) sums[r][v] = load(c + r * c_stride + v * kLanes);
    }
  }
  for (int k = 0; k < depth; ++k) {
    const F low = load(b + k * b_stride), high = load(b + k * b_stride + kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const F x = splat(a[r * a_stride + k]);
      sums[r][0] += x * low;
      sums[r][1] += x * high;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < 2; ++v) store(c + r * c_stride + v * kLanes, sums[r][v]);
  }
}

}  // namespace

void multiply_panel(const float* a, int64_t a_stride, int rows, const float* b, int64_t b_stride, int depth, float* c,
                    int64_t c_stride, bool add) {
  while (rows > 0) {
    const int count = rows >= kMostRows ? kMostRows : rows >= 6 ? 6 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    switch (count) {
      case 12: multiply_rows<12>(a, a_stride, b, b_stride, depth, c, c_stride, add); break;
      case 6: multiply_rows<6>(a, a_stride, b, b_stride, depth, c, c_stride, add); break;
      case 4: multiply_rows<4>(a, a_stride, b, b_stride, depth, c, c_stride, add); break;
      case 2: multiply_rows<2>(a, a_stride, b, b_stride, depth, c, c_stride, add); break;
      default: multiply_rows<1>(a, a_stride, b, b_stride, depth, c, c_stride, add); break;
    }
    a += count * a_stride;
    c += count * c_stride;
    rows -= count;
  }
}

int64_t tiles_scratch(const Matrix& w, int rows) {
  const int64_t scales = 2 * round_up(w.groups, kLanes);
  return scales + int64_t{kPanel} * round_up(w.inputs, kLanes) + int64_t{kDepth} * kPanel + int64_t{rows} * kPanel;
}

void tiles(const Matrix& w, const float* x, int64_t x_stride, int rows, int first, int last, Results y,
           float* scratch) {
  const int64_t width = round_up(w.inputs, kLanes);
  float *scales = scratch, *unpacked = scales + 2 * round_up(w.groups, kLanes), *panel = unpacked + kPanel * width,
        *sums = panel + int64_t{kDepth} * kPanel;
  for (int output = first; output < last; output += kPanel) {
    const int count = last - output < kPanel ? last - output : kPanel;
    for (int o = 0; o < count; ++o) expand_row(w, output + o, unpacked + o * width, scales);
    for (int o = count; o < kPanel; ++o) {
      for (int64_t i = 0; i < width; ++i) unpacked[o * width + i] = 0;
    }
    for (int from = 0; from < w.inputs; from += kDepth) {
      const int depth = w.inputs - from < kDepth ? w.inputs - from : kDepth;
      for (int k = 0; k < depth; k += kLanes) {
        for (int half = 0; half < kPanel; half += kLanes) {
          U block[kLanes];
          for (int o = 0; o < kLanes; ++o) block[o] = read_vector<U>(unpacked + (half + o) * width + from + k);
          transpose(block);
          const int most = depth - k < kLanes ? depth - k : kLanes;
          for (int i = 0; i < most; ++i) store(panel + (k + i) * kPanel + half, reinterpret_cast<F>(block[i]));
        }
      }
      multiply_panel(x + from, x_stride, rows, panel, kPanel, depth, sums, kPanel, from > 0);
    }
    for (int r = 0; r < rows; ++r) {
      for (int at = 0; at < count; at += kLanes) {
        put(y, r, output + at, load(sums + int64_t{r} * kPanel + at), count - at);
      }
    }
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
