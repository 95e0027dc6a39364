// See mx.h: threads, arrays, and the operations that are MLX's own on every device. Thread: every function but
// `release` callbacks runs on a thread that holds an mx::Thread.

#include "mx.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <type_traits>

#ifdef __APPLE__
#include <dlfcn.h>

#include <filesystem>
#endif

#include "error.h"
#include "mx_call.h"

namespace mlxk::mx {

constinit thread_local mlx_stream stream{nullptr};

namespace {

thread_local std::string last_error;
thread_local bool compile_elementwise = false;
thread_local Work work;

void remember_error(const char* message, void*) { last_error = message; }

// mlx-c's own handler prints and ends the process, so ours goes in before the first call that can fail.
void install_error_handler() {
  static std::once_flag once;
  std::call_once(once, [] { mlx_set_error_handler(remember_error, nullptr, nullptr); });
}

// The wheel's kernels lie beside the addon, wherever that was installed to.
void find_metallib() {
#ifdef __APPLE__
  Dl_info self{};
  if (dladdr(reinterpret_cast<const void*>(&find_metallib), &self) == 0 || self.dli_fname == nullptr) return;
  const auto file = std::filesystem::path(self.dli_fname).parent_path() / "mlx.metallib";
  std::error_code missing;
  if (std::filesystem::exists(file, missing)) mlx_metal_set_metallib_path(file.c_str());
#endif
}

class Vector {
 public:
  explicit Vector(const std::vector<Array>& arrays) : vector_(mlx_vector_array_new()) {
    for (const Array& a : arrays) {
      if (mlx_vector_array_append_value(vector_, raw(a)) != 0) {
        mlx_vector_array_free(vector_);
        raise();
      }
    }
  }
  ~Vector() { mlx_vector_array_free(vector_); }
  Vector(const Vector&) = delete;
  Vector& operator=(const Vector&) = delete;
  mlx_vector_array get() const { return vector_; }

