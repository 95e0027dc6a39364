// EXAONE 3 and 3.5: dense decoder. Reference: mlx-lm, models/exaone.py.
// Against Llama: the names of GPT-2.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true, .num_hidden_layers = "num_layers", .norm_eps = "layer_norm_epsilon"}),
        attention_bias(c.flag("attention_bias", false)) {
    mlp_bias = c.flag("mlp_bias", false);
    names = {.embed_tokens = "transformer.wte",
             .layers = "transformer.h",
             .norm = "transformer.ln_f",
             .mixer_norm = "ln_1",
             .feed_forward_norm = "ln_2"};
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.o_proj = "out_proj";
    return std::make_unique<SelfAttention>(w["attn"]["attention"], shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<GatedMLP>(w["mlp"], FeedForwardShape{hidden_size, intermediate_size, mlp_bias},
                                      GatedMLP::Names{"c_fc_0", "c_fc_1", "c_proj"});
  }
};

using Exaone = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Exaone, "exaone");

}  // namespace mlxk
