// Seed-OSS: dense decoder. Reference: mlx-lm, models/seed_oss.py.
// Against Llama: the biases of q, k and v and the one of the output projection are set apart.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, attention_out_bias;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        attention_out_bias(c.flag("attention_out_bias", false)) {
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
    mlp_bias = c.flag("mlp_bias", false);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = attention_bias;
    shape.o_bias = attention_out_bias;
    return shape;
  }
};

using SeedOss = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(SeedOss, "seed_oss");

}  // namespace mlxk
