// See vector.h.

#include "kernels/cpu/vector.h"

#include <bit>

namespace mlxk::kernels {
namespace {

constexpr int kLanes = 16;

// bfloat16 is the upper half of a float32. MLX's own conversion keeps compilers from vectorizing.
inline float value(const uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
inline float value(const float x) { return x; }

inline const uint16_t* bits_of(const bfloat16_t* x) { return reinterpret_cast<const uint16_t*>(x); }

template <class B>
inline float dot_lanes(const float* a, const B* b, int n) {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += a[i + j] * value(b[i + j]);
  }
  float sum = sum_of(lanes);
  for (; i < n; ++i) sum += a[i] * value(b[i]);
  return sum;
}

MLXK_VECTORIZED float dot_half(const float* a, const uint16_t* b, int n) { return dot_lanes(a, b, n); }

MLXK_VECTORIZED void add_scaled_half(float weight, const uint16_t* x, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] += weight * value(x[i]);
}

MLXK_VECTORIZED void widen_half(const uint16_t* x, float* values, int n) {
  for (int i = 0; i < n; ++i) values[i] = value(x[i]);
}

}  // namespace

MLXK_VECTORIZED float dot(const float* a, const float* b, int n) { return dot_lanes(a, b, n); }
float dot(const float* a, const bfloat16_t* b, int n) { return dot_half(a, bits_of(b), n); }

MLXK_VECTORIZED void dot4(const float* a, int64_t stride, const float* b, int n, float* out) {
  const float *a0 = a, *a1 = a + stride, *a2 = a + 2 * stride, *a3 = a + 3 * stride;
  float l0[kLanes] = {}, l1[kLanes] = {}, l2[kLanes] = {}, l3[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) l0[j] += a0[i + j] * b[i + j];
    for (int j = 0; j < kLanes; ++j) l1[j] += a1[i + j] * b[i + j];
    for (int j = 0; j < kLanes; ++j) l2[j] += a2[i + j] * b[i + j];
    for (int j = 0; j < kLanes; ++j) l3[j] += a3[i + j] * b[i + j];
  }
  float sums[4] = {sum_of(l0), sum_of(l1), sum_of(l2), sum_of(l3)};
  for (; i < n; ++i) {
    sums[0] += a0[i] * b[i];
    sums[1] += a1[i] * b[i];
    sums[2] += a2[i] * b[i];
    sums[3] += a3[i] * b[i];
  }
  for (int k = 0; k < 4; ++k) out[k] = sums[k];
}

MLXK_VECTORIZED void add_scaled(float weight, const float* x, float* y, int n) {
  for (int i = 0; i < n; ++i) y[i] += weight * x[i];
}
void add_scaled(float weight, const bfloat16_t* x, float* y, int n) { add_scaled_half(weight, bits_of(x), y, n); }

void widen(const bfloat16_t* x, float* values, int n) { widen_half(bits_of(x), values, n); }

}  // namespace mlxk::kernels
