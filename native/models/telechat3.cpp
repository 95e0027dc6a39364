// TeleChat 3: dense decoder. Reference: mlx-lm, models/telechat3.py.
// Against Llama: not tied unless the config says so; no layer slides.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), attention_bias(c.flag("attention_bias", false)) {
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }
};

using TeleChat3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(TeleChat3, "telechat3");

}  // namespace mlxk
