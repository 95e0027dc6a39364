// Exponentials that are MLX's own to the bit, so that a seed draws the same tokens with and without our kernels. Its
// polynomial: mlx/backend/cpu/simd/math.h, after Cephes. Compiled with products and sums kept apart, as MLX is: see
// CMakeLists.txt.

#include "kernels/cpu/isa/rows.h"

namespace mlxk::kernels::MLXK_ISA {

void exponentials(const float* x, float most, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const float of = x[i] - most;
    const float scaled = of * 1.442695f;
    const float whole = __builtin_floorf(scaled + 0.5f), rest = scaled - whole;
    float power = 1.535336188319500e-4f;
    power = __builtin_fmaf(power, rest, 1.339887440266574e-3f);
    power = __builtin_fmaf(power, rest, 9.618437357674640e-3f);
    power = __builtin_fmaf(power, rest, 5.550332471162809e-2f);
    power = __builtin_fmaf(power, rest, 2.402264791363012e-1f);
    power = __builtin_fmaf(power, rest, 6.931472028550421e-1f);
    power = __builtin_fmaf(power, rest, 1.0f);
    // Beyond 88 the exponent has no room; what is no number stays none, by `power`.
    const float below = whole < 128.0f ? whole : 128.0f, held = below > -127.0f ? below : -127.0f;
    const float value = __builtin_bit_cast(float, (static_cast<int32_t>(held) + 127) * (1 << 23)) * power;
    const float bounded = of > 88.0f ? __builtin_inff() : value;
    y[i] = of < -88.0f ? 0.0f : bounded;
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
