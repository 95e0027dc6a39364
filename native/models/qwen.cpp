// Qwen, the first: dense decoder. Reference: mlx-lm, models/qwen.py.
// Against Llama: the names of GPT-2; q, k and v are one matrix with biases; intermediate_size counts gate and up.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool bias;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.norm_eps = "layer_norm_epsilon", .default_norm_eps = 1e-6f}),
        bias(!c.flag("no_bias", true)) {
    split_heads(c);
    num_key_value_heads = num_attention_heads;
    c.require(c.dim("kv_channels", head_dim) == head_dim, "kv_channels", "must be the heads' share of hidden_size");
    c.require(intermediate_size >= 2, "intermediate_size", "must be at least 2");
    intermediate_size /= 2;
    tie_word_embeddings = false;
    lm_head_bias = bias;
    names = {.embed_tokens = "transformer.wte",
             .layers = "transformer.h",
             .norm = "transformer.ln_f",
             .mixer_norm = "ln_1",
             .feed_forward_norm = "ln_2"};
    c.require(head_dim % 2 == 0, "num_attention_heads", "must leave heads of even width, to be rotated");
    rope = Rope(head_dim, 10000.0f);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attn"];
    w.split("c_attn", {{"q_proj", hidden_size}, {"k_proj", hidden_size}, {"v_proj", hidden_size}});
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = true;
    shape.o_bias = bias;
    shape.o_proj = "c_proj";
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    return std::make_unique<GatedMLP>(layer["mlp"], FeedForwardShape{hidden_size, intermediate_size, bias},
                                      GatedMLP::Names{"w2", "w1", "c_proj"});
  }
};

using Qwen = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen, "qwen");

}  // namespace mlxk
