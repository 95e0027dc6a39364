// Place of the largest number of each row, for greedy sampling over a vocabulary.

#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

class ArgMax final : public CpuPrimitive {
 public:
  explicit ArgMax(mlx::core::Stream stream) : CpuPrimitive(stream, "mlxk::ArgMax") {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    return [type = *type_of(inputs[0]), rows = Rows(inputs[0]), to = output.data<uint32_t>()] {
      for_ranges(rows.count, 1, [&](size_t first, size_t last) {
        std::vector<uint8_t> buffer;
        for (size_t row = first; row < last; ++row) {
          to[row] = static_cast<uint32_t>(routines().argmax(type, rows.read(row, buffer), rows.width));
        }
      });
    };
  }
};

}  // namespace

void* argmax(const void* x, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& a = unwrap(x);
  if (!has_kernel(a)) return nullptr;
  mlx::core::Shape shape(a.shape().begin(), a.shape().end() - 1);
  return make<ArgMax>(std::move(shape), mlx::core::uint32, {a}, stream);
}

}  // namespace mlxk::kernels
