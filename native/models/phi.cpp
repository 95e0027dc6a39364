// Phi-1, Phi-1.5 and Phi-2: dense decoder. Reference: mlx-lm, models/phi.py.
// Against Llama: LayerNorm; attention and a plain feed-forward side by side; biases everywhere; part of each head is
// rotated.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.norm_eps = "layer_norm_eps", .default_norm_eps = 1e-5f}) {
    tie_word_embeddings = false;
    lm_head_bias = true;
    names.norm = "model.final_layernorm";
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    const int dims = rotary_dims(c, head_dim, "partial_rotary_factor", 0.4f);
    rope = Rope(c, dims, 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = true;
    shape.o_proj = "dense";
    return shape;
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, true, Activation::gelu_tanh};
    return std::make_unique<PlainMLP>(w["mlp"], shape, "fc1", "fc2");
  }
};

using Phi = Decoder<Config, ParallelBlock<Config>>;

}  // namespace

MLXK_MODEL(Phi, "phi");

}  // namespace mlxk
