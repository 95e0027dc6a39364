// x / sqrt(mean(x^2) + eps) * weight, along the last axis. Stock MLX composes it of eleven operations.

#include <cmath>

#include "kernels/cpu/primitive.h"
#include "kernels/cpu/vector.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

constexpr int kLanes = 16;

MLXK_VECTORIZED float sum_of_squares(const float* x, int n) {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int j = 0; j < kLanes; ++j) lanes[j] += x[i + j] * x[i + j];
  }
  float sum = sum_of(lanes);
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

class RMSNorm final : public CpuPrimitive {
 public:
  RMSNorm(mlx::core::Stream stream, float eps) : CpuPrimitive(stream, "mlxk::RMSNorm"), eps_(eps) {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    std::function<void()> work;
    by_type(output, [&]<class T>(T) {
      work = [rows = Rows(inputs[0]), weights = Rows(inputs[1]), x = inputs[0].data<T>(), w = inputs[1].data<T>(),
              y = output.data<T>(), eps = eps_] {
        std::vector<float> row_buffer, weight_buffer;
        const float* weight = weights.read(w, 0, weight_buffer);
        for (size_t row = 0; row < rows.count; ++row) {
          const float* from = rows.read(x, row, row_buffer);
          const float mean = sum_of_squares(from, rows.width) / static_cast<float>(rows.width);
          const float scale = 1 / std::sqrt(mean + eps);
          T* to = y + row * static_cast<size_t>(rows.width);
          for (int i = 0; i < rows.width; ++i) to[i] = static_cast<T>(from[i] * scale * weight[i]);
        }
      };
    });
    return work;
  }

 private:
  float eps_;
};

}  // namespace

void* rms_norm(const void* x, const void* weight, float eps, const void* stream) {
  if (!on_cpu(stream) || weight == nullptr) return nullptr;
  const array &a = unwrap(x), &w = unwrap(weight);
  if (!has_kernel(a) || w.dtype() != a.dtype() || a.size() == 0) return nullptr;
  if (w.ndim() != 1 || w.shape(0) != a.shape(-1)) return nullptr;  // the stock operation says what is wrong
  return make<RMSNorm>(a.shape(), a.dtype(), {a, w}, stream, eps);
}

}  // namespace mlxk::kernels
