// Jamba: hybrid of attention and Mamba with a mixture of experts. Reference: mlx-lm, models/jamba.py.
// Against Mamba: what the recurrence reads is normalized; some layers attend, to unrotated positions; every layer has a
// feed-forward, every few a mixture.

#include "decoder.h"
#include "experts.h"
#include "mamba.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_experts, num_experts_per_tok, expert_layer_offset, expert_layer_period;
  std::vector<bool> attends;  // by layer
  MambaShape mamba;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        num_experts(c.count("num_experts", 1)),
        num_experts_per_tok(c.count("num_experts_per_tok", 1)),
        expert_layer_offset(c.integer("expert_layer_offset", 1, 0, 4096)),
        expert_layer_period(c.count("expert_layer_period", 2)),
        mamba{.hidden_size = hidden_size,
              .inner = heads_width(c.count("mamba_expand", 2), hidden_size, "mamba_expand * hidden_size"),
              .state_size = c.dim("mamba_d_state", 16),
              .kernel = c.integer("mamba_d_conv", 4, 1, 1024),
              .time_step_rank = read_time_step_rank(c, "mamba_dt_rank", hidden_size),
              .conv_bias = c.flag("mamba_conv_bias", true),
              .bias = c.flag("mamba_proj_bias", false),
              .norm = MambaShape::Norm::learnt,
              .norm_eps = rms_norm_eps} {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    names.norm = "model.final_layernorm";
    names.feed_forward_norm = "pre_ff_layernorm";
    if (c.has("layers_block_type")) {
      for (const auto& kind : layer_kinds(c, "layers_block_type", num_hidden_layers, {"attention", "mamba"})) {
        attends.push_back(kind == "attention");
      }
      return;
    }
    const int period = c.count("attn_layer_period"), offset = c.integer("attn_layer_offset", 0, 0, 4096);
    for (int i = 0; i < num_hidden_layers; ++i) attends.push_back(i % period == offset);
  }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends[static_cast<size_t>(layer)]) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(MambaMixer::kSlots);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const {
    if (!attends[static_cast<size_t>(layer)]) return std::make_unique<MambaMixer>(w["mamba"], mamba);
    return std::make_unique<SelfAttention>(w["self_attn"], AttentionShape::of(*this), Rope());
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["feed_forward"];
    if (num_experts == 1 || (index + expert_layer_offset) % expert_layer_period != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    stack_experts(w, num_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<TopKRouter>(w["router"], hidden_size, num_experts, num_experts_per_tok),
        GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_experts}));
  }
};

using Jamba = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Jamba, "jamba");

}  // namespace mlxk
