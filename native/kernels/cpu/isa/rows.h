// Functions of single rows of one instruction set; see routines.h.

#pragma once

#include "kernels/cpu/isa/codes.h"

namespace mlxk::kernels::MLXK_ISA {

void widen(Type type, const void* from, float* to, int64_t count);
void narrow(Type type, const float* from, void* to, int64_t count);
void rms_norm(Type type, const void* x, const float* weight, float eps, int width, void* y);
void layer_norm(Type type, const void* x, const float* weight, const float* bias, float eps, int width, void* y);
void softmax(Type type, const void* x, int width, void* y);
void gate(Type type, Activation activation, const void* gate, const void* up, void* y, int64_t count);
void add(Type type, const void* a, const void* b, void* y, int64_t count);
void rotate(Type type, const void* x, const float* cosines, const float* sines, int dims, bool traditional, int width,
            void* y);
int64_t argmax(Type type, const void* x, int64_t count);
float sum_exponentials(Type type, const void* x, float most, int64_t count);
void exponentials(const float* x, float most, float* y, int64_t count);

}  // namespace mlxk::kernels::MLXK_ISA
