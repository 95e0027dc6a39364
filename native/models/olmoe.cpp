// OLMoE: mixture of experts. Reference: mlx-lm, models/olmoe.py.
// Against Llama: q and k are normalized over all heads together; every feed-forward is a mixture.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, norm_topk_prob;
  int num_experts, num_experts_per_tok;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        norm_topk_prob(c.flag("norm_topk_prob", false)),
        num_experts(c.count("num_experts")),
        num_experts_per_tok(c.count("num_experts_per_tok")) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.qk_norm = QKNorm::whole;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["mlp"];
    stack_experts(w, num_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<SoftmaxRouter>(w["gate"], hidden_size, num_experts, num_experts_per_tok, norm_topk_prob),
        GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_experts, mlp_bias}));
  }
};

using Olmoe = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Olmoe, "olmoe");

}  // namespace mlxk
