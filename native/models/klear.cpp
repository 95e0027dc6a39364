// Klear: mixture of experts. Reference: mlx-lm, models/Klear.py.
// Against Qwen3-MoE: sigmoids route, shifted by a learnt bias for the choice alone; shared experts are blended with the
// routed ones by learnt coefficients.

#include <algorithm>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  int num_experts, n_shared_experts, moe_intermediate_size, decoder_sparse_step;
  std::vector<int> mlp_only_layers;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        num_experts(c.count_or_zero("num_experts", 0)),
        n_shared_experts(c.count("n_shared_experts", 1)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        decoder_sparse_step(c.count("decoder_sparse_step", 1)),
        routing{.k = c.count("num_experts_per_tok", 1),
                .normalize = c.flag("norm_topk_prob", false),
                .normalize_one = true} {
    if (c.has("mlp_only_layers")) mlp_only_layers = c.ints("mlp_only_layers", 0, num_hidden_layers - 1);
    if (num_experts > 0) require_top_k(c, routing.k, "num_experts_per_tok", num_experts);
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    tie_word_embeddings = false;
    rope = Rope(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
};

// c0 experts(x) + c1 shared(x), c the softmax of coefficient(x).
class BlendedMoE final : public FeedForward {
 public:
  BlendedMoE(const Config& c, const Weights& w)
      : routed_(std::make_unique<SigmoidRouter>(Linear(w["gate"], c.hidden_size, c.num_experts),
                                                w.take("expert_bias", {c.num_experts}), c.routing),
                GatedExperts(w["experts"], {c.hidden_size, c.moe_intermediate_size, c.num_experts})),
        shared_(shared_experts(w["shared_experts"], c.n_shared_experts, {c.hidden_size, c.moe_intermediate_size})),
        coefficient_(w["coefficient"], c.hidden_size, 2, true) {}

  Array operator()(const Array& x) const override {
    const auto c = mx::split(mx::softmax(coefficient_(x), -1), 2, -1);
    return routed_(x) * c[0] + (*shared_)(x)*c[1];
  }

 private:
  SparseMoE routed_;
  std::unique_ptr<FeedForward> shared_;
  Linear coefficient_;
};

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int index) const {
  const Weights w = layer["mlp"];
  const bool dense = std::ranges::find(mlp_only_layers, index) != mlp_only_layers.end();
  if (dense || num_experts == 0 || (index + 1) % decoder_sparse_step != 0) {
    return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
  }
  stack_experts(w, num_experts, "experts");
  return std::make_unique<BlendedMoE>(*this, w);
}

using Klear = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Klear, "Klear");

}  // namespace mlxk
