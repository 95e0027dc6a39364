// Attention of one new position with what surrounds it in a decoder layer: heads are normed and rotated, key and value
// are written to the cache, and the heads of a group attend, each group by one piece of work. As separate operations
// that is some fifteen primitives, most of them for a few hundred numbers. Numbers are rounded where those would round
// them.

#include <cstring>

#include "kernels/cpu/angles.h"
#include "kernels/cpu/attention_pieces.h"
#include "kernels/cpu/primitive.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

class CachedAttentionPrimitive final : public CpuPrimitives {
 public:
  CachedAttentionPrimitive(mlx::core::Stream stream, CachedAttention options)
      : CpuPrimitives(stream, "mlxk::CachedAttention"), o_(options) {}

 protected:
  // The buffers become the outputs, since nobody else holds them.
  void allocate(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    outputs[0].set_data(mlx::core::allocator::malloc(outputs[0].nbytes()));
    for (size_t i = 0; i < 2; ++i) {
      const array& buffer = inputs[3 + i];
      if (is_dense(buffer)) {
        outputs[1 + i].copy_shared_buffer(buffer);
      } else {
        outputs[1 + i].set_data(mlx::core::allocator::malloc(buffer.nbytes()));
      }
    }
  }

  // inputs: q, k, v, keys, values; then of those there are: both norms' weights, freqs, sinks.
  std::function<void()> evaluate(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    const array &keys = inputs[3], &values = inputs[4];
    Attention a{};
    a.type = *type_of(inputs[0]);
    a.width = keys.shape(3);
    a.value_width = values.shape(3);
    a.group = inputs[0].shape(-1) / a.width / keys.shape(1);
    a.queries = 1;
    a.keys = o_.at + 1 - o_.first;
    a.scale = o_.scale;
    a.soft_cap = o_.soft_cap;
    size_t at = 5;
    const auto next = [&](bool present) { return present ? std::optional<Rows>(inputs[at++]) : std::nullopt; };
    Work work{.o = o_,
              .a = a,
              .kv_heads = keys.shape(1),
              .capacity = keys.shape(2),
              .q = Packed(inputs[0]),
              .k = Packed(inputs[1]),
              .v = Packed(inputs[2])};
    work.q_norm = next(o_.q_norm != nullptr);
    work.k_norm = next(o_.k_norm != nullptr);
    if (o_.freqs) {
      work.freqs = inputs[at].data<float>();
      work.freq_step = inputs[at++].strides()[0];
    }
    work.sinks = next(o_.sinks != nullptr);
    work.y = outputs[0].data<uint8_t>();
    work.keys = outputs[1].data<uint8_t>();
    work.values = outputs[2].data<uint8_t>();
    if (!is_dense(keys)) work.old_keys.emplace(keys);
    if (!is_dense(values)) work.old_values.emplace(values);
    return work;
  }

 private:
  static bool is_dense(const array& a) { return a.flags().row_contiguous && a.data_size() == a.size(); }

  struct Work {
    CachedAttention o;
    Attention a;
    int kv_heads, capacity;
    Packed q, k, v;
    std::optional<Rows> q_norm{}, k_norm{}, sinks{};
    const float* freqs = nullptr;
    int64_t freq_step = 0;
    std::optional<Packed> old_keys{}, old_values{};
    uint8_t *y = nullptr, *keys = nullptr, *values = nullptr;

    void operator()() const {
      const int64_t item = size_of(a.type), width = a.width * item, value_width = a.value_width * item;
      std::vector<uint8_t> q_buffer, k_buffer, v_buffer;
      const uint8_t *qs = q.read(q_buffer), *ks = k.read(k_buffer), *vs = v.read(v_buffer);
      copy(old_keys, keys, width);
      copy(old_values, values, value_width);
      const std::vector<float> q_weight = floats(q_norm, a.width), k_weight = floats(k_norm, a.width);
      const std::vector<float> sink_values = floats(sinks, kv_heads * a.group);
      static thread_local Angles angles_of_thread;
      Angles& angles = angles_of_thread;
      if (o.dims > 0) {
        angles.set_frequencies(o.dims, o.base.value_or(1.0f), freqs, freq_step);
        angles.turn_to(o.rope_scale, o.position, 1);
      }
      const auto prepare = [&](const uint8_t* from, const std::vector<float>& weight, uint8_t* to) {
        static thread_local Scratch memory;
        if (o.norm_eps) {
          uint8_t* const normed = o.dims > 0 ? memory.bytes(width) : to;
          routines().rms_norm(a.type, from, weight.empty() ? nullptr : weight.data(), *o.norm_eps, a.width, normed);
          from = normed;
        }
        if (o.dims > 0) {
          routines().rotate(a.type, from, angles.cosines(0), angles.sines(0), o.dims, o.traditional, a.width, to);
        } else if (from != to) {
          std::memcpy(to, from, static_cast<size_t>(width));
        }
      };
      attend_all(a, 1, kv_heads, sinks ? sink_values.data() : nullptr, y, [&](int64_t, int64_t head, bool last) {
        static thread_local Scratch memory;
        uint8_t* const queries = memory.bytes(a.group * width);
        for (int64_t i = 0; i < a.group; ++i) {
          prepare(qs + (head * a.group + i) * width, q_weight, queries + i * width);
        }
        uint8_t *head_keys = keys + head * capacity * width, *head_values = values + head * capacity * value_width;
        if (last) {
          prepare(ks + head * width, k_weight, head_keys + o.at * width);
          std::memcpy(head_values + o.at * value_width, vs + head * value_width, static_cast<size_t>(value_width));
        }
        return AttentionPointers{
            queries,      head_keys + o.first * width, head_values + o.first * value_width, 0, a.width, a.width,
            a.value_width};
      });
    }

