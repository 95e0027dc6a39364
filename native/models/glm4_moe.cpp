// GLM-4.5, GLM-4.6 and Solar Open: mixture of experts. References: mlx-lm, models/glm4_moe.py and models/solar_open.py.
// Against Llama: part of each head is rotated, q and k may be normalized; all layers but the first few are mixtures
// with a shared expert, routed as DeepSeek-V3's.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, use_qk_norm;
  int n_routed_experts, n_shared_experts, moe_intermediate_size, first_k_dense_replace;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        use_qk_norm(c.flag("use_qk_norm", false)),
        n_routed_experts(c.count_or_zero("n_routed_experts", 0)),
        n_shared_experts(c.count_or_zero("n_shared_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        routing(read_grouped_top_k(c, n_routed_experts)) {
    rope = Rope(c, rotary_dims(c, head_dim, "partial_rotary_factor", 0.5f), 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = attention_bias;
    if (use_qk_norm) shape.qk_norm = QKNorm::per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (n_routed_experts == 0 || index < first_k_dense_replace) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    return grouped_moe(w, {hidden_size, moe_intermediate_size, n_routed_experts}, routing, n_shared_experts);
  }
};

using Glm4Moe = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Glm4Moe, "glm4_moe", "solar_open");

}  // namespace mlxk
