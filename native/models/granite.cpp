// Granite: dense decoder. Reference: mlx-lm, models/granite.py.
// Against Llama: four multipliers, on the embedding, the attention scores, the residual branches and the final scores.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  float embedding_multiplier, attention_multiplier, logits_scaling;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        embedding_multiplier(c.positive("embedding_multiplier")),
        attention_multiplier(c.positive("attention_multiplier")),
        logits_scaling(c.positive("logits_scaling")) {
    residual_multiplier = c.positive("residual_multiplier");
    rope = Rope(c, head_dim, 10000.0f);
    mlp_bias = c.flag("mlp_bias", false);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.scale = attention_multiplier;
    return shape;
  }
};

class Granite final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  using Decoder::Decoder;
  Array logits(const Array& hidden) const override { return Decoder::logits(hidden) * (1 / config().logits_scaling); }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) * config().embedding_multiplier;
  }
};

}  // namespace

MLXK_MODEL(Granite, "granite");

}  // namespace mlxk
