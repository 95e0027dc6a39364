// Nemotron and Minitron: dense decoder. Reference: mlx-lm, models/nemotron.py.
// Against Llama: LayerNorm, whose weights are stored less one; part of each head is rotated; a plain feed-forward with
// squared ReLU.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.norm_eps = "norm_eps"}), attention_bias(c.flag("attention_bias", false)) {
    norm_offset = 1;
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, rotary_dims(c, head_dim, "partial_rotary_factor", 0.5f), 10000.0f);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, mlp_bias, Activation::relu2};
    return std::make_unique<PlainMLP>(layer["mlp"], shape, "up_proj", "down_proj");
  }
};

using Nemotron = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Nemotron, "nemotron");

}  // namespace mlxk
