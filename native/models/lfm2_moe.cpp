// LFM2-MoE: hybrid of attention and short convolutions with a mixture of experts. Reference: mlx-lm,
// models/lfm2_moe.py. Against LFM2: all feed-forwards but the first few are mixtures.

#include "experts.h"
#include "lfm2.h"

namespace mlxk {
namespace {

struct Config : Lfm2Config {
  int moe_intermediate_size, num_experts, num_dense_layers;
  bool use_expert_bias;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : Lfm2Config(c),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        num_experts(c.count("num_experts")),
        num_dense_layers(c.integer("num_dense_layers", 0, 0, 4096)),
        use_expert_bias(c.flag("use_expert_bias", true)),
        routing{.k = c.count("num_experts_per_tok"),
                .normalize = c.flag("norm_topk_prob", true),
                .normalize_one = true,
                .scale = c.positive("routed_scaling_factor", 1.0f),
                .epsilon = 1e-6f} {
    intermediate_size = c.dim("intermediate_size");
    require_top_k(c, routing.k, "num_experts_per_tok", num_experts);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["feed_forward"];
    constexpr std::pair<const char*, const char*> kNames[] = {
        {"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}};  // the original names
    if (index < num_dense_layers) {
      for (const auto& [original, name] : kNames) w.rename(original, name);
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    for (const auto& [original, name] : kNames) {
      w.stack("experts", num_experts, original, std::string("switch_mlp.") + name);
    }
    stack_experts(w, num_experts);
    w.rename("expert_bias", "gate.expert_bias");
    return std::make_unique<SparseMoE>(
        std::make_unique<SigmoidRouter>(w["gate"], hidden_size, num_experts, routing,
                                        use_expert_bias ? "expert_bias" : nullptr),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts}));
  }
};

using Lfm2Moe = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Lfm2Moe, "lfm2_moe");

}  // namespace mlxk
