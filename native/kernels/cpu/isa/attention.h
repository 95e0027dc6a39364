// Attention of one instruction set; see routines.h.

#pragma once

#include "kernels/cpu/isa/codes.h"

namespace mlxk::kernels::MLXK_ISA {

int64_t attend_scratch(const Attention& a, int rows);
void attend(const Attention& a, const AttentionPointers& p, int first_row, int last_row, int first_key, int last_key,
            float* sums, float* largest, float* totals, float* scratch);
void finish_attention(const Attention& a, int head, int parts, int64_t part_step, const float* sums,
                      const float* largest, const float* totals, void* y);

}  // namespace mlxk::kernels::MLXK_ISA
