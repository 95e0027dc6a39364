// Gates of feed-forward layers and residual sums, each in one pass; stock MLX takes three operations and a scalar
// exponential for a gate, and adds 16-bit numbers one at a time.

#include "kernels/cpu/pending.h"
#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

class Pairwise final : public CpuPrimitive {
 public:
  Pairwise(mlx::core::Stream stream, std::optional<Activation> activation)
      : CpuPrimitive(stream, activation ? "mlxk::Gated" : "mlxk::Add"), activation_(activation) {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    return [activation = activation_, type = *type_of(output), as = Rows(inputs[0]), bs = Rows(inputs[1]),
            to = output.data<uint8_t>()] {
      const auto width = static_cast<size_t>(as.width);
      for_rows(as.count, width, [&](size_t first, size_t last) {
        std::vector<uint8_t> a_buffer, b_buffer;
        for (size_t row = first; row < last; ++row) {
          const uint8_t *a = as.read(row, a_buffer), *b = bs.read(row, b_buffer);
          uint8_t* y = to + row * width * static_cast<size_t>(size_of(type));
          activation ? routines().gate(type, *activation, a, b, y, as.width) : routines().add(type, a, b, y, as.width);
        }
      });
    };
  }

 private:
  std::optional<Activation> activation_;
};

void* make_pairwise(std::optional<Activation> activation, const void* a, const void* b, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &left = unwrap(a), &right = unwrap(b);
  if (!has_kernel(left) || right.dtype() != left.dtype() || right.shape() != left.shape()) return nullptr;
  return make<Pairwise>(left.shape(), left.dtype(), {left, right}, stream, activation);
}

}  // namespace

void* gated(Gate activation, const void* gate, const void* up, const void* stream) {
  const auto function = [&] {
    switch (activation) {
      case Gate::silu: return Activation::silu;
      case Gate::gelu: return Activation::gelu;
      case Gate::gelu_tanh: return Activation::gelu_tanh;
      case Gate::clipped_silu: break;
    }
    return Activation::clipped_silu;
  }();
  if (wanted_on(stream) && unwrap(gate).shape() == unwrap(up).shape()) {
    for (const auto& fused : {gated_products, gated_gathers}) {
      if (void* y = fused(function, unwrap(gate), unwrap(up))) return y;
    }
  }
  return make_pairwise(function, gate, up, stream);
}

void* add(const void* a, const void* b, const void* stream) {
  for (const auto& [other, product] : {std::pair(a, b), std::pair(b, a)}) {
    if (void* y = product_sum(unwrap(other), unwrap(product))) return y;
  }
  return make_pairwise(std::nullopt, a, b, stream);
}

}  // namespace mlxk::kernels
