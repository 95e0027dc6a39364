// ERNIE 4.5 MoE: mixture of experts. Reference: mlx-lm, models/ernie4_5_moe.py.
// Against ERNIE 4.5: some layers are mixtures, with shared experts where the config asks for them.

#include <algorithm>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

// One layer for text and images alike, or one for each: then `choose` of them counts.
int layer_index(const ConfigReader& c, const char* field, int fallback, int (*choose)(const std::vector<int>&)) {
  const Json* value = c.find(field);
  if (!value || !value->is_array()) return c.integer(field, fallback, -1, 4096);
  const auto layers = c.ints(field, -1, 4096);
  c.require(!layers.empty(), field, "must not be empty");
  return choose(layers);
}

struct Config : DecoderConfig {
  bool use_bias;
  int moe_num_experts, moe_num_shared_experts, moe_intermediate_size;
  int moe_layer_start_index, moe_layer_end_index, moe_layer_interval;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        use_bias(c.flag("use_bias", false)),
        moe_num_experts(c.count("moe_num_experts")),
        moe_num_shared_experts(c.count_or_zero("moe_num_shared_experts", 0)),
        moe_intermediate_size(c.integer("moe_intermediate_size", 0, 0, 1 << 20)),
        moe_layer_start_index(
            layer_index(c, "moe_layer_start_index", 0, [](const auto& l) { return std::ranges::min(l); })),
        moe_layer_end_index(layer_index(c, "moe_layer_end_index", num_hidden_layers - 1,
                                        [](const auto& l) { return std::ranges::max(l); })),
        moe_layer_interval(c.count("moe_layer_interval", 1)),
        routing{.k = c.count("moe_k", 1), .normalize_one = true} {
    require_top_k(c, routing.k, "moe_k", moe_num_experts);
    if (moe_layer_end_index == -1) moe_layer_end_index = num_hidden_layers - 1;  // the last, as transformers has it
    const std::string act = c.text("moe_gate_act", "softmax");
    c.require(act == "softmax" || act == "sigmoid", "moe_gate_act", "must be softmax or sigmoid");
    routing.softmax = act == "softmax";
    if (moe_intermediate_size == 0) moe_intermediate_size = intermediate_size;
    mlp_bias = use_bias;
    rope = Rope(c, head_dim, 10000.0f, true);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = use_bias;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    w.discard_suffix("e_score_correction_bias");
    if ((index + 1) % moe_layer_interval != 0 || index < moe_layer_start_index || index > moe_layer_end_index) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size, use_bias);
    }
    stack_experts(w, moe_num_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<SigmoidRouter>(Linear(w["gate"], hidden_size, moe_num_experts), Array(), routing),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, moe_num_experts, use_bias}),
        shared_experts(w["shared_experts"], moe_num_shared_experts, {hidden_size, moe_intermediate_size, use_bias}));
  }
};

class Ernie45Moe final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Ernie45Moe(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    // Those predict further tokens ahead; nothing here runs them.
    for (const char* part : {"mtp_block", "mtp_linear_proj", "mtp_hidden_norm", "mtp_emb_norm"}) {
      w["model"][part].discard();
    }
  }
};

}  // namespace

MLXK_MODEL(Ernie45Moe, "ernie4_5_moe");

}  // namespace mlxk
