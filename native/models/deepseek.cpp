// DeepSeek-MoE: mixture of experts. Reference: mlx-lm, models/deepseek.py.
// Against Llama: all layers but the first few are mixtures with shared experts, weighed by a softmax that is not
// normalized again.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  int n_routed_experts, n_shared_experts, num_experts_per_tok, moe_intermediate_size, first_k_dense_replace,
      moe_layer_freq;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, DecoderFields{.default_norm_eps = 1e-6f}),
        attention_bias(c.flag("attention_bias", false)),
        n_routed_experts(c.count_or_zero("n_routed_experts", 0)),
        n_shared_experts(c.count_or_zero("n_shared_experts", 0)),
        num_experts_per_tok(c.count("num_experts_per_tok", 1)),
        moe_intermediate_size(c.dim("moe_intermediate_size", 1407)),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        moe_layer_freq(c.count("moe_layer_freq", 1)) {
    if (n_routed_experts > 0) require_top_k(c, num_experts_per_tok, "num_experts_per_tok", n_routed_experts);
    tie_word_embeddings = false;
    rope = Rope(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (n_routed_experts == 0 || index < first_k_dense_replace || index % moe_layer_freq != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    stack_experts(w, n_routed_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<SoftmaxRouter>(w["gate"], hidden_size, n_routed_experts, num_experts_per_tok, false),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, n_routed_experts}),
        shared_experts(w["shared_experts"], n_shared_experts, {hidden_size, moe_intermediate_size}));
  }
};

using Deepseek = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Deepseek, "deepseek");

}  // namespace mlxk
