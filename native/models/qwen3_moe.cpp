// Qwen3-MoE and Qwen3-VL-MoE, text: mixture of experts. References: mlx-lm, models/qwen3_moe.py and
// models/qwen3_vl_moe.py.
// Against Qwen3: some feed-forwards, usually all, are mixtures. The multimodal checkpoints hold all experts of a layer
// in two transposed tensors.

#include <algorithm>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_experts, num_experts_per_tok, moe_intermediate_size, decoder_sparse_step;
  std::vector<int> mlp_only_layers;
  bool norm_topk_prob;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_experts(c.count_or_zero("num_experts", 0)),
        num_experts_per_tok(c.count("num_experts_per_tok", 1)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        decoder_sparse_step(c.count("decoder_sparse_step", 1)),
        norm_topk_prob(c.flag("norm_topk_prob", false)) {
    if (c.has("mlp_only_layers")) mlp_only_layers = c.ints("mlp_only_layers", 0, num_hidden_layers - 1);
    if (num_experts > 0) require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    rope = Rope(c, head_dim, 1000000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    const bool dense = std::ranges::find(mlp_only_layers, index) != mlp_only_layers.end();
    if (dense || num_experts == 0 || (index + 1) % decoder_sparse_step != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    stack_experts(w, num_experts);
    split_fused_experts(w, {hidden_size, moe_intermediate_size, num_experts}, true);
    return std::make_unique<SparseMoE>(
        std::make_unique<SoftmaxRouter>(w["gate"], hidden_size, num_experts, num_experts_per_tok, norm_topk_prob),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts}));
  }
};

using Qwen3Moe = Decoder<Config, PreNormBlock<Config>>;

class Qwen3VLMoe final : public Qwen3Moe {
 public:
  Qwen3VLMoe(const ConfigReader& reader, const Weights& w) : Qwen3Moe(reader.child("text_config"), language_tower(w)) {}
};

}  // namespace

MLXK_MODEL(Qwen3Moe, "qwen3_moe");
MLXK_MODEL(Qwen3VLMoe, "qwen3_vl_moe");

}  // namespace mlxk
