// Granite: dense decoder. Reference: mlx-lm, models/granite.py.
// Against Llama: four multipliers, on the embedding, the attention scores, the residual branches and the final scores.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  float embedding_multiplier, attention_multiplier, residual_multiplier, logits_scaling;
  Rope rope;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        embedding_multiplier(c.positive("embedding_multiplier")),
        attention_multiplier(c.positive("attention_multiplier")),
        residual_multiplier(c.positive("residual_multiplier")),
        logits_scaling(c.positive("logits_scaling")),
        rope(c, head_dim, 10000.0f) {
    mlp_bias = c.flag("mlp_bias", false);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.scale = attention_multiplier;
    return shape;
  }
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : input_layernorm_(w["input_layernorm"], c.hidden_size, c.rms_norm_eps),
        self_attn_(w["self_attn"], c.attention(layer), c.rope),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, c.mlp_bias),
        residual_multiplier_(c.residual_multiplier) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + self_attn_(input_layernorm_(x), cache) * residual_multiplier_;
    return h + mlp_(post_attention_layernorm_(h)) * residual_multiplier_;
  }

 private:
  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_;
  GatedMLP mlp_;
  float residual_multiplier_;
};

class Granite final : public Decoder<Config, Block> {
 public:
  using Decoder::Decoder;
  Array logits(const Array& hidden) const override { return Decoder::logits(hidden) * (1 / config().logits_scaling); }

 protected:
  Array embed(const Array& ids) const override { return Decoder::embed(ids) * config().embedding_multiplier; }
};

}  // namespace

MLXK_MODEL(Granite, "granite");

}  // namespace mlxk
