// What the CPU kernels have in common: unpacking handles, walking strided arrays, and dispatching work to MLX's stream
// thread. Knows MLX's C++ interface.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/threads.h"
#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

namespace mlxk::kernels {

using mlx::core::array;

inline const array& unwrap(const void* handle) { return *static_cast<const array*>(handle); }

inline mlx::core::Stream stream_of(const void* handle) { return *static_cast<const mlx::core::Stream*>(handle); }

// Whether kernels are wanted on this stream: it is the CPU's, and MLXK_KERNELS does not say off.
bool wanted_on(const void* stream);

inline std::optional<Type> type_of(const array& a) {
  if (a.dtype() == mlx::core::float32) return Type::f32;
  if (a.dtype() == mlx::core::float16) return Type::f16;
  if (a.dtype() == mlx::core::bfloat16) return Type::bf16;
  return std::nullopt;
}
inline bool has_kernel(const array& a) { return type_of(a).has_value() && a.size() > 0 && a.ndim() > 0; }

inline const uint8_t* bytes_of(const array& a) { return a.data<uint8_t>(); }

// Work below this many bytes (or numbers to compute) is not worth waking another thread.
constexpr size_t kSmallWork = 32768;

// Memory of the calling thread for the time of one kernel; `get` again gives the same.
class Scratch {
 public:
  ~Scratch() { std::free(memory_); }
  uint8_t* bytes(int64_t count);
  float* floats(int64_t count) { return reinterpret_cast<float*>(bytes(4 * count)); }

 private:
  void* memory_ = nullptr;
  size_t size_ = 0;
};

// The rows (last axis) of an array of any strides, known by where they lie: the data need not be computed yet.
class Rows {
 public:
  explicit Rows(const array& a)
      : width(a.shape(-1)),
        count(a.size() / static_cast<size_t>(a.shape(-1))),
        item_(static_cast<int64_t>(a.itemsize())),
        data_(bytes_of(a)),
        shape_(a.shape()),
        strides_(a.strides()) {}

  // Offset in numbers of the first one of row `row`, in row-major order.
  int64_t offset(size_t row) const {
    int64_t at = 0;
    for (size_t axis = shape_.size() - 1; axis-- > 0;) {
      const auto size = static_cast<size_t>(shape_[axis]);
      at += static_cast<int64_t>(row % size) * strides_[axis];
      row /= size;
    }
    return at;
  }

  // Row `row` in one piece: where it lies, or copied to `buffer`.
  const uint8_t* read(size_t row, std::vector<uint8_t>& buffer) const;
  // Row `row` in float32.
  void widen(Type type, size_t row, float* to, std::vector<uint8_t>& buffer) const;

  int width;
  size_t count;

 private:
  int64_t item_;
  const uint8_t* data_;
  mlx::core::Shape shape_;
  mlx::core::Strides strides_;
};

// All of an array in row-major order: where it lies, or copied to `buffer` when the work runs.
class Packed {
 public:
  explicit Packed(const array& a) : rows_(a), bytes_(a.nbytes()), contiguous_(a.flags().row_contiguous) {}
  const uint8_t* read(std::vector<uint8_t>& buffer) const;

 private:
  Rows rows_;
  size_t bytes_;
  bool contiguous_;
};

// A primitive with several outputs. `evaluate` runs on the engine thread and gives the work: the memory of inputs and
// outputs stays alive until that has run.
class CpuPrimitives : public mlx::core::Primitive {
 public:
  CpuPrimitives(mlx::core::Stream stream, const char* name) : Primitive(stream), name_(name) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) final {
    allocate(inputs, outputs);
    mlx::core::cpu::get_command_encoder(stream()).dispatch(evaluate(inputs, outputs));
  }
  void eval_gpu(const std::vector<array>&, std::vector<array>&) final {
    throw std::runtime_error("a CPU kernel was asked to run on the GPU");
  }
  const char* name() const final { return name_; }

 protected:
  virtual void allocate(const std::vector<array>&, std::vector<array>& outputs) {
    for (array& output : outputs) output.set_data(mlx::core::allocator::malloc(output.nbytes()));
  }
  virtual std::function<void()> evaluate(const std::vector<array>& inputs, std::vector<array>& outputs) = 0;

 private:
  const char* name_;
};

// A primitive with one output. `evaluate` runs on the engine thread and gives the work: the memory of inputs and output
// stays alive until that has run.
class CpuPrimitive : public mlx::core::UnaryPrimitive {
 public:
  CpuPrimitive(mlx::core::Stream stream, const char* name) : UnaryPrimitive(stream), name_(name) {}

  void eval_cpu(const std::vector<array>& inputs, array& output) final {
    allocate(output);
    mlx::core::cpu::get_command_encoder(stream()).dispatch(evaluate(inputs, output));
  }
  void eval_gpu(const std::vector<array>&, array&) final {
    throw std::runtime_error("a CPU kernel was asked to run on the GPU");
  }
  const char* name() const final { return name_; }

 protected:
  virtual void allocate(array& output) { output.set_data(mlx::core::allocator::malloc(output.nbytes())); }
  // The work, to run on MLX's thread. It may hold pointers to the data of inputs and output.
  virtual std::function<void()> evaluate(const std::vector<array>& inputs, array& output) = 0;

 private:
  const char* name_;
};

// The handle of a new array computed by primitive P.
template <class P, class... Args>
void* make(mlx::core::Shape shape, mlx::core::Dtype type, std::vector<array> inputs, const void* stream, Args... args) {
  return new array(std::move(shape), type, std::make_shared<P>(stream_of(stream), args...), std::move(inputs));
}

// body(first, last) over the rows, on several threads where they are many numbers.
template <class Body>
void for_rows(size_t rows, size_t width, const Body& body) {
  const size_t grain = std::max<size_t>(1, kSmallWork / std::max<size_t>(1, width));
  for_ranges(rows, grain, body);
}

}  // namespace mlxk::kernels
