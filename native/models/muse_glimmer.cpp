// Muse Glimmer: dense decoder. Reference: mlx-lm, models/muse_glimmer.py.
// Against Gemma 3, text: the norms of queries, keys and embedding have no weight; a matrix gates the output of
// attention; three layers in four slide and rotate, the fourth does neither; final scores are scaled and capped.

#include <cmath>

#include "decoder.h"
#include "text_tower.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  float post_norm_eps, qk_scale_factor, output_multiplier, final_logit_softcapping;
  std::vector<float> layer_rope_theta;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 2}}), {.default_norm_eps = 1e-5f}),
        post_norm_eps(c.positive("post_norm_eps", 1e-8f)),
        qk_scale_factor(c.positive("qk_scale_factor", 3.87f)),
        output_multiplier(c.positive("output_multiplier", 0.19611613513818404f)),
        final_logit_softcapping(c.positive("final_logit_softcapping", 20.0f)) {
    head_dim = c.dim("head_dim", 128);
    num_key_value_heads = c.count("num_key_value_heads", 2);
    c.require(num_attention_heads % num_key_value_heads == 0, "num_key_value_heads", "must divide num_attention_heads");
    const ConfigReader sliding = c.with("sliding_window", Json(int64_t{c.dim("sliding_window", 2048)}));
    windows = layer_windows(sliding, num_hidden_layers, [](int layer) { return layer % 4 != 3; });
    if (c.has("layer_rope_theta")) {
      layer_rope_theta = c.floats("layer_rope_theta");
      c.require(layer_rope_theta.size() == windows.size(), "layer_rope_theta",
                "must have one entry for each of num_hidden_layers");
    } else {
      for (const int window : windows) layer_rope_theta.push_back(window > 0 ? 1.0f : 0.0f);
    }
    const auto nested = c.maybe("rope_parameters");
    const ConfigReader& from = nested && nested->has("rope_theta") ? *nested : c;
    const float theta = from.positive("rope_theta", 500000.0f);
    from.require(theta > 1, "rope_theta", "must be above 1");
    c.require(head_dim % 2 == 0, "head_dim", "must be even to be rotated");
    rope = Rope(head_dim, theta);
  }

  // Layers whose theta is 0 rotate nothing; the others all have the one of the config.
  Rope layer_rope(int layer) const { return layer_rope_theta[static_cast<size_t>(layer)] != 0 ? rope : Rope(); }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    shape.norm_weights = false;
    shape.scale = qk_scale_factor / std::sqrt(static_cast<float>(head_dim));
    shape.output_gate = OutputGate::sigmoid;
    shape.gate_proj = "gate_proj";
    return shape;
  }

  // Of the blocks; what follows a branch has an epsilon of its own.
  RMSNorm centered(const Weights& w, float eps) const { return {w, hidden_size, eps, 1}; }
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : input_layernorm_(c.centered(w["input_layernorm"], c.rms_norm_eps)),
        self_attn_(w["self_attn"], c.attention(layer), c.layer_rope(layer)),
        post_attention_layernorm_(c.centered(w["post_attention_layernorm"], c.post_norm_eps)),
        pre_feedforward_layernorm_(c.centered(w["pre_feedforward_layernorm"], c.rms_norm_eps)),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size),
        post_feedforward_layernorm_(c.centered(w["post_feedforward_layernorm"], c.post_norm_eps)) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + post_attention_layernorm_(self_attn_(input_layernorm_(x), cache));
    return h + post_feedforward_layernorm_(mlp_(pre_feedforward_layernorm_(h)));
  }

 private:
  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_, pre_feedforward_layernorm_;
  GatedMLP mlp_;
  RMSNorm post_feedforward_layernorm_;
};

class MuseGlimmer final : public Decoder<Config, Block> {
 public:
  MuseGlimmer(const ConfigReader& reader, const Weights& w)
      : Decoder(Config(text_config(reader)), language_tower(w)), embedding_norm_(config().rms_norm_eps) {}

  Array logits(const Array& hidden) const override {
    return soft_cap(Decoder::logits(hidden) * config().output_multiplier, config().final_logit_softcapping);
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override { return embedding_norm_(Decoder::embed(ids, batch)); }

 private:
  RMSNorm embedding_norm_;
};

}  // namespace

MLXK_MODEL(MuseGlimmer, "muse_glimmer");

}  // namespace mlxk
