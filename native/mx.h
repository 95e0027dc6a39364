// Owning arrays and throwing operations over mlx-c. The files mx* are the only ones that know mlx-c exists.
//
// Every function builds or evaluates on the calling thread's stream, which `Thread` sets up: from MLX 0.32 on a
// stream belongs to the thread that made it, so arrays are made, evaluated and freed on the engine thread alone.
// A failing call throws EngineError `internal_error` / `mlx_error` with MLX's own text.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mlxk::mx {

enum class Type { boolean, u8, u16, u32, u64, i8, i16, i32, i64, f16, f32, f64, bf16, complex64 };

const char* type_name(Type type);
float lowest(Type type);  // the most negative finite value of a floating-point type

enum class Device { cpu, gpu };

// The GPU where this build's back end has one that works, the CPU elsewhere.
Device default_device();
std::string mlx_version();
// Instruction set and number of threads of our CPU kernels (kernels/kernels.h). The getters throw EngineError
// `validation_error` where an environment variable asks for what cannot be.
std::string cpu_isa();
int cpu_threads();
void set_cpu_threads(int count);

// Claims the calling thread for MLX: its stream, its random state, its error text. One instance in the life of a
// thread: MLX gives it no second stream.
class Thread {
 public:
  explicit Thread(Device device);
  ~Thread();  // waits for the stream and gives it back
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
};

// A handle to an immutable, lazily computed array. Copying shares; it never copies data.
class Array {
 public:
  Array() = default;
  Array(const Array& other);
  Array(Array&& other) noexcept : ctx_(std::exchange(other.ctx_, nullptr)) {}
  Array& operator=(Array other) noexcept {
    std::swap(ctx_, other.ctx_);
    return *this;
  }
  ~Array();

  explicit operator bool() const { return ctx_ != nullptr; }

  int ndim() const;
  int dim(int axis) const;  // negative counts from the end
  std::vector<int> shape() const;
  size_t size() const;
  size_t nbytes() const;
  Type dtype() const;

  // Evaluated data; the type must match exactly, because mlx-c reinterprets and never converts.
  std::span<const float> f32() const;
  std::span<const uint32_t> u32() const;
  // Of any type, row after row; the array must be contiguous.
  std::span<const std::byte> bytes() const;

  // For the files mx* alone.
  void* ctx() const { return ctx_; }
  static Array adopt(void* ctx);

 private:
  void* ctx_ = nullptr;
};

using Shape = std::vector<int>;

// --- making arrays -------------------------------------------------------------------------------------------------

// Takes over `data` (freed by `release`, on whichever thread drops the last reference). No copy where the device
// can read host memory.
Array from_memory(void* data, const Shape& shape, Type type, void (*release)(void*));
Array from_ids(std::span<const uint32_t> ids, const Shape& shape);
Array from_ints(std::span<const int32_t> values, const Shape& shape);
Array from_floats(std::span<const float> values, const Shape& shape);
// A 0-d constant of `type`. MLX's scalars are strong: one of another type would promote its operand.
Array scalar(float value, Type type);
Array zeros(const Shape& shape, Type type);
Array arange(int start, int stop, Type type);

// --- shape ---------------------------------------------------------------------------------------------------------

Array reshape(const Array& a, const Shape& shape);
Array swapaxes(const Array& a, int axis1, int axis2);
Array transpose(const Array& a, const std::vector<int>& axes);
Array transpose(const Array& a);  // reverses the axes
Array expand_dims(const Array& a, int axis);
Array slice(const Array& a, int axis, int start, int stop);
// `a` with `update` written at [start, start + update.dim(axis)) of `axis`; in place when `a` has no other owner.
Array slice_update(const Array& a, const Array& update, int axis, int start);
// [begin, end) of `axis` at the front of an array with room for `size` there; what is behind it is not to be read.
Array with_room(const Array& a, int axis, int begin, int end, int size);
std::vector<Array> split(const Array& a, int parts, int axis);
std::vector<Array> split_at(const Array& a, std::span<const int> indices, int axis);
Array concatenate(const std::vector<Array>& parts, int axis);
Array stack(const std::vector<Array>& parts, int axis);
Array repeat(const Array& a, int times, int axis);  // each element `times` times in a row
Array broadcast_to(const Array& a, const Shape& shape);
Array tril(const Array& a, int diagonal);  // zeros above the diagonal of the last two axes
// The same bytes read as another type; the last axis grows or shrinks with the size.
Array view(const Array& a, Type type);
Array astype(const Array& a, Type type);
Array from_fp8(const Array& codes, Type type);  // bytes of float8 (E4M3) to numbers
Array contiguous(const Array& a);

