// StarCoder and SantaCoder: dense decoder. Reference: mlx-lm, models/gpt_bigcode.py.
// Against GPT-2: all heads look at one key and value; the exact gelu.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  int n_positions;
  bool attention_bias;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.tied = true,
                            .hidden_size = "n_embd",
                            .num_hidden_layers = "n_layer",
                            .intermediate_size = nullptr,
                            .num_attention_heads = "n_head",
                            .norm_eps = "layer_norm_epsilon"}),
        n_positions(c.dim("n_positions")),
        attention_bias(c.flag("attention_bias", true)) {
    split_heads(c, "n_head");
    num_key_value_heads = c.flag("multi_query", true) ? 1 : num_attention_heads;
    intermediate_size = c.dim("n_inner", 4 * hidden_size);
    mlp_bias = c.flag("mlp_bias", true);
    names = {.embed_tokens = "transformer.wte",
             .layers = "transformer.h",
             .norm = "transformer.ln_f",
             .mixer_norm = "ln_1",
             .feed_forward_norm = "ln_2"};
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attn"];
    w.drop("bias");  // the causal mask
    w.drop("masked_bias");
    const int keys = num_key_value_heads * head_dim;
    w.split("c_attn", {{"q_proj", hidden_size}, {"k_proj", keys}, {"v_proj", keys}});
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.o_proj = "c_proj";
    return std::make_unique<SelfAttention>(w, shape, Rope());
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, mlp_bias, Activation::gelu};
    return std::make_unique<PlainMLP>(layer["mlp"], shape, "c_fc", "c_proj");
  }
};

class GptBigCode final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  GptBigCode(const ConfigReader& reader, const Weights& w)
      : Decoder(reader, w), wpe_(w["transformer"]["wpe"], config().n_positions, config().hidden_size) {}

  int positions() const override { return config().n_positions; }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) + wpe_(batch.positions());
  }

 private:
  Embedding wpe_;
};

}  // namespace

MLXK_MODEL(GptBigCode, "gpt_bigcode");

}  // namespace mlxk