    std::vector<float> floats(const std::optional<Rows>& from, int count) const {
      std::vector<float> values;
      std::vector<uint8_t> buffer;
      if (!from) return values;
      values.resize(static_cast<size_t>(count));
      from->widen(a.type, 0, values.data(), buffer);
      return values;
    }

    void copy(const std::optional<Packed>& from, uint8_t* to, int64_t row_bytes) const {
      if (!from) return;
      std::vector<uint8_t> buffer;
      std::memcpy(to, from->read(buffer), static_cast<size_t>(int64_t{kv_heads} * capacity * row_bytes));
    }
  };

  CachedAttention o_;
};

// Whether `a` is a vector of `count` numbers of `type`.
bool is_vector(const array& a, mlx::core::Dtype type, int count) {
  return a.dtype() == type && a.ndim() == 1 && a.shape(0) == count;
}

}  // namespace

std::array<void*, 3> cached_attention(const void* q, const void* k, const void* v, const void* keys, const void* values,
                                      const CachedAttention& o, const void* stream) {
  if (!wanted_on(stream)) return {};
  const array &qs = unwrap(q), &ks = unwrap(k), &vs = unwrap(v), &key_buffer = unwrap(keys),
              &value_buffer = unwrap(values);
  if (key_buffer.ndim() != 4 || value_buffer.ndim() != 4 || key_buffer.shape(0) != 1 || key_buffer.size() == 0)
    return {};
  const int heads = key_buffer.shape(1), capacity = key_buffer.shape(2), width = key_buffer.shape(3);
  const int value_width = value_buffer.shape(3);
  const auto type = qs.dtype();
  if (!has_kernel(qs) || qs.size() % static_cast<size_t>(heads * width) != 0 ||
      qs.shape(-1) != static_cast<int>(qs.size())) {
    return {};
  }
  if (ks.size() != static_cast<size_t>(heads * width) || ks.shape(-1) != heads * width) return {};
  if (vs.size() != static_cast<size_t>(heads * value_width) || vs.shape(-1) != heads * value_width) return {};
  if (value_buffer.shape(0) != 1 || value_buffer.shape(1) != heads || value_buffer.shape(2) != capacity) return {};
  for (const array* a : {&ks, &vs, &key_buffer, &value_buffer}) {
    if (a->dtype() != type) return {};
  }
  if (o.first < 0 || o.first > o.at || o.at >= capacity) return {};
  if (o.dims % 2 != 0 || o.dims > width || (o.dims > 0 && o.base.has_value() == (o.freqs != nullptr))) return {};
  std::vector<array> inputs{qs, ks, vs, key_buffer, value_buffer};
  for (const void* weight : {o.q_norm, o.k_norm}) {
    if (weight == nullptr) continue;
    if (!o.norm_eps || !is_vector(unwrap(weight), type, width)) return {};
    inputs.push_back(unwrap(weight));
  }
  if (o.freqs) {
    if (!is_vector(unwrap(o.freqs), mlx::core::float32, o.dims / 2)) return {};
    inputs.push_back(unwrap(o.freqs));
  }
  if (o.sinks) {
    if (!is_vector(unwrap(o.sinks), type, static_cast<int>(qs.size()) / width)) return {};
    inputs.push_back(unwrap(o.sinks));
  }
  mlx::core::Shape shape = qs.shape();
  shape.back() = static_cast<int>(qs.size()) / width * value_width;
  const auto made = array::make_arrays({shape, key_buffer.shape(), value_buffer.shape()}, {type, type, type},
                                       std::make_shared<CachedAttentionPrimitive>(stream_of(stream), o), inputs);
  return {new array(made[0]), new array(made[1]), new array(made[2])};
}

}  // namespace mlxk::kernels
