// What Qwen3-Next and Qwen3.5 have in common: of every few layers one attends, with a gate on what it gives, and the
// others are gated delta nets. Thread: engine thread only.

#pragma once

#include <memory>
#include <utility>

#include "decoder.h"
#include "gated_delta_net.h"

namespace mlxk {

struct QwenNextConfig : DecoderConfig {
  int full_attention_interval;
  bool attention_bias;
  GatedDeltaShape linear;

  QwenNextConfig(const ConfigReader& c, DecoderConfig decoder)
      : DecoderConfig(std::move(decoder)),
        full_attention_interval(c.count("full_attention_interval", 4)),
        attention_bias(c.flag("attention_bias", false)),
        linear(GatedDeltaShape::read(c, hidden_size, rms_norm_eps)) {}

  bool attends(int layer) const { return (layer + 1) % full_attention_interval == 0; }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends(layer)) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(GatedDeltaNet::kSlots);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const {
    if (!attends(layer)) return std::make_unique<GatedDeltaNet>(w["linear_attn"], linear);
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.gated = true;
    return std::make_unique<SelfAttention>(w["self_attn"], shape, rope);
  }
};

}  // namespace mlxk
