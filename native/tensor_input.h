// From a tensor of a safetensors file to an array. Every byte is read here, through the strict reader, never by MLX:
// MLX's own loader accepts headers that lie. Thread: engine thread only.

#pragma once

#include "mx.h"
#include "safetensors.h"

namespace mlxk {

// The array type that holds `dtype`: 8-bit floats are bytes to MLX.
mx::Type array_type(Dtype dtype);

// Throws insufficient_memory / allocation_failed, and what SafetensorsFile::read throws.
Array read_tensor(const SafetensorsFile& file, const TensorEntry& tensor);

}  // namespace mlxk
