// What the Granite families share: four multipliers, on the embedding, the attention scores, the residual branches and
// the final scores, and mixtures that original checkpoints hold in two tensors. Thread: engine thread only.

#pragma once

#include <memory>

#include "decoder.h"
#include "experts.h"

namespace mlxk {

struct GraniteConfig : DecoderConfig {
  bool attention_bias;
  float embedding_multiplier, attention_multiplier, logits_scaling;

  explicit GraniteConfig(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        embedding_multiplier(c.positive("embedding_multiplier")),
        attention_multiplier(c.positive("attention_multiplier")),
        logits_scaling(c.positive("logits_scaling")) {
    residual_multiplier = c.positive("residual_multiplier");
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.scale = attention_multiplier;
    return shape;
  }

  // Tensors: router.layer; input_linear and output_linear, or switch_mlp.
  std::unique_ptr<FeedForward> mixture(const Weights& w, int experts, int k,
                                       std::unique_ptr<FeedForward> shared = nullptr) const {
    w.split("input_linear", {{"switch_mlp.gate_proj", intermediate_size}, {"switch_mlp.up_proj", intermediate_size}});
    w.rename("output_linear", "switch_mlp.down_proj");
    return std::make_unique<SparseMoE>(std::make_unique<TopKRouter>(w["router.layer"], hidden_size, experts, k),
                                       GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, experts}),
                                       std::move(shared));
  }
};

// Config: a GraniteConfig.
template <class Config>
class GraniteDecoder final : public Decoder<Config, PreNormBlock<Config>> {
  using Base = Decoder<Config, PreNormBlock<Config>>;

 public:
  using Base::Base;
  Array logits(const Array& hidden) const override {
    return Base::logits(hidden) * (1 / this->config().logits_scaling);
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Base::embed(ids, batch) * this->config().embedding_multiplier;
  }
};

}  // namespace mlxk
