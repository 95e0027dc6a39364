// Kimi Linear: hybrid of latent attention and Kimi delta attention with a mixture of experts. Reference: mlx-lm,
// models/kimi_linear.py. Against DeepSeek-V3: nothing is rotated; most layers carry a state by the gated delta rule,
// every channel of it fading at a rate of its own (arXiv 2510.26692).

#include <algorithm>
#include <cmath>

#include "decoder.h"
#include "experts.h"
#include "kimi_delta_attention.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  std::vector<int> kda_layers;  // counted from 1
  int num_experts, moe_intermediate_size, num_shared_experts, first_k_dense_replace, moe_layer_freq;
  GroupedTopK routing{};
  LatentShape latent;
  KimiDeltaShape delta;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_experts(c.count_or_zero("num_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        num_shared_experts(c.count_or_zero("num_shared_experts", 0)),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        moe_layer_freq(c.count("moe_layer_freq", 1)),
        latent(LatentShape::read(c.or_else({{"qk_nope_head_dim", head_dim}, {"v_head_dim", head_dim}}), hidden_size,
                                 num_attention_heads)) {
    const ConfigReader linear = c.child("linear_attn_config");
    kda_layers = linear.ints("kda_layers", 1, num_hidden_layers);
    delta = {.hidden_size = hidden_size,
             .heads = linear.count("num_heads"),
             .head_dim = linear.dim("head_dim"),
             .kernel = linear.integer("short_conv_kernel_size", 4, 1, 1024),
             .norm_eps = rms_norm_eps};
    heads_width(delta.heads, delta.head_dim, "linear_attn_config.num_heads * head_dim");
    latent.q_lora_rank = 0;
    latent.bias = false;
    latent.norm_eps = rms_norm_eps;
    latent.scale = 1 / std::sqrt(static_cast<float>(latent.qk_nope_head_dim + latent.qk_rope_head_dim));
    if (num_experts > 0) read_routing(c);
  }

  bool attends(int layer) const { return std::ranges::find(kda_layers, layer + 1) == kda_layers.end(); }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends(layer)) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(KimiDeltaAttention::kSlots);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["self_attn"];
    if (attends(index)) return std::make_unique<LatentAttention>(w, latent, Rope());
    for (const char* name : {"q_conv", "k_conv", "v_conv"})
      w.rename(std::string(name) + ".conv", std::string(name) + "1d");
    return std::make_unique<KimiDeltaAttention>(w, delta);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (num_experts == 0 || index < first_k_dense_replace || index % moe_layer_freq != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    // The original names.
    const Weights original = layer["block_sparse_moe"];
    original.rename("gate.e_score_correction_bias", "e_score_correction_bias");
    layer.rename("block_sparse_moe", "mlp");
    w.stack("experts", num_experts, "w1", "switch_mlp.gate_proj");
    w.stack("experts", num_experts, "w2", "switch_mlp.down_proj");
    w.stack("experts", num_experts, "w3", "switch_mlp.up_proj");
    w.rename("e_score_correction_bias", "gate.e_score_correction_bias");
    return grouped_moe(w, {hidden_size, moe_intermediate_size, num_experts}, routing, num_shared_experts);
  }

 private:
  void read_routing(const ConfigReader& c) {
    const std::string function = c.text("moe_router_activation_func", "sigmoid");
    c.require(function == "sigmoid" || function == "softmax", "moe_router_activation_func",
              "must be sigmoid or softmax");
    routing = {.k = c.count("num_experts_per_token", 1),
               .groups = c.count("num_expert_group", 1),
               .top_groups = c.count("topk_group", 1),
               .normalize = c.flag("moe_renormalize", true),
               .scale = c.positive("routed_scaling_factor", 1.0f),
               .epsilon = 1e-20f,
               .softmax = function == "softmax"};
    require_top_k(c, routing.k, "num_experts_per_token", num_experts);
    c.require(num_experts % routing.groups == 0, "num_expert_group", "must divide num_experts");
    c.require(routing.top_groups <= routing.groups, "topk_group", "must be at most num_expert_group");
    c.require(routing.k <= num_experts / routing.groups * routing.top_groups, "num_experts_per_token",
              "must be at most the number of experts in topk_group groups");
  }
};

class KimiLinear final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  KimiLinear(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    w["model.mtp"].discard();  // layers that predict ahead
  }
};

}  // namespace

MLXK_MODEL(KimiLinear, "kimi_linear");

}  // namespace mlxk
