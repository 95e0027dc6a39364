// Qwen3-Next: hybrid of attention and gated delta nets with a mixture of experts. Reference: mlx-lm,
// models/qwen3_next.py. Against Qwen3-MoE: of every few layers one attends, with a gate on what it gives, and the
// others carry a state; each mixture has a shared expert behind a gate.

#include <algorithm>
#include <string>

#include "experts.h"
#include "qwen_next.h"

namespace mlxk {
namespace {

struct Config : QwenNextConfig {
  int num_experts, num_experts_per_tok, decoder_sparse_step, moe_intermediate_size, shared_expert_intermediate_size;
  bool norm_topk_prob;
  std::vector<int> mlp_only_layers;

  explicit Config(const ConfigReader& c)
      : QwenNextConfig(c, DecoderConfig(c, false)),
        num_experts(c.count_or_zero("num_experts", 0)),
        num_experts_per_tok(c.count("num_experts_per_tok", 1)),
        decoder_sparse_step(c.count("decoder_sparse_step", 1)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        shared_expert_intermediate_size(c.dim("shared_expert_intermediate_size")),
        norm_topk_prob(c.flag("norm_topk_prob", false)) {
    if (c.has("mlp_only_layers")) mlp_only_layers = c.ints("mlp_only_layers", 0, num_hidden_layers - 1);
    if (num_experts > 0) require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    rope = Rope(c, rotary_dims(c, head_dim, "partial_rotary_factor", 0.25f), 10000000.0f);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    const bool dense = std::ranges::find(mlp_only_layers, index) != mlp_only_layers.end();
    if (dense || num_experts == 0 || (index + 1) % decoder_sparse_step != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    return shared_expert_moe(w, {hidden_size, moe_intermediate_size, num_experts}, num_experts_per_tok, norm_topk_prob,
                             shared_expert_intermediate_size);
  }
};

// Original checkpoints, told by their experts one by one, hold the norms less one, and further layers that predict
// ahead.
Config prepared(Config c, const Weights& w) {
  w["mtp"].discard();
  const Weights layers = w[c.names.layers];
  bool original = false;
  for (int i = 0; i < c.num_hidden_layers; ++i) original |= layers[i]["mlp.experts.0.up_proj"].has("weight");
  if (original) c.norm_offset = 1;
  return c;
}

class Qwen3Next final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Qwen3Next(const ConfigReader& reader, const Weights& w) : Decoder(prepared(Config(reader), w), w) {}
};

}  // namespace

MLXK_MODEL(Qwen3Next, "qwen3_next");

}  // namespace mlxk
