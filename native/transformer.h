// The blocks that most dense decoders are made of: grouped-query attention, the gated feed-forward, and the pre-norm
// residual block around them. An architecture that differs by a mechanism writes its own block instead.
// Thread: engine thread only.

#pragma once

#include <optional>

#include "layers.h"
#include "rope.h"

namespace mlxk {

struct AttentionShape {
  int hidden_size, heads, kv_heads, head_dim;
  bool qkv_bias = false, o_bias = false;
  std::optional<float> qk_norm_eps{};  // q and k are normalized per head before rope
  int window = 0;                      // 0 attends to everything
};

// Tensors: q_proj, k_proj, v_proj, o_proj; q_norm and k_norm with qk_norm_eps.
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

// down(silu(gate(x)) * up(x)). Tensors: gate_proj, up_proj, down_proj.
class GatedMLP {
 public:
  GatedMLP(const Weights& w, int hidden_size, int intermediate_size, bool bias = false);
  Array operator()(const Array& x) const { return down_proj_(swiglu_(gate_proj_(x), up_proj_(x))); }

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  SwiGLU swiglu_;
};

// h = x + attention(norm(x)); h + mlp(norm(h)). Config: hidden_size, intermediate_size, rms_norm_eps, mlp_bias, rope,
// and AttentionShape attention(int layer) const.
template <class Config>
class PreNormBlock {
 public:
  PreNormBlock(const Config& c, const Weights& w, int layer)
      : input_layernorm_(w["input_layernorm"], c.hidden_size, c.rms_norm_eps),
        self_attn_(w["self_attn"], c.attention(layer), c.rope),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, c.mlp_bias) {}

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

}  // namespace mlxk
