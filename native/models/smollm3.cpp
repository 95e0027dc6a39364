// SmolLM3: dense decoder. Reference: mlx-lm, models/smollm3.py.
// Against Llama: some layers, by default every fourth, rotate nothing.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  Rope rope;
  std::vector<int> rotates;  // per layer, 1 or 0

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false)) {
    mlp_bias = c.flag("mlp_bias", false);
    const int interval = c.count("no_rope_layer_interval", 4);
    for (int i = 0; i < num_hidden_layers; ++i) rotates.push_back((i + 1) % interval != 0);
    if (!c.has("no_rope_layers")) return;
    rotates = c.ints("no_rope_layers", 0, 1);
    c.require(rotates.size() == static_cast<size_t>(num_hidden_layers), "no_rope_layers",
              "must have one entry for each of num_hidden_layers");
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }
  Rope layer_rope(int layer) const { return rotates[static_cast<size_t>(layer)] ? rope : Rope(); }
};

using SmolLM3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(SmolLM3, "smollm3");

}  // namespace mlxk
