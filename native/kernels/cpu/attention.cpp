// Attention in one pass; stock MLX composes it of a dozen operations and keeps all scores. The result lies by
// positions, [B, L, H, E] in memory, which is how the layer after it reads it.

#include "kernels/cpu/attention_pieces.h"
#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

// Queries, keys or values [B, H, L, D]: where they lie, or copied where their last axis has gaps.
class Operand {
 public:
  explicit Operand(const array& a)
      : packed_(a), data_(bytes_of(a)), item_(static_cast<int64_t>(a.itemsize())), gaps_(a.strides()[3] != 1) {
    const auto& s = a.strides();
    const int64_t width = a.shape(3), length = a.shape(2), heads = a.shape(1);
    if (width == 1) gaps_ = false;
    batch_ = gaps_ ? heads * length * width : s[0];
    head = gaps_ ? length * width : s[1];
    position = gaps_ ? width : s[2];
  }
  void read() {
    if (gaps_) data_ = packed_.read(buffer_);
  }
  const uint8_t* at(int64_t of_batch, int64_t of_head) const {
    return data_ + item_ * (of_batch * batch_ + of_head * head);
  }

  int64_t head, position;  // steps in numbers

 private:
  Packed packed_;
  std::vector<uint8_t> buffer_;
  const uint8_t* data_;
  int64_t item_, batch_;
  bool gaps_;
};

class AttentionPrimitive final : public CpuPrimitive {
 public:
  AttentionPrimitive(mlx::core::Stream stream, AttentionOptions options)
      : CpuPrimitive(stream, "mlxk::Attention"), options_(options) {}

 protected:
  void allocate(array& output) override { allocate_by_positions(output); }

  // inputs: q, k, v, then mask and sinks where there are any.
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array &q = inputs[0], &k = inputs[1], &v = inputs[2];
    Attention a{};
    a.type = *type_of(q);
    a.width = q.shape(3);
    a.value_width = v.shape(3);
    a.group = q.shape(1) / k.shape(1);
    a.queries = q.shape(2);
    a.keys = k.shape(2);
    a.scale = options_.scale;
    a.soft_cap = options_.soft_cap;
    a.causal = options_.causal;
    a.window = options_.window;
    if (options_.mask) {
      const array& mask = inputs[3];
      a.mask = mask.data<bool>();
      a.mask_query_step = mask.shape(-2) == 1 ? 0 : mask.strides()[mask.ndim() - 2];
      a.mask_key_step = mask.shape(-1) == 1 ? 0 : mask.strides().back();
    }
    const std::optional<Rows> sinks = options_.sinks ? std::optional<Rows>(inputs.back()) : std::nullopt;
    return [a, sinks, queries = Operand(q), keys = Operand(k), values = Operand(v), to = output.data<uint8_t>(),
            batches = q.shape(0), kv_heads = k.shape(1)]() mutable {
      queries.read();
      keys.read();
      values.read();
      std::vector<float> sink_values(static_cast<size_t>(kv_heads * a.group));
      std::vector<uint8_t> buffer;
      if (sinks) sinks->widen(a.type, 0, sink_values.data(), buffer);
      attend_all(a, batches, kv_heads, sinks ? sink_values.data() : nullptr, to,
                 [&](int64_t batch, int64_t kv_head, bool) {
                   return AttentionPointers{queries.at(batch, kv_head * a.group),
                                            keys.at(batch, kv_head),
                                            values.at(batch, kv_head),
                                            queries.position,
                                            queries.head,
                                            keys.position,
                                            values.position};
                 });
    };
  }

 private:
  AttentionOptions options_;
};

}  // namespace

void* attention(const void* q, const void* k, const void* v, const AttentionOptions& options, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array& qs = unwrap(q);
  array ks = unwrap(k), vs = unwrap(v);
  if (!has_kernel(qs) || ks.dtype() != qs.dtype() || vs.dtype() != qs.dtype()) return nullptr;
  if (qs.ndim() != 4 || ks.ndim() != 4 || vs.ndim() != 4 || ks.size() == 0 || vs.size() == 0) return nullptr;
  if (ks.shape(0) != qs.shape(0) || ks.shape(3) != qs.shape(3) || qs.shape(1) % ks.shape(1) != 0) return nullptr;
  for (int axis = 0; axis < 3; ++axis) {
    if (vs.shape(axis) != ks.shape(axis)) return nullptr;
  }
  if (options.causal && qs.shape(2) > ks.shape(2)) return nullptr;
  std::vector<array> inputs{qs, ks, vs};
  if (options.mask) {
    const array& mask = unwrap(options.mask);
    if (mask.dtype() != mlx::core::bool_ || mask.ndim() < 2) return nullptr;
    for (int axis = 0; axis + 2 < static_cast<int>(mask.ndim()); ++axis) {
      if (mask.shape(axis) != 1) return nullptr;
    }
    for (const auto& [axis, size] : {std::pair{-2, qs.shape(2)}, std::pair{-1, ks.shape(2)}}) {
      if (mask.shape(axis) != size && mask.shape(axis) != 1) return nullptr;
    }
    inputs.push_back(mask);
  }
  if (options.sinks) {
    const array& sinks = unwrap(options.sinks);
    if (sinks.dtype() != qs.dtype() || sinks.ndim() != 1 || sinks.shape(0) != qs.shape(1)) return nullptr;
    inputs.push_back(sinks);
  }
  return make<AttentionPrimitive>({qs.shape(0), qs.shape(1), qs.shape(2), vs.shape(3)}, qs.dtype(), std::move(inputs),
                                  stream, options);
}

}  // namespace mlxk::kernels
