// Products with dense weights. The wheel's BLAS is the reference one, about 1 GFLOP/s; these loops reach the memory's
// speed for one row and tens of GFLOP/s for many.

#include "kernels/cpu/primitive.h"
#include "kernels/cpu/rows_times_matrix.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

class DenseLinear final : public CpuPrimitive {
 public:
  explicit DenseLinear(mlx::core::Stream stream) : CpuPrimitive(stream, "mlxk::Linear") {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    if (inputs[1].strides()[1] != 1) throw std::runtime_error("weights must be dense in their last axis");
    std::function<void()> work;
    by_type(output, [&]<class T>(T) {
      work = [rows = Rows(inputs[0]), x = inputs[0].data<T>(), w = inputs[1].data<T>(), y = output.data<T>(),
              outputs = inputs[1].shape(0), step = inputs[1].strides()[0]] {
        if (rows.count == 1) {
          std::vector<float> buffer;
          const float* from = rows.read(x, 0, buffer);
          for (int o = 0; o < outputs; ++o) y[o] = static_cast<T>(dot(from, w + o * step, rows.width));
          return;
        }
        rows_times_matrix(rows, x, outputs, y, [&](int o, std::vector<float>& buffer) -> const float* {
          if constexpr (std::is_same_v<T, float>) {
            return w + o * step;
          } else {
            buffer.resize(static_cast<size_t>(rows.width));
            widen(w + o * step, buffer.data(), rows.width);
            return buffer.data();
          }
        });
      };
    });
    return work;
  }
};

}  // namespace

void* linear(const void* x, const void* w, const void* stream) {
  if (!on_cpu(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(w);
  if (!has_kernel(a) || b.dtype() != a.dtype() || a.size() == 0) return nullptr;
  if (b.ndim() != 2 || b.shape(1) != a.shape(-1)) return nullptr;  // the stock operation says what is wrong
  mlx::core::Shape shape = a.shape();
  shape.back() = b.shape(0);
  return make<DenseLinear>(std::move(shape), a.dtype(), {a, b}, stream);
}

}  // namespace mlxk::kernels
