// The number formats of activations and weights, as bits: knows neither MLX nor any instruction set.

#pragma once

#include <cstdint>

namespace mlxk::kernels {

enum class Type { f32, f16, bf16 };

struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

static constexpr int64_t size_of(Type type) { return type == Type::f32 ? 4 : 2; }

}  // namespace mlxk::kernels
