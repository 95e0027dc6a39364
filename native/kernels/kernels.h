// Operations that replace a composition of many small MLX operations by one primitive of our own, on the CPU back
// end, where a primitive costs two microseconds whatever it computes and stock matrix products are scalar or nearly.
// The only files that include MLX's C++ headers are below this one; `mx.cpp` is the only caller.
//
// Every function takes arrays and the stream as mlx-c's handles hold them and gives a new handle, to be adopted, or
// null where it has no kernel for the device or types: then the stock operation is to be taken.
// Computes in float32 whatever the type, float32 or bfloat16, of the arrays. Thread: engine thread.

#pragma once

#include <optional>
#include <utility>

namespace mlxk::kernels {

void* rms_norm(const void* x, const void* weight, float eps, const void* stream);

// `offsets` [B] stands for `offset` when it is not null; `freqs` [dims / 2] for `base`. As mlx::core::fast::rope.
void* rope(const void* x, int dims, bool traditional, std::optional<float> base, float scale, int offset,
           const void* offsets, const void* freqs, const void* stream);

// One query position, nothing masked. q [B, H, 1, D], k [B, K, T, D], v [B, K, T, E]; H a multiple of K.
void* decode_attention(const void* q, const void* k, const void* v, float scale, const void* stream);

// silu(gate) * up, of equal shapes.
void* swiglu(const void* gate, const void* up, const void* stream);

// x [.., I] times the transpose of w [O, I].
void* linear(const void* x, const void* w, const void* stream);

// The same for w packed by MLX's affine quantization to 2, 4 or 8 bits.
void* quantized_linear(const void* x, const void* w, const void* scales, const void* biases, int group_size, int bits,
                       const void* stream);

// Linear recurrences over float32 arrays, as native/recurrence.h has them: y, in float32, and the new state.
std::pair<void*, void*> gated_delta(const void* q, const void* k, const void* v, const void* g, const void* beta,
                                    const void* state, const void* stream);
std::pair<void*, void*> state_space(const void* x, const void* a, const void* b, const void* c, const void* d,
                                    const void* dt, const void* state, const void* stream);
std::pair<void*, void*> selective_scan(const void* x, const void* a, const void* b, const void* c, const void* d,
                                       const void* dt, const void* state, const void* stream);
std::pair<void*, void*> wkv7(const void* r, const void* w, const void* k, const void* v, const void* a, const void* b,
                             const void* state, const void* stream);

}  // namespace mlxk::kernels
