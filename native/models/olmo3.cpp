// OLMo 3: dense decoder. Reference: mlx-lm, models/olmo3.py.
// Against OLMo 2: three of four layers slide, and those rotate without the scaling.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  Rope plain;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        plain(head_dim, c.positive("rope_theta", 500000.0f)) {
    rope = Rope(c, head_dim, 500000.0f);
    windows = layer_windows(c, num_hidden_layers, [](int layer) { return (layer + 1) % 4 != 0; });
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.qk_norm = QKNorm::whole;
    return shape;
  }
  Rope layer_rope(int layer) const { return window(layer) > 0 ? plain : rope; }
};

using Olmo3 = Decoder<Config, PostNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Olmo3, "olmo3");

}  // namespace mlxk
