// Spark 2.5: dense decoder. Reference: mlx-lm, models/spark2_5.py.
// Against Llama: one matrix for queries, keys and values; a gate scales each head; three layers in four slide, with a
// rotation of their own; GELU.

#include <algorithm>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  Rope sliding_rope;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true, .default_norm_eps = 1e-6f}), attention_bias(c.flag("attention_bias", false)) {
    mlp_bias = c.flag("mlp_bias", false);
    activation = read_activation(c, "hidden_act", "gelu");
    c.require(c.flag("headwise_attn_output_gate", true), "headwise_attn_output_gate", "must be true");
    c.require(c.text("gate_attn_act_mode", "sigmoid") == "sigmoid", "gate_attn_act_mode", "must be sigmoid");
    windows = layer_windows(c, num_hidden_layers, [](int layer) { return layer % 4 != 3; });
    const ConfigReader parameters = c.child("rope_parameters");
    const auto rope_of = [&](const char* kind) {
      const ConfigReader p = parameters.child(kind);
      return Rope::of_parameters(p, rotary_dims(p, head_dim, "partial_rotary_factor", 1.0f), 10000.0f);
    };
    const auto slides = [](int w) { return w > 0; };
    if (std::ranges::any_of(windows, slides)) sliding_rope = rope_of("sliding_attention");
    if (!std::ranges::all_of(windows, slides)) rope = rope_of("full_attention");
    names.embed_tokens = "model.embedding";
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["self_attn"];
    const int kv = heads_width(num_key_value_heads, head_dim);
    w.split("q_k_v_proj", {{"q_proj", heads_width(num_attention_heads, head_dim)}, {"k_proj", kv}, {"v_proj", kv}});
    auto shape = AttentionShape::of(*this, index);
    shape.qkv_bias = shape.o_bias = shape.gate_bias = attention_bias;
    shape.o_proj = "out_proj";
    shape.output_gate = OutputGate::sigmoid_per_head;
    return std::make_unique<SelfAttention>(w, shape, window(index) > 0 ? sliding_rope : rope);
  }
};

Config prepared(Config c, const Weights& w) {
  w.rename("model.embed_tokens", c.names.embed_tokens);
  return c;
}

class Spark25 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Spark25(const ConfigReader& reader, const Weights& w) : Decoder(prepared(Config(reader), w), w) {}
};

}  // namespace

MLXK_MODEL(Spark25, "spark2_5");

}  // namespace mlxk
