// Packed rows to float32, of one instruction set; see routines.h.

#pragma once

#include "kernels/cpu/isa/codes.h"

namespace mlxk::kernels::MLXK_ISA {

void expand(const Matrix& w, int first, int count, float* to, float* scratch);

}  // namespace mlxk::kernels::MLXK_ISA
