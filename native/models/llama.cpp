// Llama, Mistral, IQuest-Coder and XVERSE: dense decoder. Reference: mlx-lm, models/llama.py.
// Biases on the projections where the config says so; layers may attend through a sliding window.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, true), attention_bias(c.flag("attention_bias", false)) {
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; });
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }
};

using Llama = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Llama, "llama", "mistral", "iquestcoder", "xverse");

}  // namespace mlxk