// --- indexing ------------------------------------------------------------------------------------------------------

Array take(const Array& a, const Array& indices, int axis);
Array take_along(const Array& a, const Array& indices, int axis);
Array put_along(const Array& a, const Array& indices, const Array& values, int axis);

// --- arithmetic ----------------------------------------------------------------------------------------------------

Array operator+(const Array& a, const Array& b);
Array operator-(const Array& a, const Array& b);
Array operator*(const Array& a, const Array& b);
Array operator/(const Array& a, const Array& b);
Array operator-(const Array& a);
Array operator*(const Array& a, float b);  // b in a's type
Array operator+(const Array& a, float b);
Array less(const Array& a, const Array& b);
Array less_equal(const Array& a, const Array& b);
Array greater_equal(const Array& a, const Array& b);
Array logical_and(const Array& a, const Array& b);
Array maximum(const Array& a, const Array& b);
Array minimum(const Array& a, const Array& b);
Array floor_divide(const Array& a, const Array& b);
Array where(const Array& condition, const Array& a, const Array& b);
Array exp(const Array& a);
Array expm1(const Array& a);
Array log(const Array& a);
Array abs(const Array& a);
Array square(const Array& a);
Array sqrt(const Array& a);
Array rsqrt(const Array& a);
Array floor(const Array& a);
Array round(const Array& a);     // halves to even
Array softplus(const Array& a);  // log(1 + e^a)
Array clip(const Array& a, float low, float high);
Array sigmoid(const Array& a);
Array tanh(const Array& a);
Array erf(const Array& a);
Array sum(const Array& a, int axis, bool keepdims);
Array mean(const Array& a, int axis, bool keepdims);
Array max(const Array& a, int axis, bool keepdims);
Array softmax(const Array& a, int axis);  // computed in float32, in the type of `a`
Array logsumexp(const Array& a, int axis, bool keepdims);
Array cumsum(const Array& a, int axis, bool reverse, bool inclusive);
Array argmax(const Array& a, int axis);
Array argpartition(const Array& a, int kth, int axis);
Array argsort(const Array& a, int axis);
Array sort(const Array& a, int axis);

// --- matrices ------------------------------------------------------------------------------------------------------

Array matmul(const Array& a, const Array& b);
// x [.., I] times the transpose of w [O, I], and added to c.
Array linear(const Array& x, const Array& w);
Array linear(const Array& x, const Array& w, const Array& c);
// Whether rows of float32 meet matrices of 16 bits as these are here, not as a copy of them in float32.
bool multiplies_mixed_types();

// Parameters of a quantized matrix: `mode` is MLX's name (affine, mxfp4, mxfp8, nvfp4).
struct QuantizedShape {
  int group_size;
  int bits;
  std::string mode;
};

// A matrix [O, I] of somebody else: dense, or packed as `quantized` says.
struct MatrixView {
  const Array* weight;
  const Array *scales = nullptr, *biases = nullptr;
  const QuantizedShape* quantized = nullptr;
};
// x [.., I] times the transpose of each of them; in one primitive where this device has one for it.
std::vector<Array> linears(const Array& x, const std::vector<MatrixView>& matrices);
// x [B, H or 1, L, I] times the transpose of each of the matrices [H, O, I].
Array stacked_linear(const Array& x, const MatrixView& matrices);

