// StarCoder 2: dense decoder. Reference: mlx-lm, models/starcoder2.py.
// Against Llama: LayerNorm, a plain feed-forward, biases everywhere.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.tied = true, .norm_eps = "norm_epsilon", .default_norm_eps = 1e-5f}) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    rope = Rope(c, head_dim, 100000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = true;
    return shape;
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, true, Activation::gelu};
    return std::make_unique<PlainMLP>(w["mlp"], shape, "c_fc", "c_proj");
  }
};

using StarCoder2 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(StarCoder2, "starcoder2");

}  // namespace mlxk
