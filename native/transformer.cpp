// See transformer.h.

#include "transformer.h"

#include <cmath>

#include "error.h"

namespace mlxk {
namespace {

// Width of all heads together. Each factor was ranged when it was read; their product was not.
int width(int heads, int head_dim) {
  constexpr int64_t kMaxWidth = int64_t{1} << 24;
  const int64_t product = int64_t{heads} * head_dim;
  if (product > kMaxWidth) {
    invalid("config_invalid",
            "config.json: num_attention_heads * head_dim must be at most 16777216, got " + std::to_string(product));
  }
  return static_cast<int>(product);
}

}  // namespace

SelfAttention::SelfAttention(const Weights& w, const AttentionShape& s, const Rope& rope)
    : shape_(s),
      rope_(rope),
      q_proj_(w["q_proj"], s.hidden_size, width(s.heads, s.head_dim), s.qkv_bias),
      k_proj_(w["k_proj"], s.hidden_size, width(s.kv_heads, s.head_dim), s.qkv_bias),
      v_proj_(w["v_proj"], s.hidden_size, width(s.kv_heads, s.head_dim), s.qkv_bias),
      o_proj_(w["o_proj"], width(s.heads, s.head_dim), s.hidden_size, s.o_bias),
      scale_(s.scale.value_or(1.0f / std::sqrt(static_cast<float>(s.head_dim)))) {
  if (s.qk_norm == QKNorm::none) return;
  const bool whole = s.qk_norm == QKNorm::whole;
  q_norm_.emplace(w["q_norm"], whole ? s.heads * s.head_dim : s.head_dim, s.norm_eps, s.norm_offset);
  k_norm_.emplace(w["k_norm"], whole ? s.kv_heads * s.head_dim : s.head_dim, s.norm_eps, s.norm_offset);
}

Array SelfAttention::operator()(const Array& x, const LayerCache& cache) const {
  const int batch = x.dim(0), length = x.dim(1);
  const auto heads = [&](const Linear& projection, int count, const std::optional<RMSNorm>& norm) {
    Array h = projection(x);
    if (norm && shape_.qk_norm == QKNorm::whole) h = (*norm)(h);
    h = mx::reshape(h, {batch, length, count, shape_.head_dim});
    if (norm && shape_.qk_norm == QKNorm::per_head) h = (*norm)(h);
    return mx::swapaxes(h, 1, 2);  // [B, H, L, D]
  };
  const Array q = rope_(heads(q_proj_, shape_.heads, q_norm_), cache);
  const Array k = rope_(heads(k_proj_, shape_.kv_heads, k_norm_), cache);
  const Array v = heads(v_proj_, shape_.kv_heads, std::nullopt);
  const Array out = attention(q, k, v, cache, scale_, shape_.window);
  return o_proj_(mx::reshape(mx::swapaxes(out, 1, 2), {batch, length, shape_.heads * shape_.head_dim}));
}

GatedMLP::GatedMLP(const Weights& w, int hidden_size, int intermediate_size, bool bias, Activation activation)
    : gate_proj_(w["gate_proj"], hidden_size, intermediate_size, bias),
      up_proj_(w["up_proj"], hidden_size, intermediate_size, bias),
      down_proj_(w["down_proj"], intermediate_size, hidden_size, bias),
      gate_(activation) {}

FusedGatedMLP::FusedGatedMLP(const Weights& w, int hidden_size, int intermediate_size)
    : gate_up_proj_(w["gate_up_proj"], hidden_size, 2 * intermediate_size),
      down_proj_(w["down_proj"], intermediate_size, hidden_size),
      gate_(Activation::silu) {}

Array FusedGatedMLP::operator()(const Array& x) const {
  const auto halves = mx::split(gate_up_proj_(x), 2, -1);
  return down_proj_(gate_(halves[0], halves[1]));
}

}  // namespace mlxk
