// Root mean square norm, layer norm and softmax along the last axis. Stock MLX composes the first of eleven operations.

#include "kernels/cpu/pending.h"
#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

enum class Kind { rms, layer, softmax };

class RowFunction final : public CpuPrimitive {
 public:
  RowFunction(mlx::core::Stream stream, Kind kind, float eps, bool has_weight, bool has_bias)
      : CpuPrimitive(stream, "mlxk::RowFunction"),
        kind_(kind),
        eps_(eps),
        has_weight_(has_weight),
        has_bias_(has_bias) {}

  // What a product that reads the result may compute in its place.
  std::optional<PendingNorm> taken_over(const std::vector<array>& inputs) const {
    if (kind_ != Kind::rms) return std::nullopt;
    return PendingNorm{inputs[0], has_weight_ ? std::optional<array>(inputs[1]) : std::nullopt, eps_};
  }

 protected:
  // inputs: x, then weight and bias where there are any.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const auto vector = [&](bool present, size_t at) {
      return present ? std::optional<Rows>(inputs[at]) : std::nullopt;
    };
    return [kind = kind_, eps = eps_, type = *type_of(output), rows = Rows(inputs[0]), to = output.data<uint8_t>(),
            weights = vector(has_weight_, 1), biases = vector(has_bias_, has_weight_ ? 2 : 1)] {
      const auto width = static_cast<size_t>(rows.width);
      std::vector<float> weight, bias;
      std::vector<uint8_t> wide;
      const auto read = [&](const std::optional<Rows>& from, std::vector<float>& values) -> const float* {
        if (!from) return nullptr;
        values.resize(width);
        from->widen(type, 0, values.data(), wide);
        return values.data();
      };
      const float *w = read(weights, weight), *b = read(biases, bias);
      for_rows(rows.count, width, [&](size_t first, size_t last) {
        std::vector<uint8_t> buffer;
        for (size_t row = first; row < last; ++row) {
          const uint8_t* x = rows.read(row, buffer);
          uint8_t* y = to + row * width * static_cast<size_t>(size_of(type));
          switch (kind) {
            case Kind::rms: routines().rms_norm(type, x, w, eps, rows.width, y); break;
            case Kind::layer: routines().layer_norm(type, x, w, b, eps, rows.width, y); break;
            case Kind::softmax: routines().softmax(type, x, rows.width, y); break;
          }
        }
      });
    };
  }

 private:
  Kind kind_;
  float eps_;
  bool has_weight_, has_bias_;
};

void* make_row_function(Kind kind, const void* x, const void* weight, const void* bias, float eps, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& a = unwrap(x);
  if (!has_kernel(a)) return nullptr;
  std::vector<array> inputs{a};
  for (const void* handle : {weight, bias}) {
    if (handle == nullptr) continue;
    const array& v = unwrap(handle);
    if (v.dtype() != a.dtype() || v.ndim() != 1 || v.shape(0) != a.shape(-1)) return nullptr;
    inputs.push_back(v);
  }
  return make<RowFunction>(a.shape(), a.dtype(), std::move(inputs), stream, kind, eps, weight != nullptr,
                           bias != nullptr);
}

}  // namespace

std::optional<PendingNorm> pending_norm(const array& a) {
  const auto* function = pending<RowFunction>(a);
  return function ? function->taken_over(a.inputs()) : std::nullopt;
}

void* rms_norm(const void* x, const void* weight, float eps, const void* stream) {
  return make_row_function(Kind::rms, x, weight, nullptr, eps, stream);
}

void* layer_norm(const void* x, const void* weight, const void* bias, float eps, const void* stream) {
  return make_row_function(Kind::layer, x, weight, bias, eps, stream);
}

void* softmax(const void* x, const void* stream) {
  return make_row_function(Kind::softmax, x, nullptr, nullptr, 0, stream);
}

}  // namespace mlxk::kernels
