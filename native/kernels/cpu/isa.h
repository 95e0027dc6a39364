// Which instruction set the kernels use: the best that this processor has, or the one MLXK_CPU_ISA names.

#pragma once

#include "kernels/cpu/routines.h"

namespace mlxk::kernels {

// Throws EngineError `validation_error` / `cpu_isa_invalid` where MLXK_CPU_ISA names none of this build, and
// `cpu_isa_unsupported` where this processor lacks it. The same answer for the life of the process.
const Routines& routines();

}  // namespace mlxk::kernels
