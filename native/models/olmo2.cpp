// OLMo 2: dense decoder. Reference: mlx-lm, models/olmo2.py.
// Against Llama: norms stand after attention and feed-forward, not before; q and k are normalized as a whole.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, true), attention_bias(c.flag("attention_bias", false)) {
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
    mlp_bias = c.flag("mlp_bias", false);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.qk_norm = QKNorm::whole;
    return shape;
  }
};

using Olmo2 = Decoder<Config, PostNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Olmo2, "olmo2");

}  // namespace mlxk
