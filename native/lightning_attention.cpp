// See lightning_attention.h.

#include "lightning_attention.h"

#include <cmath>

namespace mlxk {
namespace {

// ALiBi's slopes (arXiv 2108.12409): a geometric sequence, and between the terms of one of twice as many heads for what
// a power of two leaves over.
std::vector<float> slopes(int heads) {
  const auto sequence = [](int n, int index) { return std::exp2(-std::exp2(3 - std::log2(n)) * (index + 1)); };
  int power = 1;
  while (power * 2 <= heads) power *= 2;
  std::vector<float> all;
  for (int i = 0; i < power; ++i) all.push_back(static_cast<float>(sequence(power, i)));
  for (int i = 0; i < heads - power; ++i) all.push_back(static_cast<float>(sequence(2 * power, 2 * i)));
  return all;
}

Array log_decay(const LightningShape& s) {
  std::vector<float> values = slopes(s.heads);
  for (float& v : values) v *= -(s.depth + 1e-5f);
  return mx::from_floats(values, {s.heads});
}

}  // namespace

LightningAttention::LightningAttention(const Weights& w, const LightningShape& s, const Rope& rope)
    : shape_(s),
      rope_(rope),
      query_key_value_(w["query_key_value"], s.hidden_size, 3 * heads_width(s.heads, s.head_dim), s.qkv_bias),
      dense_(w["dense"], s.heads * s.head_dim, s.hidden_size, s.bias),
      g_proj_(w["g_proj"], s.hidden_size, s.heads * s.head_dim),
      g_norm_(w["g_norm"], s.heads * s.head_dim, s.norm_eps, s.norm_groups),
      decay_(log_decay(s)),
      no_residual_(mx::zeros({s.heads}, mx::Type::f32)) {
  if (!s.qk_norm) return;
  query_layernorm_.emplace(w["query_layernorm"], s.head_dim, s.norm_eps);
  key_layernorm_.emplace(w["key_layernorm"], s.head_dim, s.norm_eps);
}

Array LightningAttention::operator()(const Array& x, const LayerCache& cache) const {
  const int batch = x.dim(0), length = x.dim(1), heads = shape_.heads, dim = shape_.head_dim;
  const auto parts = mx::split(mx::reshape(query_key_value_(x), {batch, length, 3 * heads, dim}), 3, 2);
  const auto rotated = [&](const Array& h, const std::optional<RMSNorm>& norm) {
    return mx::swapaxes(rope_(mx::swapaxes(norm ? (*norm)(h) : h, 1, 2), cache), 1, 2);  // [B, L, H, D]
  };
  const Array q = rotated(parts[0], query_layernorm_) * (1 / std::sqrt(static_cast<float>(dim)));
  const Array k = rotated(parts[1], key_layernorm_);

  // Mamba-2's recurrence with time steps of one, keys written and queries reading.
  const Array before = recall(cache, 0, {heads, dim, dim}, mx::Type::f32);
  const Array steps = mx::broadcast_to(mx::from_floats(std::vector<float>{1}, {1, 1, 1}), {batch, length, heads});
  const auto [y, state] = state_space(parts[2], decay_, k, q, no_residual_, steps, before);
  remember(cache, 0, state);
  return dense_(g_norm_(mx::reshape(y, {batch, length, heads * dim})) * mx::sigmoid(g_proj_(x)));
}

}  // namespace mlxk