// x @ dequantize(w)^T; `biases` is empty for the floating-point modes.
Array quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                       const QuantizedShape& q);
// The same by MLX's own kernel on every device; what ours are compared with.
Array stock_quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                             const QuantizedShape& q);
// x @ dequantize(w), w [.., I, O] packed along O.
Array quantized_matmul_plain(const Array& x, const Array& w, const Array& scales, const Array& biases,
                             const QuantizedShape& q);
Array dequantize(const Array& w, const Array& scales, const Array& biases, const QuantizedShape& q, Type type);

struct Quantized {
  Array weight, scales, biases;  // biases are empty for the floating-point modes
};
Quantized quantize(const Array& w, const QuantizedShape& q);

// Matrices chosen by index: x [.., 1, I] times the transpose of w[indices], w [E, O, I], indices uint32 of the leading
// shape that x broadcasts to. `sorted`: the indices ascend.
// `bias` [E, O], which may be empty: bias[indices] is added.
Array gather_linear(const Array& x, const Array& w, const Array& indices, bool sorted, const Array& bias = {});
Array gather_quantized_linear(const Array& x, const Array& w, const Array& scales, const Array& biases,
                              const Array& indices, const QuantizedShape& q, bool sorted, const Array& bias = {});
// The sum of y [N, k, 1, O] over k by weights [N, k], in the type of y: [N, O].
Array weighted_sum(const Array& y, const Array& weights);

// x [B, L, C] convolved along L with weight [C, K, 1], a filter of its own for every channel, no padding: [B, L - K +
// 1, C].
Array depthwise_conv(const Array& x, const Array& weight);

// --- fused ---------------------------------------------------------------------------------------------------------

Array rms_norm(const Array& x, const Array& weight, float eps);                       // an empty weight is all ones
Array layer_norm(const Array& x, const Array& weight, const Array& bias, float eps);  // either may be empty
Array swiglu(const Array& gate, const Array& up);                                     // silu(gate) * up
// gelu(gate) * up where this device has a kernel for it, an empty array elsewhere; `tanh`: its approximation.
Array fused_geglu(const Array& gate, const Array& up, bool tanh);
// gpt-oss's gate: of both held within 7, (up + 1) * gate * sigmoid(1.702 gate); the gate only from above.
Array fused_clipped_silu(const Array& gate, const Array& up);

struct RopeParameters {
  int dims = 0;
  bool traditional = false;
  std::optional<float> base;  // exactly one of base and freqs
  Array freqs;
  float scale = 1.0f;
};
Array rope(const Array& x, const RopeParameters& p, int offset);
Array rope(const Array& x, const RopeParameters& p, const Array& offsets);  // one offset a batch row, int32 [B]

enum class Mask { none, causal, array };
// Softmax(scale q k^T + mask) v. q [B, H, L, D], k and v [B, K, T, D] with K dividing H; a mask array is boolean, true
// attends; one of floating-point type is added to the scores. Causal is aligned to the lower right. `sinks` [H], which
// may be empty, are scores without values that join every softmax.
Array attention(const Array& q, const Array& k, const Array& v, float scale, Mask mode, const Array& mask,
                const Array& sinks = {});

// The same, causal, in one primitive of ours, or an empty array where this device has none. `window` > 0: each query
// sees so many keys; `soft_cap` > 0: scores become soft_cap * tanh(score / soft_cap).
Array fused_causal_attention(const Array& q, const Array& k, const Array& v, float scale, int window, float soft_cap,
                             const Array& sinks);

// Keys [1, K, T, D] and values [1, K, T, E] packed along their last axis.
struct PackedKeysValues {
  Quantized keys, values;
  QuantizedShape shape;
};
// The same over packed keys and values, read as they lie, for the few queries of a decoding step; an empty array for
// many queries too.
Array fused_packed_attention(const Array& q, const PackedKeysValues& kv, float scale, float soft_cap,
                             const Array& sinks);

