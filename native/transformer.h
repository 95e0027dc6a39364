// The blocks that most dense decoders are made of: grouped-query attention, the gated feed-forward, and the residual
// blocks around them. An architecture that differs by a mechanism writes its own block instead.
// Thread: engine thread only.

#pragma once

#include <optional>

#include "layers.h"
#include "rope.h"

namespace mlxk {

enum class QKNorm { none, per_head, whole };  // whole: over all heads together, before they are split

struct AttentionShape {
  int hidden_size, heads, kv_heads, head_dim;
  bool qkv_bias = false, o_bias = false;
  QKNorm qk_norm = QKNorm::none;  // q and k are normalized before rope
  float norm_eps = 0;             // with qk_norm
  float norm_offset = 0;          // with qk_norm
  int window = 0;                 // 0 attends to everything
  std::optional<float> scale{};   // head_dim^-1/2

  // The fields of a DecoderConfig.
  template <class Config>
  static AttentionShape of(const Config& c) {
    return {.hidden_size = c.hidden_size,
            .heads = c.num_attention_heads,
            .kv_heads = c.num_key_value_heads,
            .head_dim = c.head_dim,
            .norm_eps = c.rms_norm_eps,
            .norm_offset = c.norm_offset};
  }
};

// Tensors: q_proj, k_proj, v_proj, o_proj; q_norm and k_norm with qk_norm.
class SelfAttention {
 public:
  SelfAttention(const Weights& w, const AttentionShape& shape, const Rope& rope);
  Array operator()(const Array& x, const LayerCache& cache) const;  // [B, L, D]

 private:
  AttentionShape shape_;
  Rope rope_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  std::optional<RMSNorm> q_norm_, k_norm_;
  float scale_;
};

// down(activation(gate(x)) * up(x)). Tensors: gate_proj, up_proj, down_proj.
class GatedMLP {
 public:
  GatedMLP(const Weights& w, int hidden_size, int intermediate_size, bool bias = false,
           Activation activation = Activation::silu);
  Array operator()(const Array& x) const { return down_proj_(gate_(gate_proj_(x), up_proj_(x))); }

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  Gate gate_;
};

// The same with gate and up in one matrix, gate first. Tensors: gate_up_proj, down_proj.
class FusedGatedMLP {
 public:
  FusedGatedMLP(const Weights& w, int hidden_size, int intermediate_size);
  Array operator()(const Array& x) const;

 private:
  Linear gate_up_proj_, down_proj_;
  Gate gate_;
};

// Config: a DecoderConfig with AttentionShape attention(int layer) const and Rope layer_rope(int layer) const.

// h = x + attention(norm(x)); h + mlp(norm(h)).
template <class Config>
class PreNormBlock {
 public:
  PreNormBlock(const Config& c, const Weights& w, int layer)
      : input_layernorm_(w["input_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        self_attn_(w["self_attn"], c.attention(layer), c.layer_rope(layer)),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, c.mlp_bias, c.activation) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + self_attn_(input_layernorm_(x), cache);
    return h + mlp_(post_attention_layernorm_(h));
  }

 private:
  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_;
  GatedMLP mlp_;
};

// h = x + norm(attention(x)); h + norm(mlp(h)).
template <class Config>
class PostNormBlock {
 public:
  PostNormBlock(const Config& c, const Weights& w, int layer)
      : self_attn_(w["self_attn"], c.attention(layer), c.layer_rope(layer)),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, c.mlp_bias),
        post_feedforward_layernorm_(w["post_feedforward_layernorm"], c.hidden_size, c.rms_norm_eps) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + post_attention_layernorm_(self_attn_(x, cache));
    return h + post_feedforward_layernorm_(mlp_(h));
  }

 private:
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_;
  GatedMLP mlp_;
  RMSNorm post_feedforward_layernorm_;
};

}  // namespace mlxk
