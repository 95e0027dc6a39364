// Helium: dense decoder. Reference: mlx-lm, models/helium.py.
// Against Llama: neighbouring pairs are rotated; no bias on the output of attention.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), attention_bias(c.flag("attention_bias", false)) {
    split_heads(c);
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 100000.0f, true);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = attention_bias;
    return shape;
  }
};

using Helium = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Helium, "helium");

}  // namespace mlxk
