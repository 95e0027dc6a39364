// Linear recurrences of one instruction set; see routines.h.

#pragma once

#include "kernels/cpu/isa/codes.h"

namespace mlxk::kernels::MLXK_ISA {

void gated_delta(const DeltaHead& h, float* state, float* y);
void state_space(const StateSpaceHead& h, float* state, float* y);
void selective_scan(const ScanChannel& h, float* state, float* y);
void wkv7(const WkvHead& h, float* state, float* y);

}  // namespace mlxk::kernels::MLXK_ISA
