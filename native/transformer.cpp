// See transformer.h.

#include "transformer.h"

#include <cmath>
#include <string>
#include <utility>

#include "error.h"

namespace mlxk {

int heads_width(int heads, int head_dim, const char* names) {
  constexpr int64_t kMaxWidth = int64_t{1} << 24;
  const int64_t product = int64_t{heads} * head_dim;
  if (product > kMaxWidth) {
    invalid("config_invalid",
            std::string("config.json: ") + names + " must be at most 16777216, got " + std::to_string(product));
  }
  return static_cast<int>(product);
}

namespace {

int value_dim(const AttentionShape& s) { return s.value_dim > 0 ? s.value_dim : s.head_dim; }

mx::Unary head_norm(const Weights& w, const AttentionShape& s, int heads) {
  if (s.qk_norm == QKNorm::none) return {};
  if (s.qk_norm == QKNorm::layer) {
    return [weight = w.take("weight", {heads, s.head_dim}), plain = LayerNorm(s.norm_eps)](const Array& x) {
      return weight * plain(x);
    };
  }
  if (s.qk_norm == QKNorm::each) {
    return [weight = mx::expand_dims(w.take("weight", {heads, s.head_dim}), 0), eps = s.norm_eps](const Array& x) {
      return weight * mx::rms_norm(x, {}, eps);
    };
  }
  if (!s.norm_weights) return RMSNorm(s.norm_eps);
  const int width = s.qk_norm == QKNorm::whole ? heads_width(heads, s.head_dim) : s.head_dim;
  return RMSNorm(w, width, s.norm_eps, s.norm_offset);
}

}  // namespace

SelfAttention::SelfAttention(const Weights& w, const AttentionShape& s, const Rope& rope)
    : shape_(s),
      rope_(rope),
      q_proj_(w["q_proj"], s.hidden_size, heads_width(s.heads * (s.gated ? 2 : 1), s.head_dim), s.qkv_bias),
      o_proj_(w[s.o_proj], heads_width(s.heads, value_dim(s)), s.hidden_size, s.o_bias),
      q_norm_(head_norm(w[s.q_norm], s, s.heads)),
      options_{.scale = s.scale.value_or(1.0f / std::sqrt(static_cast<float>(s.head_dim))),
               .window = s.window,
               .chunk = s.chunk,
               .softcap = s.softcap} {
  if (s.sinks) options_.sinks = w.take("sinks", {s.heads});
  if (s.output_gate != OutputGate::none) {
    const int width = s.output_gate == OutputGate::sigmoid ? heads_width(s.heads, value_dim(s)) : s.heads;
    gate_proj_.emplace(w[s.gate_proj], s.hidden_size, width, s.gate_bias);
  }
  if (s.shared) return;
  k_proj_.emplace(w["k_proj"], s.hidden_size, heads_width(s.kv_heads, s.head_dim), s.qkv_bias);
  if (!s.keys_as_values) {
    v_proj_.emplace(w["v_proj"], s.hidden_size, heads_width(s.kv_heads, value_dim(s)), s.qkv_bias);
  }
  k_norm_ = head_norm(w[s.k_norm], s, s.kv_heads);
  next_ = heads_of_next();
}

std::optional<mx::CachedAttention> SelfAttention::heads_of_next() const {
  const AttentionShape& s = shape_;
  const auto* rope = rope_.plain();
  if (rope == nullptr || s.gated || s.value_norm || s.chunk > 0) return std::nullopt;
  mx::CachedAttention heads;
  heads.rope = *rope;
  if (s.qk_norm == QKNorm::none || s.qk_norm == QKNorm::whole) return heads;
  const auto *q = q_norm_.target<RMSNorm>(), *k = k_norm_.target<RMSNorm>();
  if (q == nullptr || k == nullptr || s.norm_after_rope) return std::nullopt;
  heads.norm_eps = s.norm_eps;
  heads.q_norm = q->weight();
  heads.k_norm = k->weight();
  return heads;
}

Array SelfAttention::operator()(const Array& x, const LayerCache& cache) const {
  const int batch = x.dim(0), length = x.dim(1);
  const auto heads = [&](const Array& projected, int count) {
    return mx::reshape(projected, {batch, length, count, -1});
  };
  const bool per_head = q_norm_ && shape_.qk_norm != QKNorm::whole;
  const auto normed_whole = [&](const Array& h, int count, const mx::Unary& norm) {
    return norm && !per_head ? norm(mx::reshape(h, {batch, length, count * shape_.head_dim})) : h;
  };
  const auto rotated = [&](Array h, int count, const mx::Unary& norm) {
    h = heads(h, count);
    if (per_head && !shape_.norm_after_rope) h = norm(h);
    h = rope_(mx::swapaxes(h, 1, 2), cache);  // [B, H, L, D]
    return per_head && shape_.norm_after_rope ? norm(h) : h;
  };
  std::vector<const Linear*> projections{&q_proj_};
  if (k_proj_) projections.push_back(&*k_proj_);
  if (v_proj_) projections.push_back(&*v_proj_);
  const std::vector<Array> projected = Linear::each(projections, x);
  Array q = projected[0], gate;
  if (shape_.gated) {
    const auto halves = mx::split(heads(q, shape_.heads), 2, -1);
    q = halves[0];
    gate = mx::reshape(halves[1], {batch, length, shape_.heads * shape_.head_dim});
  }
  q = normed_whole(q, shape_.heads, q_norm_);
  Array out;  // [B, L, H, E], or with the last two as one
  if (shape_.shared) {
    q = prepared(rotated(q, shape_.heads, q_norm_), cache);
    out = mx::swapaxes(shared_attention(q, {cache.batch, *shape_.shared}, options_), 1, 2);
  } else {
    const Array k = normed_whole(projected[1], shape_.kv_heads, k_norm_), &values = projected.back();
    if (next_ && !prepares()) out = attention_of_next(q, k, values, cache, options_, *next_);
    if (!out) {
      q = prepared(rotated(q, shape_.heads, q_norm_), cache);
      Array v = mx::swapaxes(heads(values, shape_.kv_heads), 1, 2);
      if (shape_.value_norm) v = mx::rms_norm(v, {}, shape_.norm_eps);
      out = mx::swapaxes(attention(q, rotated(k, shape_.kv_heads, k_norm_), v, cache, options_), 1, 2);
    }
  }
  if (gate_proj_) out = heads(out, shape_.heads) * output_gate(x);
  out = mx::reshape(out, {batch, length, shape_.heads * value_dim(shape_)});
  return o_proj_(gate ? out * mx::sigmoid(gate) : out);
}

Array SelfAttention::output_gate(const Array& x) const {
  const Array scores = mx::reshape((*gate_proj_)(x), {x.dim(0), x.dim(1), shape_.heads, -1});
  const Array wide = mx::astype(scores, mx::Type::f32);
  const Array gate = shape_.output_gate == OutputGate::softplus_per_head ? mx::softplus(wide) : mx::sigmoid(wide);
  return mx::astype(gate, x.dtype());
}

GatedMLP::GatedMLP(const Weights& w, const FeedForwardShape& s, const Names& names)
    : gate_proj_(w[names.gate], s.hidden_size, s.intermediate_size, s.bias),
      up_proj_(w[names.up], s.hidden_size, s.intermediate_size, s.bias),
      down_proj_(w[names.down], s.intermediate_size, s.hidden_size, s.bias),
      gate_(s.activation) {}

GatedMLP::GatedMLP(const Weights& w, const FeedForwardShape& s, Gate gate) : GatedMLP(w, s, Names{}) {
  gate_ = std::move(gate);
}

FusedGatedMLP::FusedGatedMLP(const Weights& w, int hidden_size, int intermediate_size, const char* gate_up,
                             const char* down)
    : gate_up_proj_(w[gate_up], hidden_size, 2 * intermediate_size),
      down_proj_(w[down], intermediate_size, hidden_size),
      gate_(Activation::silu) {}

Array FusedGatedMLP::operator()(const Array& x) const {
  const auto halves = mx::split(gate_up_proj_(x), 2, -1);
  return down_proj_(gate_(halves[0], halves[1]));
}

}  // namespace mlxk
