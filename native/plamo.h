// What the PLaMo 2 and 3 families share: norms around every mixer and feed-forward, each with an offset of its own, and
// the names. Reference: mlx-lm 0.32.2, models/plamo2.py. Thread: engine thread only.

#pragma once

#include <cmath>
#include <memory>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {

// h = x + norm(mixer(norm(x))); h + norm(feed_forward(norm(h))). Config: a DecoderConfig with `mixer`.
template <class Config>
class PlamoBlock {
 public:
  PlamoBlock(const Config& c, const Weights& w, int layer)
      : pre_mixer_norm_(norm(c, w["pre_mixer_norm"], 1)),
        mixer_(c.mixer(w["mixer"], layer)),
        post_mixer_norm_(norm(c, w["post_mixer_norm"], 1 / 5.0f)),
        pre_mlp_norm_(norm(c, w["pre_mlp_norm"], 1)),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size),
        post_mlp_norm_(norm(c, w["post_mlp_norm"], 1 / std::pow(5.0f, 1.5f))) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + post_mixer_norm_((*mixer_)(pre_mixer_norm_(x), cache));
    return h + post_mlp_norm_(mlp_(pre_mlp_norm_(h)));
  }

 private:
  static RMSNorm norm(const Config& c, const Weights& w, float offset) {
    return {w, c.hidden_size, c.rms_norm_eps, offset};
  }

  RMSNorm pre_mixer_norm_;
  std::unique_ptr<Mixer> mixer_;
  RMSNorm post_mixer_norm_, pre_mlp_norm_;
  FusedGatedMLP mlp_;
  RMSNorm post_mlp_norm_;
};

// qkv_proj in three, for SelfAttention.
template <class Config>
void split_qkv(const Config& c, const Weights& w) {
  const int keys = heads_width(c.num_key_value_heads, c.head_dim);
  w.split("qkv_proj", {{"q_proj", heads_width(c.num_attention_heads, c.head_dim)}, {"k_proj", keys}, {"v_proj", keys}});
}

}  // namespace mlxk
