// dots.llm1: mixture of experts. Reference: mlx-lm, models/dots1.py.
// Against Qwen3: all layers but the first few are mixtures with shared experts, routed as DeepSeek-V3's.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int n_routed_experts, n_shared_experts, moe_intermediate_size, first_k_dense_replace;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        n_routed_experts(c.count("n_routed_experts")),
        n_shared_experts(c.count_or_zero("n_shared_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        routing(read_grouped_top_k(c, n_routed_experts)) {
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (index < first_k_dense_replace) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size, mlp_bias);
    }
    stack_experts(w, n_routed_experts, "experts");
    return std::make_unique<SparseMoE>(
        std::make_unique<SigmoidRouter>(w["gate"], hidden_size, n_routed_experts, routing),
        GatedExperts(w["experts"], {hidden_size, moe_intermediate_size, n_routed_experts}),
        shared_experts(w["shared_experts"], n_shared_experts, {hidden_size, moe_intermediate_size, mlp_bias}));
  }
};

using Dots1 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Dots1, "dots1");

}  // namespace mlxk
