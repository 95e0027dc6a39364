// Operations that replace a composition of many small MLX operations by one primitive of our own, on the CPU back
// end, where a primitive costs two microseconds whatever it computes and stock matrix products are scalar or nearly.
// The only files that include MLX's C++ headers are below this one; `mx_kernels.cpp` is the only caller.
//
// Every function takes arrays and the stream as mlx-c's handles hold them and gives a new handle, to be adopted, or
// null where it has no kernel for the device or types, or where operands do not fit: then the stock operation is to be
// taken, which computes it or says what is wrong. MLXK_KERNELS=off makes them all give null.
// A product of few rows takes the norm before it, a gate or sum after it, into its own primitive where neither has been
// computed yet: cpu/pending.h.
// Arrays may have any strides and be of float32, float16 or bfloat16; sums are float32. Thread: engine thread.

#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxk::kernels {

// The instruction set in use: `portable`, `x86-64-v3`, `avx512`, `avx512-vnni`, `avx512-bf16`; on arm64 `neon`,
// `neon-dotprod`, `neon-bf16`; or `off`. Throws EngineError `validation_error` where an environment variable names none
// that this processor has.
std::string cpu_isa();
// Threads that take part, the engine's stream included; see cpu/threads.h.
int cpu_threads();
void set_cpu_threads(int count);

// --- rows (last axis) ------------------------------------------------------------------------------------------------

void* rms_norm(const void* x, const void* weight, float eps, const void* stream);  // weight may be null
void* layer_norm(const void* x, const void* weight, const void* bias, float eps, const void* stream);  // both may
void* softmax(const void* x, const void* stream);
void* argmax(const void* x, const void* stream);  // uint32, the first of equals
// Places [..] of the largest scores of x [.., V], uint32, and their log-probabilities [..], float32.
std::pair<void*, void*> greedy(const void* scores, const void* stream);
// A token drawn from scores [1, V] by a random key [2], as native/sampler.cpp composes it, and its log-probability:
// uint32 [1] and float32 [1]. Filters that are off: top_p of 0 or 1, top_k and min_p of 0.
struct SamplingFilters {
  float temperature, top_p, min_p;
  int top_k;
};
std::pair<void*, void*> sample(const void* scores, const void* key, const SamplingFilters& filters, const void* stream);
void* log_sum_exp(const void* x, const void* stream);         // of float32, keeping the axis
void* add(const void* a, const void* b, const void* stream);  // b may be a vector beside a product of few rows

// activation(gate) * up, of equal shapes.
enum class Gate { silu, gelu, gelu_tanh, clipped_silu };
void* gated(Gate activation, const void* gate, const void* up, const void* stream);

// `offsets` [B] stands for `offset` when it is not null; `freqs` [dims / 2] for `base`. As mlx::core::fast::rope.
void* rope(const void* x, int dims, bool traditional, std::optional<float> base, float scale, int offset,
           const void* offsets, const void* freqs, const void* stream);

// --- caches ----------------------------------------------------------------------------------------------------------
// Arrays of any type.

// `a` with `update` written at [start, ..) of `axis`, in place where nobody else holds it.
void* update_positions(const void* a, const void* update, int axis, int start, const void* stream);
// [begin, end) of `axis` at the front of an array with `positions` there, the rest of which is any numbers.
void* move_positions(const void* a, int axis, int begin, int end, int positions, const void* stream);

// --- products
// ----------------------------------------------------------------------------------------------------------

// A matrix [O, I]: dense, or with scales packed by MLX's quantization: `mode` is affine (2, 3, 4, 5, 6 or 8 bits),
// mxfp4, mxfp8 or nvfp4.
struct MatrixHandles {
  const void* w;
  const void *scales = nullptr, *biases = nullptr;
  int group_size = 0, bits = 0;
  std::string mode{};
};
// x [.., I] times the transpose of each matrix, in one primitive; nothing where one of them has no kernel. A dense
// matrix may be of 16 bits where x is of float32. More than a few rows of float16 or bfloat16 may be multiplied with
// packed matrices as 8-bit integers (cpu/isa/products_integers.cpp), rows of any type with dense ones of 16 bits as
// 16-bit integers (products_shorts.cpp).
std::vector<void*> linears(const void* x, std::span<const MatrixHandles> matrices, const void* stream);

// For every index i, x[i] [M, I] times the transpose of w[indices[i]] [O, I], plus bias[indices[i]], which may be null:
// as mlx::core::gather_mm and gather_qmm with a transposed w. The batch axes of x broadcast to the shape of the
// indices.
void* gather_linear(const void* x, const void* w, const void* bias, const void* indices, const void* stream);
void* gather_quantized_linear(const void* x, const MatrixHandles& matrices, const void* bias, const void* indices,
                              const void* stream);
// Sums of rows by their weights: y [.., k, 1, O], weights [.., k] to [.., O]. Null but for few positions of such
// products that nothing has computed, which become part of it.
void* weighted_sum(const void* y, const void* weights, const void* stream);

// --- attention
// -----------------------------------------------------------------------------------------------------------

// Softmax(scale q k^T) v. q [B, H, L, D], k [B, K, T, D], v [B, K, T, E]; H a multiple of K.
struct AttentionOptions {
  float scale = 1;
  bool causal = false;          // the last query sees the last key
  int window = 0;               // with `causal`: each query sees this many keys; 0 for all
  float soft_cap = 0;           // scores become cap * tanh(score / cap); 0 for none
  const void* mask = nullptr;   // boolean, broadcast to [L, T]; true attends
  const void* sinks = nullptr;  // [H]: scores without a value
};
void* attention(const void* q, const void* k, const void* v, const AttentionOptions& options, const void* stream);

// The same over keys and values in affine codes, [B, K, T, ..] each, without a mask, for few queries: null above 128
// rows of queries times heads that share a head of keys.
struct PackedArray {
  const void *codes, *scales, *biases;
};
void* packed_attention(const void* q, const PackedArray& k, const PackedArray& v, int group_size, int bits,
                       const AttentionOptions& options, const void* stream);

// One new position of one sequence: heads of q and k are normed and rotated, k and v are written to the buffers `keys`
// and `values` [1, K, C, D] at position `at`, and q attends to what they hold from `first` on. q [.., H D], k and v
// [.., K D]; gives y [.., H E] and the buffers. The buffers are written in place: nobody else may look at them from
// `at` on.
struct CachedAttention {
  const void *q_norm = nullptr, *k_norm = nullptr;  // weights [D]
  std::optional<float> norm_eps{};                  // without it, no norm
  int dims = 0;                                     // that are rotated
  bool traditional = false;
  std::optional<float> base{};
  const void* freqs = nullptr;
  float rope_scale = 1;
  int position = 0;
  float scale = 1, soft_cap = 0;
  const void* sinks = nullptr;
  int at = 0, first = 0;
};
std::array<void*, 3> cached_attention(const void* q, const void* k, const void* v, const void* keys, const void* values,
                                      const CachedAttention& options, const void* stream);

// --- recurrences
// ---------------------------------------------------------------------------------------------------------

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
