// Inner products and scaled sums over float32 and bfloat16, in lanes that a compiler turns into vector instructions.

#pragma once

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

// Sum of the lanes, in halves: without leave to reorder, a loop over them would be one addition after the other.
template <int kLanes>
inline float sum_of(float (&lanes)[kLanes]) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

float dot(const float* a, const float* b, int n);
float dot(const float* a, const bfloat16_t* b, int n);
// out[i] = dot(a + i * stride, b) for four i: b is read once.
void dot4(const float* a, int64_t stride, const float* b, int n, float* out);
// y += weight * x
void add_scaled(float weight, const float* x, float* y, int n);
void add_scaled(float weight, const bfloat16_t* x, float* y, int n);
// values = x, as float32
void widen(const bfloat16_t* x, float* values, int n);

}  // namespace mlxk::kernels
