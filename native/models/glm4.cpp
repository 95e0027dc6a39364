// GLM-4 (0414): dense decoder. Reference: mlx-lm, models/glm4.py.
// Against Llama: a second norm follows attention and feed-forward; part of each head is rotated, in neighbouring pairs;
// gate and up share a matrix.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  Rope rope;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), attention_bias(c.flag("attention_bias", false)) {
    const int dims = rotary_dims(c, head_dim, "partial_rotary_factor", 1.0f);
    rope = Rope(c, dims, 10000.0f, c.flag("rope_traditional", true));
  }
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int)
      : input_layernorm_(w["input_layernorm"], c.hidden_size, c.rms_norm_eps),
        self_attn_(w["self_attn"], attention(c), c.rope),
        post_self_attn_layernorm_(w["post_self_attn_layernorm"], c.hidden_size, c.rms_norm_eps),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size),
        post_mlp_layernorm_(w["post_mlp_layernorm"], c.hidden_size, c.rms_norm_eps) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + post_self_attn_layernorm_(self_attn_(input_layernorm_(x), cache));
    return h + post_mlp_layernorm_(mlp_(post_attention_layernorm_(h)));
  }

 private:
  static AttentionShape attention(const Config& c) {
    auto shape = AttentionShape::of(c);
    shape.qkv_bias = c.attention_bias;
    return shape;
  }

  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  RMSNorm post_self_attn_layernorm_, post_attention_layernorm_;
  FusedGatedMLP mlp_;
  RMSNorm post_mlp_layernorm_;
};

using Glm4 = Decoder<Config, Block>;

}  // namespace

MLXK_MODEL(Glm4, "glm4");

}  // namespace mlxk
