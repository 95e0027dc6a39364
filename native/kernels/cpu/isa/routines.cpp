// The table of one instruction set.

#include "kernels/cpu/routines.h"

#include "kernels/cpu/isa/attention.h"
#include "kernels/cpu/isa/products.h"
#include "kernels/cpu/isa/recurrence.h"
#include "kernels/cpu/isa/rows.h"

namespace mlxk::kernels::MLXK_ISA {

extern const Routines kRoutines;
constinit const Routines kRoutines{
    MLXK_ISA_NAME, widen,          narrow, rms_norm,         layer_norm,   softmax,         gate,
    add,           rotate,         argmax, few_size,         few_scratch,  prepare_few,     few,
    kPanel,        tiles_scratch,  tiles,  fits_integers,    integer_size, integer_scratch, prepare_integers,
    integers,      attend_scratch, attend, finish_attention, gated_delta,  state_space,     selective_scan,
    wkv7,
};

}  // namespace mlxk::kernels::MLXK_ISA