 private:
  mlx_vector_array vector_;
};

std::vector<Array> unpack(mlx_vector_array vector, int status) {
  std::vector<Array> arrays;
  const size_t n = status == 0 ? mlx_vector_array_size(vector) : 0;
  for (size_t i = 0; i < n && status == 0; ++i) {
    mlx_array element{nullptr};
    status = mlx_vector_array_get(&element, vector, i);
    arrays.push_back(Array::adopt(element.ctx));
  }
  mlx_vector_array_free(vector);
  check(status);
  return arrays;
}

Type from_c(mlx_dtype type) {
  switch (type) {
    case MLX_BOOL: return Type::boolean;
    case MLX_UINT8: return Type::u8;
    case MLX_UINT16: return Type::u16;
    case MLX_UINT32: return Type::u32;
    case MLX_UINT64: return Type::u64;
    case MLX_INT8: return Type::i8;
    case MLX_INT16: return Type::i16;
    case MLX_INT32: return Type::i32;
    case MLX_INT64: return Type::i64;
    case MLX_FLOAT16: return Type::f16;
    case MLX_FLOAT32: return Type::f32;
    case MLX_FLOAT64: return Type::f64;
    case MLX_BFLOAT16: return Type::bf16;
    case MLX_COMPLEX64: return Type::complex64;
  }
  throw EngineError("internal_error", "mlx_error", "unknown array type");
}

}  // namespace

void raise() {
  std::string message = std::exchange(last_error, {});
  // mlx-c appends the path of the machine that built it.
  if (auto at = message.rfind(" at "); at != std::string::npos) message.resize(at);
  throw EngineError("internal_error", "mlx_error", "MLX: " + (message.empty() ? "unknown failure" : message));
}

Array counted(Array a, uint64_t besides) {
  const uint64_t bytes = a ? a.nbytes() : 0;
  work.results += bytes;
  work.largest = std::max(work.largest, bytes + besides);
  return a;
}

mlx_dtype to_c(Type type) {
  switch (type) {
    case Type::boolean: return MLX_BOOL;
    case Type::u8: return MLX_UINT8;
    case Type::u16: return MLX_UINT16;
    case Type::u32: return MLX_UINT32;
    case Type::u64: return MLX_UINT64;
    case Type::i8: return MLX_INT8;
    case Type::i16: return MLX_INT16;
    case Type::i32: return MLX_INT32;
    case Type::i64: return MLX_INT64;
    case Type::f16: return MLX_FLOAT16;
    case Type::f32: return MLX_FLOAT32;
    case Type::f64: return MLX_FLOAT64;
    case Type::bf16: return MLX_BFLOAT16;
    case Type::complex64: return MLX_COMPLEX64;
  }
  throw EngineError("internal_error", "mlx_error", "unknown array type");
}

const char* type_name(Type type) {
  switch (type) {
    case Type::boolean: return "bool";
    case Type::u8: return "uint8";
    case Type::u16: return "uint16";
    case Type::u32: return "uint32";
    case Type::u64: return "uint64";
    case Type::i8: return "int8";
    case Type::i16: return "int16";
    case Type::i32: return "int32";
    case Type::i64: return "int64";
    case Type::f16: return "float16";
    case Type::f32: return "float32";
    case Type::f64: return "float64";
    case Type::bf16: return "bfloat16";
    case Type::complex64: return "complex64";
  }
  return "unknown";
}

float lowest(Type type) {
  if (type == Type::f16) return -65504.0f;
  if (type == Type::bf16) return -0x1.fep127f;
  return std::numeric_limits<float>::lowest();
}

Device default_device() {
  install_error_handler();
  static const Device device = [] {
    find_metallib();
    const mlx_device gpu = mlx_device_new_type(MLX_GPU, 0);
    bool available = false;
    const bool ok = mlx_device_is_available(&available, gpu) == 0 && available;
    mlx_device_free(gpu);
    return ok ? Device::gpu : Device::cpu;
  }();
  return device;
}

std::string mlx_version() {
  mlx_string text = mlx_string_new();
  const int status = ::mlx_version(&text);
  std::string version = status == 0 ? mlx_string_data(text) : "";
  mlx_string_free(text);
  return version;
}

Thread::Thread(Device device) {
  install_error_handler();
  const mlx_device chosen = mlx_device_new_type(device == Device::gpu ? MLX_GPU : MLX_CPU, 0);
  const int status = mlx_set_default_device(chosen);
  mlx_device_free(chosen);
  check(status);
  stream = device == Device::gpu ? mlx_default_gpu_stream_new() : mlx_default_cpu_stream_new();
  compile_elementwise = device == Device::gpu;
  if (!compile_elementwise) mlx_disable_compile();
}

Thread::~Thread() {
  mlx_synchronize(stream);
  mlx_clear_cache();
  mlx_stream_free(std::exchange(stream, mlx_stream{nullptr}));
  mlx_clear_streams();
}

Array Array::adopt(void* ctx) {
  Array a;
  a.ctx_ = ctx;
  return a;
}

Array::Array(const Array& other) {
  if (other.ctx_ == nullptr) return;
  mlx_array copy{nullptr};
  check(mlx_array_set(&copy, raw(other)));
  ctx_ = copy.ctx;
}

Array::~Array() {
  if (ctx_ != nullptr) mlx_array_free(mlx_array{ctx_});
}

int Array::ndim() const { return static_cast<int>(mlx_array_ndim(raw(*this))); }

int Array::dim(int axis) const {
  const int n = ndim();
  const int at = axis < 0 ? axis + n : axis;
  if (at < 0 || at >= n) throw EngineError("internal_error", "mlx_error", "no such axis");
  return mlx_array_shape(raw(*this))[at];
}

std::vector<int> Array::shape() const {
  const int n = ndim();
  if (n == 0) return {};
  const int* dims = mlx_array_shape(raw(*this));
  return {dims, dims + n};
}

size_t Array::size() const { return mlx_array_size(raw(*this)); }
size_t Array::nbytes() const { return mlx_array_nbytes(raw(*this)); }
Type Array::dtype() const { return from_c(mlx_array_dtype(raw(*this))); }

std::span<const float> Array::f32() const {
  if (dtype() != Type::f32) throw EngineError("internal_error", "mlx_error", "array is not float32");
  const float* data = mlx_array_data_float32(raw(*this));
  if (data == nullptr) raise();
  return {data, size()};
}

std::span<const uint32_t> Array::u32() const {
  if (dtype() != Type::u32) throw EngineError("internal_error", "mlx_error", "array is not uint32");
  const uint32_t* data = mlx_array_data_uint32(raw(*this));
  if (data == nullptr) raise();
  return {data, size()};
}

std::span<const std::byte> Array::bytes() const {
  const uint8_t* data = mlx_array_data_uint8(raw(*this));
  if (data == nullptr) raise();
  return {reinterpret_cast<const std::byte*>(data), nbytes()};
}

Array from_memory(void* data, const Shape& shape, Type type, void (*release)(void*)) {
  Array a = Array::adopt(
      mlx_array_new_data_managed(data, shape.data(), static_cast<int>(shape.size()), to_c(type), release).ctx);
  if (!a) raise();
  return a;
}

namespace {
Array copy_of(const void* data, const Shape& shape, mlx_dtype type) {
  Array a = Array::adopt(mlx_array_new_data(data, shape.data(), static_cast<int>(shape.size()), type).ctx);
  if (!a) raise();
  return a;
}
}  // namespace

Array from_ids(std::span<const uint32_t> ids, const Shape& shape) { return copy_of(ids.data(), shape, MLX_UINT32); }
Array from_ints(std::span<const int32_t> values, const Shape& shape) {
  return copy_of(values.data(), shape, MLX_INT32);
}
Array from_floats(std::span<const float> values, const Shape& shape) {
  return copy_of(values.data(), shape, MLX_FLOAT32);
}

Array scalar(float value, Type type) {
  Array a = Array::adopt(mlx_array_new_float32(value).ctx);
  return type == Type::f32 ? a : astype(a, type);
}

Array zeros(const Shape& shape, Type type) { return call(mlx_zeros, shape.data(), shape.size(), to_c(type)); }
Array arange(int start, int stop, Type type) {
  return call(mlx_arange, static_cast<double>(start), static_cast<double>(stop), 1.0, to_c(type));
}

Array reshape(const Array& a, const Shape& shape) { return call_view(mlx_reshape, raw(a), shape.data(), shape.size()); }
Array swapaxes(const Array& a, int axis1, int axis2) { return call_view(mlx_swapaxes, raw(a), axis1, axis2); }
Array transpose(const Array& a) { return call_view(mlx_transpose, raw(a)); }
Array transpose(const Array& a, const std::vector<int>& axes) {
  return call_view(mlx_transpose_axes, raw(a), axes.data(), axes.size());
}
Array expand_dims(const Array& a, int axis) { return call_view(mlx_expand_dims, raw(a), axis); }

Array slice(const Array& a, int axis, int start, int stop) {
  const Bounds b(a, axis, start, stop);
  return call_view(mlx_slice, raw(a), b.start.data(), b.start.size(), b.stop.data(), b.stop.size(), b.strides.data(),
                   b.strides.size());
}

std::vector<Array> split(const Array& a, int parts, int axis) {
  mlx_vector_array result = mlx_vector_array_new();
  const int status = mlx_split(&result, raw(a), parts, axis, stream);
  return unpack(result, status);
}

std::vector<Array> split_at(const Array& a, std::span<const int> indices, int axis) {
  mlx_vector_array result = mlx_vector_array_new();
  const int status = mlx_split_sections(&result, raw(a), indices.data(), indices.size(), axis, stream);
  return unpack(result, status);
}

Array concatenate(const std::vector<Array>& parts, int axis) {
  const Vector vector(parts);
  return call(mlx_concatenate_axis, vector.get(), axis);
}

Array stack(const std::vector<Array>& parts, int axis) {
  const Vector vector(parts);
  return call(mlx_stack_axis, vector.get(), axis);
}
Array repeat(const Array& a, int times, int axis) { return call(mlx_repeat_axis, raw(a), times, axis); }
Array broadcast_to(const Array& a, const Shape& shape) {
  return call_view(mlx_broadcast_to, raw(a), shape.data(), shape.size());
}
Array tril(const Array& a, int diagonal) { return call(mlx_tril, raw(a), diagonal); }
Array view(const Array& a, Type type) { return call_view(mlx_view, raw(a), to_c(type)); }

Array astype(const Array& a, Type type) { return a.dtype() == type ? a : call(mlx_astype, raw(a), to_c(type)); }
Array from_fp8(const Array& codes, Type type) { return call(mlx_from_fp8, raw(codes), to_c(type)); }
Array contiguous(const Array& a) { return call(mlx_contiguous, raw(a), false); }

Array take(const Array& a, const Array& indices, int axis) { return call(mlx_take_axis, raw(a), raw(indices), axis); }
Array take_along(const Array& a, const Array& indices, int axis) {
  return call(mlx_take_along_axis, raw(a), raw(indices), axis);
}
Array put_along(const Array& a, const Array& indices, const Array& values, int axis) {
  return call(mlx_put_along_axis, raw(a), raw(indices), raw(values), axis);
}

Array operator-(const Array& a, const Array& b) { return call(mlx_subtract, raw(a), raw(b)); }
Array operator*(const Array& a, const Array& b) { return call(mlx_multiply, raw(a), raw(b)); }
Array operator/(const Array& a, const Array& b) { return call(mlx_divide, raw(a), raw(b)); }
Array operator-(const Array& a) { return call(mlx_negative, raw(a)); }
Array operator*(const Array& a, float b) { return a * scalar(b, a.dtype()); }
Array operator+(const Array& a, float b) { return a + scalar(b, a.dtype()); }
Array less(const Array& a, const Array& b) { return call(mlx_less, raw(a), raw(b)); }
Array less_equal(const Array& a, const Array& b) { return call(mlx_less_equal, raw(a), raw(b)); }
Array greater_equal(const Array& a, const Array& b) { return call(mlx_greater_equal, raw(a), raw(b)); }
Array logical_and(const Array& a, const Array& b) { return call(mlx_logical_and, raw(a), raw(b)); }
Array maximum(const Array& a, const Array& b) { return call(mlx_maximum, raw(a), raw(b)); }
Array minimum(const Array& a, const Array& b) { return call(mlx_minimum, raw(a), raw(b)); }
Array floor_divide(const Array& a, const Array& b) { return call(mlx_floor_divide, raw(a), raw(b)); }
Array where(const Array& condition, const Array& a, const Array& b) {
  return call(mlx_where, raw(condition), raw(a), raw(b));
}
Array clip(const Array& a, float low, float high) {
  const Array least = scalar(low, a.dtype()), most = scalar(high, a.dtype());
  return call(mlx_clip, raw(a), raw(least), raw(most));
}
Array exp(const Array& a) { return call(mlx_exp, raw(a)); }
Array expm1(const Array& a) { return call(mlx_expm1, raw(a)); }
Array log(const Array& a) { return call(mlx_log, raw(a)); }
Array abs(const Array& a) { return call(mlx_abs, raw(a)); }
Array square(const Array& a) { return call(mlx_square, raw(a)); }
Array sqrt(const Array& a) { return call(mlx_sqrt, raw(a)); }
Array rsqrt(const Array& a) { return call(mlx_rsqrt, raw(a)); }
Array floor(const Array& a) { return call(mlx_floor, raw(a)); }
Array round(const Array& a) { return call(mlx_round, raw(a), 0); }
Array softplus(const Array& a) {
  const Array zero = scalar(0, a.dtype());
  return call(mlx_logaddexp, raw(a), raw(zero));
}
Array sigmoid(const Array& a) { return call(mlx_sigmoid, raw(a)); }
Array tanh(const Array& a) { return call(mlx_tanh, raw(a)); }
Array erf(const Array& a) { return call(mlx_erf, raw(a)); }
Array sum(const Array& a, int axis, bool keepdims) { return call(mlx_sum_axis, raw(a), axis, keepdims); }
Array mean(const Array& a, int axis, bool keepdims) { return call(mlx_mean_axis, raw(a), axis, keepdims); }
Array max(const Array& a, int axis, bool keepdims) { return call(mlx_max_axis, raw(a), axis, keepdims); }
Array cumsum(const Array& a, int axis, bool reverse, bool inclusive) {
  return call(mlx_cumsum_axis, raw(a), axis, reverse, inclusive, mlx_optional_dtype{MLX_FLOAT32, false});
}
Array argpartition(const Array& a, int kth, int axis) { return call(mlx_argpartition_axis, raw(a), kth, axis); }
Array argsort(const Array& a, int axis) { return call(mlx_argsort_axis, raw(a), axis); }
Array sort(const Array& a, int axis) { return call(mlx_sort_axis, raw(a), axis); }

Array matmul(const Array& a, const Array& b) { return call(mlx_matmul, raw(a), raw(b)); }

Array stock_quantized_matmul(const Array& x, const Array& w, const Array& scales, const Array& biases,
                             const QuantizedShape& q) {
  return call(mlx_quantized_matmul, raw(x), raw(w), raw(scales), raw(biases), true,
              mlx_optional_int{q.group_size, true}, mlx_optional_int{q.bits, true}, q.mode.c_str());
}

Array quantized_matmul_plain(const Array& x, const Array& w, const Array& scales, const Array& biases,
                             const QuantizedShape& q) {
  return call(mlx_quantized_matmul, raw(x), raw(w), raw(scales), raw(biases), false,
              mlx_optional_int{q.group_size, true}, mlx_optional_int{q.bits, true}, q.mode.c_str());
}

Array depthwise_conv(const Array& x, const Array& weight) {
  return call(mlx_conv1d, raw(x), raw(weight), 1, 0, 1, x.dim(2));
}

Array dequantize(const Array& w, const Array& scales, const Array& biases, const QuantizedShape& q, Type type) {
  return call(mlx_dequantize, raw(w), raw(scales), raw(biases), mlx_optional_int{q.group_size, true},
              mlx_optional_int{q.bits, true}, q.mode.c_str(), mlx_array{nullptr}, mlx_optional_dtype{to_c(type), true});
}

Quantized quantize(const Array& w, const QuantizedShape& q) {
  mlx_vector_array result = mlx_vector_array_new();
  const int status = mlx_quantize(&result, raw(w), mlx_optional_int{q.group_size, true}, mlx_optional_int{q.bits, true},
                                  q.mode.c_str(), mlx_array{nullptr}, stream);
  const std::vector<Array> parts = unpack(result, status);
  return {parts.at(0), parts.at(1), parts.size() > 2 ? parts[2] : Array()};
}

namespace {

template <class Function>
Array call_with(Function function, const std::vector<Array>& inputs) {
  if constexpr (std::is_invocable_v<Function, const Array&>) {
    return function(inputs.at(0));
  } else {
    return function(inputs.at(0), inputs.at(1));
  }
}

// `function` traced once and run as one kernel from then on.
template <class Function>
std::function<Array(const std::vector<Array>&)> compiled(Function function) {
  auto body = [](mlx_vector_array* out, const mlx_vector_array in, void* payload) -> int {
    try {
      std::vector<Array> inputs;
      for (size_t i = 0; i < mlx_vector_array_size(in); ++i) {
        mlx_array input{nullptr};
        if (mlx_vector_array_get(&input, in, i) != 0) return 1;
        inputs.push_back(Array::adopt(input.ctx));
      }
      return mlx_vector_array_set_value(out, raw(call_with(*static_cast<Function*>(payload), inputs)));
    } catch (const std::exception& e) {
      last_error = e.what();
      return 1;
    }
  };
  const mlx_closure traced = mlx_closure_new_func_payload(
      body, new Function(function), [](void* payload) { delete static_cast<Function*>(payload); });
  mlx_closure closure = mlx_closure_new();
  const int status = mlx_compile(&closure, traced, true);
  mlx_closure_free(traced);
  const auto owned = std::shared_ptr<void>(closure.ctx, [](void* ctx) { mlx_closure_free(mlx_closure{ctx}); });
  check(status);
  return [owned](const std::vector<Array>& arrays) {
    const Vector inputs(arrays);
    mlx_vector_array outputs = mlx_vector_array_new();
    const int applied = mlx_closure_apply(&outputs, mlx_closure{owned.get()}, inputs.get());
    return counted(unpack(outputs, applied).at(0));
  };
}

}  // namespace

Elementwise fuse(Array (*function)(const Array&, const Array&)) {
  if (!compile_elementwise) return function;
  return [run = compiled(function)](const Array& a, const Array& b) { return run({a, b}); };
}

Unary fuse(Array (*function)(const Array&)) {
  if (!compile_elementwise) return function;
  return [run = compiled(function)](const Array& a) { return run({a}); };
}

Array random_key(uint64_t seed) {
  mlx_array key{nullptr};
  const int status = mlx_random_key(&key, seed);
  Array owned = Array::adopt(key.ctx);
  check(status);
  return owned;
}

std::pair<Array, Array> random_split(const Array& key) {
  mlx_array first{nullptr}, second{nullptr};
  const int status = mlx_random_split(&first, &second, raw(key), stream);
  std::pair<Array, Array> keys{Array::adopt(first.ctx), Array::adopt(second.ctx)};
  check(status);
  return keys;
}

Array categorical(const Array& logits, const Array& key) {
  return call(mlx_random_categorical, raw(logits), -1, raw(key));
}

void eval(const std::vector<Array>& arrays) {
  const Vector vector(arrays);
  check(mlx_eval(vector.get()));
}

void async_eval(const std::vector<Array>& arrays) {
  const Vector vector(arrays);
  check(mlx_async_eval(vector.get()));
}

void synchronize() { check(mlx_synchronize(stream)); }
void clear_cache() { check(mlx_clear_cache()); }

namespace {
size_t reading(int (*get)(size_t*)) {
  size_t value = 0;
  check(get(&value));
  return value;
}
}  // namespace

size_t active_memory() { return reading(mlx_get_active_memory); }
size_t peak_memory() { return reading(mlx_get_peak_memory); }
Work take_work() { return std::exchange(work, {}); }

void set_memory_limit(size_t bytes) {
  size_t before = 0;
  check(mlx_set_memory_limit(&before, bytes));
}

void set_cache_limit(size_t bytes) {
  size_t before = 0;
  check(mlx_set_cache_limit(&before, bytes));
}

size_t recommended_working_set() {
  if (default_device() != Device::gpu) return 0;
  const mlx_device gpu = mlx_device_new_type(MLX_GPU, 0);
  mlx_device_info info = mlx_device_info_new();
  const char* key = "max_recommended_working_set_size";
  size_t bytes = 0;
  bool known = false;
  if (mlx_device_info_get(&info, gpu) == 0 && mlx_device_info_has_key(&known, info, key) == 0 && known) {
    if (mlx_device_info_get_size(&bytes, info, key) != 0) bytes = 0;
  }
  mlx_device_info_free(info);
  mlx_device_free(gpu);
  return bytes;
}

void wire_recommended_memory() {
  const size_t bytes = recommended_working_set();
  if (bytes == 0) return;
  size_t before = 0;
  check(mlx_set_wired_limit(&before, bytes));
}

}  // namespace mlxk::mx
