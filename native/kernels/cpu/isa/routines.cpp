// The table of one instruction set.

#include "kernels/cpu/routines.h"

#include "kernels/cpu/isa/attention.h"
#include "kernels/cpu/isa/attention_packed.h"
#include "kernels/cpu/isa/products.h"
#include "kernels/cpu/isa/recurrence.h"
#include "kernels/cpu/isa/rows.h"

namespace mlxk::kernels::MLXK_ISA {

extern const Routines kRoutines;
constinit const Routines kRoutines{
    .name = MLXK_ISA_NAME,
    .widen = widen,
    .narrow = narrow,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .softmax = softmax,
    .gate = gate,
    .add = add,
    .rotate = rotate,
    .argmax = argmax,
    .sum_exponentials = sum_exponentials,
    .exponentials = exponentials,
    .few_size = few_size,
    .few_scratch = few_scratch,
    .prepare_few = prepare_few,
    .can_round = can_round,
    .prepare_rounded = prepare_rounded,
    .few = few,
    .tile_outputs = kPanel,
    .tiles_scratch = tiles_scratch,
    .tiles = tiles,
    .dots_for = dots_for,
    .dots_size = dots_size,
    .dots_scratch = dots_scratch,
    .prepare_dots = prepare_dots,
    .dots = dots,
    .attend_scratch = attend_scratch,
    .attend = attend,
    .finish_attention = finish_attention,
    .attend_packed_scratch = attend_packed_scratch,
    .attend_packed = attend_packed,
    .gated_delta = gated_delta,
    .state_space = state_space,
    .selective_scan = selective_scan,
    .wkv7 = wkv7,
};

}  // namespace mlxk::kernels::MLXK_ISA
