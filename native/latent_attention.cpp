// See latent_attention.h.

#include "latent_attention.h"

#include <cmath>

namespace mlxk {
namespace {

// Original checkpoints hold embed_q (transposed) and unembed_out head by head in one matrix.
const Weights& split_kv_b(const Weights& w, const LatentShape& s) {
  const Weights both = w["kv_b_proj"];
  if (!both.has("weight")) return w;
  const int rows = heads_width(s.heads, s.qk_nope_head_dim + s.v_head_dim);
  const Array dense = Matrix(both, rows, s.kv_lora_rank).dense();
  both.discard();
  const Array heads = mx::reshape(dense, {s.heads, s.qk_nope_head_dim + s.v_head_dim, s.kv_lora_rank});
  const int at[] = {s.qk_nope_head_dim};
  const auto parts = mx::split_at(heads, at, 1);
  w["embed_q"].put("weight", mx::contiguous(mx::swapaxes(parts[0], -1, -2)));
  w["unembed_out"].put("weight", mx::contiguous(parts[1]));
  return w;
}

}  // namespace

LatentShape LatentShape::read(const ConfigReader& c, int hidden_size, int heads) {
  LatentShape s{.hidden_size = hidden_size,
                .heads = heads,
                .q_lora_rank = c.has("q_lora_rank") ? c.dim("q_lora_rank") : 0,
                .kv_lora_rank = c.dim("kv_lora_rank"),
                .qk_rope_head_dim = c.dim("qk_rope_head_dim"),
                .qk_nope_head_dim = c.dim("qk_nope_head_dim"),
                .v_head_dim = c.dim("v_head_dim"),
                .bias = c.flag("attention_bias", false),
                .scale = 0};
  s.scale = yarn_attention_scale(c) / std::sqrt(static_cast<float>(s.qk_nope_head_dim + s.qk_rope_head_dim));
  return s;
}

LatentAttention::LatentAttention(const Weights& weights, const LatentShape& s, const Rope& rope)
    : shape_(s),
      rope_(rope),
      kv_a_proj_(weights["kv_a_proj_with_mqa"], s.hidden_size, s.kv_lora_rank + s.qk_rope_head_dim, s.bias),
      kv_a_layernorm_(weights["kv_a_layernorm"], s.kv_lora_rank, s.norm_eps),
      embed_q_(split_kv_b(weights, s)["embed_q"], s.heads, s.kv_lora_rank, s.qk_nope_head_dim),
      unembed_out_(weights["unembed_out"], s.heads, s.v_head_dim, s.kv_lora_rank),
      o_proj_(weights["o_proj"], heads_width(s.heads, s.v_head_dim), s.hidden_size, s.bias) {
  if (s.output_gate != OutputGate::none) {
    g_proj_.emplace(weights["g_proj"], s.hidden_size,
                    s.output_gate == OutputGate::sigmoid ? s.heads * s.v_head_dim : s.heads);
  }
  const int width = heads_width(s.heads, s.qk_nope_head_dim + s.qk_rope_head_dim);
  if (s.q_lora_rank == 0) {
    q_proj_.emplace(weights["q_proj"], s.hidden_size, width);
    return;
  }
  q_a_proj_.emplace(weights["q_a_proj"], s.hidden_size, s.q_lora_rank, s.bias);
  q_a_layernorm_.emplace(weights["q_a_layernorm"], s.q_lora_rank, s.norm_eps);
  q_b_proj_.emplace(weights["q_b_proj"], s.q_lora_rank, width);
  if (s.indexer) indexer_.emplace(weights["indexer"], *s.indexer);
}

Array LatentAttention::query(const Array& x, const Array& q_latent) const {
  if (q_proj_) return (*q_proj_)(x);
  return (*q_b_proj_)(shape_.q_lora_scale == 1 ? q_latent : q_latent * shape_.q_lora_scale);
}

Array LatentAttention::operator()(const Array& x, const LayerCache& cache) const {
  const int batch = x.dim(0), length = x.dim(1);
  const int nope[] = {shape_.qk_nope_head_dim}, rank[] = {shape_.kv_lora_rank};

  const Array q_latent = q_proj_ ? Array() : (*q_a_layernorm_)((*q_a_proj_)(x));
  const Array queries = mx::reshape(query(x, q_latent), {batch, length, shape_.heads, -1});
  const auto q = mx::split_at(prepared(mx::swapaxes(queries, 1, 2), cache), nope, -1);  // [B, H, L, D]
  const auto compressed = mx::split_at(kv_a_proj_(x), rank, -1);
  Array latent = kv_a_layernorm_(compressed[0]);
  if (shape_.kv_lora_scale != 1) latent = latent * shape_.kv_lora_scale;

  std::vector<Array> parts{q[0], rope_(q[1], cache), mx::expand_dims(latent, 1),
                           rope_(mx::expand_dims(compressed[1], 1), cache)};
  if (indexer_) {
    for (const Array& part : indexer_->project(x, q_latent, cache)) parts.push_back(part);
  }
  const Array out =
      by_row(cache, parts, [&](const std::vector<Array>& row, int index) { return attend(row, cache, index); });
  Array heads = mx::swapaxes(out, 1, 2);  // [B, L, H, D]
  if (g_proj_) heads = heads * mx::sigmoid(mx::reshape((*g_proj_)(x), {batch, length, shape_.heads, -1}));
  return o_proj_(mx::reshape(heads, {batch, length, -1}));
}

Array LatentAttention::attend(const std::vector<Array>& row, const LayerCache& cache, int index) const {
  const Array &q_nope = row[0], &q_pe = row[1];
  auto [latent, k_pe] = cache.state<KVCache>(index).update(row[2], row[3]);
  const int length = q_nope.dim(2), seen = latent.dim(2);
  const Array chosen =
      indexer_ ? indexer_->choose({row.begin() + 4, row.end()}, cache, index) : Array();  // [1, 1, L, k]
  if (chosen && length == 1) {
    const Array positions = mx::reshape(chosen, {-1});
    latent = mx::take(latent, positions, 2);
    k_pe = mx::take(k_pe, positions, 2);
  }
  Array scores = mx::matmul(q_pe * shape_.scale, mx::swapaxes(k_pe, -1, -2));  // of the rotated parts, [1, H, L, T]
  // One position: every head looks into the latent space. Many: keys and values are unfolded, which costs less then.
  if (length == 1) {
    const Array out = mx::attention(embed_q_.multiply(q_nope), latent, latent, shape_.scale, mx::Mask::array, scores);
    return unembed_out_.multiply(out);
  }
  Array mask = cache.batch.window_mask(seen, seen);
  if (chosen) {
    const Array none = mx::zeros({1, 1, length, seen}, mx::Type::boolean);
    mask = mx::logical_and(mask, mx::put_along(none, chosen, mx::scalar(1, mx::Type::boolean), -1));
  }
  scores = mx::where(mask, scores, mx::scalar(mx::lowest(scores.dtype()), scores.dtype()));
  return mx::attention(q_nope, embed_q_.multiply_plain(latent), unembed_out_.multiply(latent), shape_.scale,
                       mx::Mask::array, scores);
}

}  // namespace mlxk
