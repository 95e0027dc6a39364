// GPT-2: dense decoder. Reference: mlx-lm, models/gpt2.py.
// Against Llama: LayerNorm, learnt positions, a plain feed-forward, biases everywhere; the original checkpoints hold
// their matrices transposed and without the prefix `model.`.

#include <string>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  int n_positions;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.tied = true,
                            .hidden_size = "n_embd",
                            .num_hidden_layers = "n_layer",
                            .intermediate_size = nullptr,
                            .num_attention_heads = "n_head",
                            .norm_eps = "layer_norm_epsilon"}),
        n_positions(c.dim("n_positions")) {
    c.require(hidden_size % num_attention_heads == 0, "n_head", "must divide n_embd");
    head_dim = hidden_size / num_attention_heads;
    num_key_value_heads = num_attention_heads;
    tie_word_embeddings = true;
    intermediate_size = 4 * hidden_size;
    names = {.embed_tokens = "model.wte",
             .layers = "model.h",
             .norm = "model.ln_f",
             .mixer_norm = "ln_1",
             .feed_forward_norm = "ln_2"};
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attn"];
    w.split("c_attn", {{"q_proj", hidden_size}, {"k_proj", hidden_size}, {"v_proj", hidden_size}});
    auto shape = AttentionShape::of(*this, index);
    shape.qkv_bias = shape.o_bias = true;
    shape.o_proj = "c_proj";
    return std::make_unique<SelfAttention>(w, shape, Rope());
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, true, Activation::gelu_tanh};
    return std::make_unique<PlainMLP>(layer["mlp"], shape, "c_fc", "c_proj");
  }
};

// The layout of the original checkpoints, where there is one.
Config prepared(Config c, const Weights& w) {
  if (!w.has("wte.weight")) return c;
  for (const char* name : {"wte", "wpe", "h", "ln_f"}) w.rename(name, std::string("model.") + name);
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    const Weights layer = w[c.names.layers][i];
    layer["attn"].drop("bias");  // the causal mask
    layer["attn"].drop("masked_bias");
    for (const char* name : {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}) {
      if (layer[name].has("weight") && !layer[name].has("scales")) {
        layer[name].put("weight", mx::contiguous(mx::transpose(layer[name].peek("weight"))));
      }
    }
  }
  return c;
}

class Gpt2 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Gpt2(const ConfigReader& reader, const Weights& w)
      : Decoder(prepared(Config(reader), w), w), wpe_(w["model"]["wpe"], config().n_positions, config().hidden_size) {}

  int positions() const override { return config().n_positions; }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) + wpe_(batch.positions());
  }

 private:
  Embedding wpe_;
};

}  // namespace

MLXK_MODEL(Gpt2, "gpt2");

}  // namespace mlxk
