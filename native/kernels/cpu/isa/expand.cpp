// Rows of affine codes to float32, many at a time: short rows, such as a head's keys, have few groups each, so the
// scales of all rows are widened in one go.

#include "kernels/cpu/isa/expand.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

// Numbers [first, first + count) in float32.
void widen_all(Type type, const uint8_t* from, int64_t first, int64_t count, float* to) {
  by_type(type, [&]<class T>(T*) {
    const T* numbers = reinterpret_cast<const T*>(from) + first;
    for_vectors(count, [&](auto get, auto put) { put(to, get(numbers)); });
  });
}

template <int kBits>
void expand_rows(const Matrix& w, int first, int count, const float* scales, const float* biases, float* to) {
  // Codes are fetched by more bytes than they take, and the rows that follow may be read as well.
  const int64_t end = (w.outputs - first) * w.row_bytes;
  for (int row = 0; row < count; ++row) {
    const uint8_t* codes = w.data + (first + row) * w.row_bytes;
    const int64_t readable = end - row * w.row_bytes;
    for (int g = 0; g < w.groups; ++g) {
      const F scale = splat(scales[row * w.groups + g]), bias = splat(biases[row * w.groups + g]);
      for (int at = g * w.group; at < (g + 1) * w.group; at += kLanes) {
        store(to + at, AffineCode<kBits>::value(codes_at<kBits>(codes, readable, at)) * scale + bias);
      }
    }
    to += w.inputs;
  }
}

}  // namespace

void expand(const Matrix& w, int first, int count, float* to, float* scratch) {
  const int64_t numbers = int64_t{count} * w.groups, start = int64_t{first} * w.groups;
  float *scales = scratch, *biases = scratch + numbers;
  widen_all(w.type, w.scales, start, numbers, scales);
  widen_all(w.type, w.biases, start, numbers, biases);
  switch (w.bits) {
    case 2: return expand_rows<2>(w, first, count, scales, biases, to);
    case 3: return expand_rows<3>(w, first, count, scales, biases, to);
    case 4: return expand_rows<4>(w, first, count, scales, biases, to);
    case 5: return expand_rows<5>(w, first, count, scales, biases, to);
    case 6: return expand_rows<6>(w, first, count, scales, biases, to);
    case 8: return expand_rows<8>(w, first, count, scales, biases, to);
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
