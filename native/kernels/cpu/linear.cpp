// Products with dense or packed weights. The wheel's BLAS is the reference one, about 1 GFLOP/s; the stock kernel for
// packed weights unpacks one number at a time and, in bfloat16, adds in bfloat16.

#include <cstring>

#include "kernels/cpu/product.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

class Linear final : public CpuPrimitive {
 public:
  Linear(mlx::core::Stream stream, PackedFormat format) : CpuPrimitive(stream, "mlxk::Linear"), format_(format) {}

 protected:
  // inputs: x, w, then scales and biases where the format has them.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const Type type = *type_of(output);
    return
        [type, rows = Rows(inputs[0]), y = Results{type, output.data<uint8_t>(), output.shape(-1)},
         layout = MatrixLayout(format_.format, format_.group, format_.bits, inputs, 1, inputs[0].shape(-1))]() mutable {
          layout.read();
          multiply(
              layout.matrix(), rows.count,
              [&](size_t row, float* to) {
                std::vector<uint8_t> buffer;
                rows.widen(type, row, to, buffer);
              },
              y, type != Type::f32);
        };
  }

 private:
  PackedFormat format_;
};

mlx::core::Shape with_last(const array& x, int last) {
  mlx::core::Shape shape = x.shape();
  shape.back() = last;
  return shape;
}

}  // namespace

void* linear(const void* x, const void* w, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(w);
  if (!has_kernel(a) || b.dtype() != a.dtype() || b.ndim() != 2 || b.shape(1) != a.shape(-1) || b.size() == 0) {
    return nullptr;
  }
  return make<Linear>(with_last(a, b.shape(0)), a.dtype(), {a, b}, stream, PackedFormat{Format::dense, 0, 0});
}

void* quantized_linear(const void* x, const void* w, const void* scales, const void* biases, int group_size, int bits,
                       const std::string& mode, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(w), &s = unwrap(scales);
  const array* c = biases ? &unwrap(biases) : nullptr;
  if (b.ndim() != 2) return nullptr;
  const auto format = packed_format(mode, group_size, bits, a, b, s, c);
  if (!format) return nullptr;
  std::vector<array> inputs{a, b, s};
  if (c) inputs.push_back(*c);
  return make<Linear>(with_last(a, b.shape(0)), a.dtype(), std::move(inputs), stream, *format);
}

}  // namespace mlxk::kernels
