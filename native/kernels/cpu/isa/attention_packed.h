// Attention over affine codes, of one instruction set; see routines.h.

#pragma once

#include "kernels/cpu/isa/codes.h"

namespace mlxk::kernels::MLXK_ISA {

int64_t attend_packed_scratch(const Attention& a, const Matrix& k, const Matrix& v, int rows);
void attend_packed(const Attention& a, const Matrix& k, const Matrix& v, const float* q, int first_key, int last_key,
                   float* sums, float* largest, float* totals, float* scratch);

}  // namespace mlxk::kernels::MLXK_ISA
