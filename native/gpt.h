// What GPT-2 and the models after it share: LayerNorm, learnt positions, queries, keys and values in one matrix, a
// plain feed-forward. Thread: engine thread only.

#pragma once

#include <memory>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {

struct GptConfig : LayerNormConfig {
  int n_positions;
  const char* wpe;
  bool attention_bias = true;

  // Heads have keys and values of their own until the architecture says otherwise. `names`: of mixer_norm and
  // feed_forward_norm those set here.
  GptConfig(const ConfigReader& c, const char* positions, const DecoderNames& names)
      : LayerNormConfig(c, {.tied = true,
                            .hidden_size = "n_embd",
                            .num_hidden_layers = "n_layer",
                            .intermediate_size = nullptr,
                            .num_attention_heads = "n_head",
                            .norm_eps = "layer_norm_epsilon"}),
        n_positions(c.dim("n_positions")),
        wpe(positions) {
    split_heads(c, "n_head");
    num_key_value_heads = num_attention_heads;
    intermediate_size = 4 * hidden_size;
    mlp_bias = true;
    activation = Activation::gelu_tanh;
    this->names = names;
    this->names.mixer_norm = "ln_1";
    this->names.feed_forward_norm = "ln_2";
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attn"];
    w.drop("bias");  // the causal mask
    w.drop("masked_bias");
    const int keys = num_key_value_heads * head_dim;
    w.split("c_attn", {{"q_proj", hidden_size}, {"k_proj", keys}, {"v_proj", keys}});
    auto shape = AttentionShape::of(*this, index);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.o_proj = "c_proj";
    return std::make_unique<SelfAttention>(w, shape, Rope());
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    return std::make_unique<PlainMLP>(
        layer["mlp"], FeedForwardShape{hidden_size, intermediate_size, mlp_bias, activation}, "c_fc", "c_proj");
  }
};

// Config: a GptConfig.
template <class Config>
class GptDecoder : public Decoder<Config, PreNormBlock<Config>> {
  using Base = Decoder<Config, PreNormBlock<Config>>;

 public:
  GptDecoder(Config c, const Weights& w)
      : Base(std::move(c), w), wpe_(w[this->config().wpe], this->config().n_positions, this->config().hidden_size) {}
  GptDecoder(const ConfigReader& reader, const Weights& w) : GptDecoder(Config(reader), w) {}

  int positions() const override { return this->config().n_positions; }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Base::embed(ids, batch) + wpe_(batch.positions());
  }

 private:
  Embedding wpe_;
};

}  // namespace mlxk
