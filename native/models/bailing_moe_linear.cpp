// Ling and Ring 2.0 linear: hybrid of attention and lightning attention with a mixture of experts. Reference: mlx-lm,
// models/bailing_moe_linear.py. Against Ling: of every few layers one attends and the others carry a state.

#include <algorithm>

#include "bailing.h"

namespace mlxk {
namespace {

struct Config : BailingConfig {
  bool norm_head;

  explicit Config(const ConfigReader& c)
      : BailingConfig(
            c, {.score_function = "softmax", .qk_norm = false, .expert_bias = false, .partial_rotary_factor = 1}),
        norm_head(c.flag("norm_head", false)) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    c.require(hidden_size % group_norm_size == 0, "group_norm_size", "must divide hidden_size");
    const int shared = c.count_or_zero("num_shared_experts", 0);
    if (shared == 0 || !c.flag("moe_router_enable_shared_expert", true)) return;
    const int each = c.dim("moe_shared_expert_intermediate_size", moe_intermediate_size);
    shared_intermediate_size = heads_width(shared, each, "num_shared_experts * moe_shared_expert_intermediate_size");
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attention"];
    // The states of the first two layers fade alike.
    if (!attends(index)) return lightning(w, hidden_size / num_attention_heads, std::max(0, index - 1));
    const int queries = heads_width(num_attention_heads, head_dim), keys = heads_width(num_key_value_heads, head_dim);
    w.split("query_key_value", {{"q_proj", queries}, {"k_proj", keys}, {"v_proj", keys}});
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = use_qkv_bias;
    shape.o_bias = use_bias;
    shape.o_proj = "dense";
    if (use_qk_norm) shape.qk_norm = QKNorm::per_head;
    shape.q_norm = "query_layernorm";
    shape.k_norm = "key_layernorm";
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
};

using BailingMoeLinear = BailingDecoder<Config>;

}  // namespace

MLXK_MODEL(BailingMoeLinear, "bailing_moe_linear");

}  // namespace mlxk