// One new position of one sequence through norm, rotation, cache and attention, in one primitive of ours, or nothing
// where this device has none: kernels/kernels.h tells what it does. q [1, 1, H D], k and v [1, 1, K D], buffers
// [1, K, C, D], which are written in place at `at`.
struct CachedAttention {
  std::optional<float> norm_eps{};  // of the heads of q and k; without it they are not normed
  Array q_norm{}, k_norm{};         // weights [D]; empty ones are all ones
  RopeParameters rope{};            // dims 0 rotates nothing
  int position = 0;
  float scale = 1, soft_cap = 0;
  Array sinks{};
  int at = 0, first = 0;  // where k and v go, and what is looked at from
};
struct Attended {
  Array y, keys, values;  // [1, 1, H E], and the buffers
};
std::optional<Attended> fused_cached_attention(const Array& q, const Array& k, const Array& v, const Array& keys,
                                               const Array& values, const CachedAttention& options);

// Ids [B] of the largest scores of [B, V] and their log-probabilities, float32, where this device has a kernel for it.
std::optional<std::pair<Array, Array>> fused_greedy(const Array& scores);

// Id [1] drawn from scores [1, V] by `key` and its log-probability [1], float32, where this device has a kernel for it:
// what sampler.cpp composes else. Filters that are off: top_p of 0 or 1, top_k and min_p of 0.
struct SamplingFilters {
  float temperature, top_p, min_p;
  int top_k;
};
std::optional<std::pair<Array, Array>> fused_sample(const Array& scores, const Array& key,
                                                    const SamplingFilters& filters);

// Recurrences in one primitive where this device has a kernel for them, nothing elsewhere; recurrence.h tells the
// shapes. The result y has the type of the first argument.
std::optional<std::pair<Array, Array>> fused_gated_delta(const Array& q, const Array& k, const Array& v, const Array& g,
                                                         const Array& beta, const Array& state);
std::optional<std::pair<Array, Array>> fused_state_space(const Array& x, const Array& a, const Array& b, const Array& c,
                                                         const Array& d, const Array& dt, const Array& state);
std::optional<std::pair<Array, Array>> fused_selective_scan(const Array& x, const Array& a, const Array& b,
                                                            const Array& c, const Array& d, const Array& dt,
                                                            const Array& state);
std::optional<std::pair<Array, Array>> fused_wkv7(const Array& r, const Array& w, const Array& k, const Array& v,
                                                  const Array& a, const Array& b, const Array& state);

// Wraps an elementwise function so that the GPU runs it as one kernel. On the CPU it is the function itself: MLX's
// CPU compiler calls a C++ compiler at run time.
using Elementwise = std::function<Array(const Array&, const Array&)>;
Elementwise fuse(Array (*function)(const Array&, const Array&));
using Unary = std::function<Array(const Array&)>;
Unary fuse(Array (*function)(const Array&));

// --- random --------------------------------------------------------------------------------------------------------

Array random_key(uint64_t seed);
std::pair<Array, Array> random_split(const Array& key);
// Ids [B] drawn from softmax(logits), logits [B, V].
Array categorical(const Array& logits, const Array& key);

// --- evaluation and memory -----------------------------------------------------------------------------------------

void eval(const std::vector<Array>& arrays);
void async_eval(const std::vector<Array>& arrays);
void synchronize();
void clear_cache();
size_t active_memory();
size_t peak_memory();

// Bytes that the operations asked for on this thread take once they are computed. Views of other arrays and updates in
// place take none.
struct Work {
  uint64_t results = 0;  // all results together
  uint64_t largest = 0;  // of any one operation: its result, and what it needs besides
};
// Since the last call.
Work take_work();

// Total bytes MLX may hold before it waits, and of those the ones it may keep for reuse.
void set_memory_limit(size_t bytes);
void set_cache_limit(size_t bytes);
// Lets the GPU keep its recommended working set resident, as far as the system allows it; no effect elsewhere.
void wire_recommended_memory();
// Bytes the GPU recommends to keep in use, or 0 where the back end does not say.
size_t recommended_working_set();

}  // namespace mlxk::mx

namespace mlxk {
using mx::Array;
}
