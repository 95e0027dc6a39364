// Granite 4.0: hybrid of attention and Mamba-2, dense or with a mixture of experts. Reference: mlx-lm,
// models/granitemoehybrid.py. Against Granite: most layers carry a state; positions may be left to them; each mixture
// has a shared expert.

#include <algorithm>

#include "granite.h"
#include "mamba.h"

namespace mlxk {
namespace {

struct Config : GraniteConfig {
  int num_local_experts, num_experts_per_tok, shared_intermediate_size;
  std::vector<bool> attends;  // by layer
  std::optional<Mamba2Shape> mamba;

  explicit Config(const ConfigReader& c)
      : GraniteConfig(c),
        num_local_experts(c.count_or_zero("num_local_experts", 0)),
        num_experts_per_tok(num_local_experts > 0 ? c.count("num_experts_per_tok") : 0),
        shared_intermediate_size(num_local_experts > 0 ? c.dim("shared_intermediate_size") : 0) {
    mlp_bias = c.flag("mlp_bias", false);
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    if (num_local_experts > 0) require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    if (c.text("position_embedding_type", "rope") != "nope") rope = Rope(c, head_dim, 10000.0f);
    for (const auto& type : layer_kinds(c, "layer_types", num_hidden_layers, {"attention", "mamba"})) {
      attends.push_back(type == "attention");
    }
    if (std::ranges::find(attends, false) != attends.end()) read_mamba(c);
  }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends[static_cast<size_t>(layer)]) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(Mamba2Mixer::kSlots);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const {
    if (!attends[static_cast<size_t>(layer)]) return std::make_unique<Mamba2Mixer>(w["mamba"], *mamba);
    return std::make_unique<SelfAttention>(w["self_attn"], attention(layer), rope);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    if (num_local_experts == 0) {
      w.split("shared_mlp.input_linear", {{"mlp.gate_proj", intermediate_size}, {"mlp.up_proj", intermediate_size}});
      w.rename("shared_mlp.output_linear", "mlp.down_proj");
      return std::make_unique<GatedMLP>(w["mlp"], hidden_size, intermediate_size, mlp_bias);
    }
    return mixture(w["block_sparse_moe"], num_local_experts, num_experts_per_tok,
                   std::make_unique<FusedGatedMLP>(w["shared_mlp"], hidden_size, shared_intermediate_size,
                                                   "input_linear", "output_linear"));
  }

 private:
  void read_mamba(const ConfigReader& c) {
    mamba = Mamba2Shape{.hidden_size = hidden_size,
                        .heads = c.count("mamba_n_heads"),
                        .head_dim = c.dim("mamba_d_head"),
                        .groups = c.count("mamba_n_groups"),
                        .state_size = c.dim("mamba_d_state"),
                        .kernel = c.integer("mamba_d_conv", 4, 1, 1024),
                        .conv_bias = c.flag("mamba_conv_bias", false),
                        .bias = c.flag("mamba_proj_bias", false),
                        .out_bias = c.flag("mamba_proj_bias", false),
                        .limit = TimeStepLimit::read(c, {0.001f, 100.0f}),
                        .norm_eps = rms_norm_eps};
    mamba->check(c, {"mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state"});
  }
};

using GraniteMoeHybrid = GraniteDecoder<Config>;

}  // namespace

MLXK_MODEL(GraniteMoeHybrid, "granitemoehybrid");

}  // namespace mlxk
