// What the CPU kernels have in common: unpacking handles, walking strided arrays, dispatching work to MLX's stream
// thread, and the vector loops. Knows MLX's C++ interface.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

// One function compiled for several instruction sets, chosen when the addon is loaded. Sanitizers are not ready for
// calls that early.
#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MLXK_VECTORIZED \
  __attribute__((target_clones("avx512f", "arch=haswell", "default"), optimize("O3", "fp-contract=fast")))
#else
#define MLXK_VECTORIZED
#endif

namespace mlxk::kernels {

using mlx::core::array;
using mlx::core::bfloat16_t;

inline const array& unwrap(const void* handle) { return *static_cast<const array*>(handle); }

inline mlx::core::Stream stream_of(const void* handle) { return *static_cast<const mlx::core::Stream*>(handle); }

inline bool on_cpu(const void* stream) { return stream_of(stream).device == mlx::core::Device::cpu; }

inline bool has_kernel(const array& a) { return a.dtype() == mlx::core::float32 || a.dtype() == mlx::core::bfloat16; }

// Calls `body` with a value of the array's element type.
template <class Body>
void by_type(const array& a, Body body) {
  if (a.dtype() == mlx::core::float32) {
    body(float{});
  } else {
    body(bfloat16_t{});
  }
}

// The rows (last axis) of an array of any strides.
class Rows {
 public:
  explicit Rows(const array& a)
      : width(a.shape(-1)),
        count(a.size() / static_cast<size_t>(a.shape(-1))),
        shape_(a.shape()),
        strides_(a.strides()) {}

  // Element offset of the first element of row `row`, in row-major order.
  int64_t offset(size_t row) const {
    int64_t at = 0;
    for (size_t axis = shape_.size() - 1; axis-- > 0;) {
      const auto size = static_cast<size_t>(shape_[axis]);
      at += static_cast<int64_t>(row % size) * strides_[axis];
      row /= size;
    }
    return at;
  }
  int64_t step() const { return strides_.back(); }

  // Row `row` of `data` as float32, in `buffer` unless it lies there already.
  template <class T>
  const float* read(const T* data, size_t row, std::vector<float>& buffer) const {
    const T* from = data + offset(row);
    if constexpr (std::is_same_v<T, float>) {
      if (step() == 1) return from;
    }
    buffer.resize(static_cast<size_t>(width));
    for (int i = 0; i < width; ++i) buffer[static_cast<size_t>(i)] = static_cast<float>(from[i * step()]);
    return buffer.data();
  }

  int width;
  size_t count;

 private:
  mlx::core::Shape shape_;
  mlx::core::Strides strides_;
};

// A primitive with one output. `evaluate` runs on the engine thread and dispatches the work: the memory of inputs and
// output stays alive until what was dispatched has run.
class CpuPrimitive : public mlx::core::UnaryPrimitive {
 public:
  CpuPrimitive(mlx::core::Stream stream, const char* name) : UnaryPrimitive(stream), name_(name) {}

  void eval_cpu(const std::vector<array>& inputs, array& output) final {
    output.set_data(mlx::core::allocator::malloc(output.nbytes()));
    dispatch(evaluate(inputs, output));
  }
  void eval_gpu(const std::vector<array>&, array&) final {
    throw std::runtime_error("a CPU kernel was asked to run on the GPU");
  }
  const char* name() const final { return name_; }

 protected:
  // The work, to run on MLX's thread. It may hold pointers to the data of inputs and output.
  virtual std::function<void()> evaluate(const std::vector<array>& inputs, array& output) = 0;

 private:
  void dispatch(std::function<void()> work) { mlx::core::cpu::get_command_encoder(stream()).dispatch(std::move(work)); }

  const char* name_;
};

// The handle of a new array computed by primitive P.
template <class P, class... Args>
void* make(mlx::core::Shape shape, mlx::core::Dtype type, std::vector<array> inputs, const void* stream, Args... args) {
  return new array(std::move(shape), type, std::make_shared<P>(stream_of(stream), args...), std::move(inputs));
}

}  // namespace mlxk::kernels
