// Attention of one query position over all keys. Stock MLX composes it of twelve operations.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/primitive.h"
#include "kernels/cpu/vector.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

class DecodeAttention final : public CpuPrimitive {
 public:
  DecodeAttention(mlx::core::Stream stream, float scale)
      : CpuPrimitive(stream, "mlxk::DecodeAttention"), scale_(scale) {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array &q = inputs[0], &k = inputs[1], &v = inputs[2];
    if (k.strides()[3] != 1 || v.strides()[3] != 1)
      throw std::runtime_error("keys and values must be dense in their last axis");
    const int heads = q.shape(1), group = heads / k.shape(1), seen = k.shape(2), width = v.shape(3);
    std::function<void()> work;
    by_type(output, [&]<class T>(T) {
      work = [=, rows = Rows(q), qs = q.data<T>(), ks = k.data<T>(), vs = v.data<T>(), y = output.data<T>(),
              k_strides = k.strides(), v_strides = v.strides(), scale = scale_] {
        std::vector<float> query(static_cast<size_t>(rows.width)), weights(static_cast<size_t>(seen)),
            sum(static_cast<size_t>(width)), buffer;
        for (size_t row = 0; row < rows.count; ++row) {  // batch and head
          const auto batch = static_cast<int64_t>(row) / heads, head = static_cast<int64_t>(row) % heads / group;
          const float* from = rows.read(qs, row, buffer);
          for (size_t i = 0; i < query.size(); ++i) query[i] = from[i] * scale;

          const T* keys = ks + batch * k_strides[0] + head * k_strides[1];
          float best = -std::numeric_limits<float>::infinity();
          for (int t = 0; t < seen; ++t) {
            const float score = dot(query.data(), keys + t * k_strides[2], rows.width);
            weights[static_cast<size_t>(t)] = score;
            best = std::max(best, score);
          }
          float total = 0;
          for (float& weight : weights) total += weight = std::exp(weight - best);

          const T* values = vs + batch * v_strides[0] + head * v_strides[1];
          std::fill(sum.begin(), sum.end(), 0.0f);
          for (int t = 0; t < seen; ++t) {
            add_scaled(weights[static_cast<size_t>(t)], values + t * v_strides[2], sum.data(), width);
          }
          T* to = y + row * static_cast<size_t>(width);
          for (int i = 0; i < width; ++i) to[i] = static_cast<T>(sum[static_cast<size_t>(i)] / total);
        }
      };
    });
    return work;
  }

 private:
  float scale_;
};

}  // namespace

void* decode_attention(const void* q, const void* k, const void* v, float scale, const void* stream) {
  if (!on_cpu(stream)) return nullptr;
  const array &qs = unwrap(q), &ks = unwrap(k), &vs = unwrap(v);
  if (!has_kernel(qs) || ks.dtype() != qs.dtype() || vs.dtype() != qs.dtype() || qs.ndim() != 4 || qs.shape(2) != 1)
    return nullptr;
  // The stock operation says what is wrong with these.
  if (ks.ndim() != 4 || vs.ndim() != 4 || qs.size() == 0 || ks.size() == 0) return nullptr;
  if (ks.shape(0) != qs.shape(0) || ks.shape(3) != qs.shape(3) || qs.shape(1) % ks.shape(1) != 0) return nullptr;
  for (int axis = 0; axis < 3; ++axis) {
    if (vs.shape(axis) != ks.shape(axis)) return nullptr;
  }
  return make<DecodeAttention>({qs.shape(0), qs.shape(1), 1, vs.shape(3)}, qs.dtype(), {qs, ks, vs}, stream, scale);
}

}  // namespace mlxk::kernels
