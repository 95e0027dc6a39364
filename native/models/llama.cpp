// Llama and Mistral: dense decoder. Reference: mlx-lm, models/llama.py.
// Biases on the projections where the config says so; layers may attend through a sliding window.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  Rope rope;
  std::vector<int> windows;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false)),
        windows(layer_windows(c, num_hidden_layers, [](int) { return false; })) {
    mlp_bias = c.flag("mlp_bias", false);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.window = windows[static_cast<size_t>(layer)];
    return shape;
  }
  Rope layer_rope(int) const { return rope; }
  std::unique_ptr<LayerState> new_state(int layer) const {
    return std::make_unique<KVCache>(windows[static_cast<size_t>(layer)]);
  }
};

using Llama = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Llama, "llama", "mistral");

}  // namespace mlxk
