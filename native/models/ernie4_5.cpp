// ERNIE 4.5, dense: decoder. Reference: mlx-lm, models/ernie4_5.py.
// Against Llama: rotates neighbouring pairs; one flag gives every projection its bias.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, false) {
    mlp_bias = c.flag("use_bias", false);
    c.require(head_dim % 2 == 0, "head_dim", "must be even to be rotated");
    rope = Rope(head_dim, c.positive("rope_theta", 10000.0f), true);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = mlp_bias;
    return shape;
  }
};

using Ernie45 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Ernie45, "ernie4_5");

}  // namespace mlxk
