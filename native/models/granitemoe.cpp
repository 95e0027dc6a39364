// Granite MoE: mixture of experts. Reference: mlx-lm, models/granitemoe.py.
// Against Granite: every feed-forward is a mixture, which original checkpoints hold in two tensors.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  int num_local_experts, num_experts_per_tok;
  float embedding_multiplier, attention_multiplier, logits_scaling;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        num_local_experts(c.count("num_local_experts")),
        num_experts_per_tok(c.count("num_experts_per_tok")),
        embedding_multiplier(c.positive("embedding_multiplier")),
        attention_multiplier(c.positive("attention_multiplier")),
        logits_scaling(c.positive("logits_scaling")) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    residual_multiplier = c.positive("residual_multiplier");
    rope = Rope(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.scale = attention_multiplier;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["block_sparse_moe"];
    w.split("input_linear", {{"switch_mlp.gate_proj", intermediate_size}, {"switch_mlp.up_proj", intermediate_size}});
    w.rename("output_linear", "switch_mlp.down_proj");
    return std::make_unique<SparseMoE>(
        std::make_unique<TopKRouter>(w["router"]["layer"], hidden_size, num_local_experts, num_experts_per_tok),
        GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_local_experts}));
  }
};

class GraniteMoe final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  using Decoder::Decoder;
  Array logits(const Array& hidden) const override { return Decoder::logits(hidden) * (1 / config().logits_scaling); }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) * config().embedding_multiplier;
  }
};

}  // namespace

MLXK_MODEL(GraniteMoe, "granitemoe");

}  // namespace mlxk
