// Ling and Ring (Bailing MoE): mixture of experts. Reference: mlx-lm, models/bailing_moe.py.
// Against Llama: one matrix for queries, keys and values; all layers but the first few are mixtures with shared
// experts, routed by a softmax or as DeepSeek-V3's; the head's columns may have to be normalized.

#include "bailing.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool use_bias, use_qkv_bias, use_qk_norm, norm_head, expert_bias;
  int num_experts, num_shared_experts, moe_intermediate_size, first_k_dense_replace, shared_intermediate_size;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        use_bias(c.flag("use_bias", false)),
        use_qkv_bias(c.flag("use_qkv_bias", false)),
        use_qk_norm(c.flag("use_qk_norm", false)),
        norm_head(c.flag("norm_head", false)),
        expert_bias(c.flag("moe_router_enable_expert_bias", false)),
        num_experts(c.count("num_experts")),
        num_shared_experts(c.count_or_zero("num_shared_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        shared_intermediate_size(c.dim("moe_shared_expert_intermediate_size", moe_intermediate_size)),
        routing(read_grouped_top_k(c, num_experts, {.k = 1, .top_groups = 4})) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    const std::string score = c.text("score_function", "softmax");
    c.require(score == "softmax" || score == "sigmoid", "score_function", "must be softmax or sigmoid");
    routing.softmax = score == "softmax";
    routing.epsilon = 1e-20f;
    if (!c.flag("moe_router_enable_shared_expert", true)) num_shared_experts = 0;
    mlp_bias = use_bias;
    int rotated = rotary_dims(c, head_dim, "partial_rotary_factor", 1.0f);
    if (c.has("rotary_dim")) rotated = c.integer("rotary_dim", rotated, 1, head_dim);
    rope = Rope(c, rotated, 10000.0f);
    names.embed_tokens = "model.word_embeddings";
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attention"];
    const int kv = num_key_value_heads * head_dim;
    w.split("query_key_value", {{"q_proj", num_attention_heads * head_dim}, {"k_proj", kv}, {"v_proj", kv}});
    auto shape = AttentionShape::of(*this, index);
    shape.qkv_bias = use_qkv_bias;
    shape.o_bias = use_bias;
    shape.o_proj = "dense";
    shape.q_norm = "query_layernorm";
    shape.k_norm = "key_layernorm";
    if (use_qk_norm) shape.qk_norm = QKNorm::per_head;
    return std::make_unique<SelfAttention>(w, shape, rope);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (index < first_k_dense_replace) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size, use_bias);
    }
    stack_experts(w, num_experts);
    w.rename("gate.weight", "gate.gate_proj.weight");
    const Array correction = expert_bias ? w.take("gate.expert_bias", {num_experts}) : Array();
    return std::make_unique<SparseMoE>(
        std::make_unique<SigmoidRouter>(Linear(w["gate"]["gate_proj"], hidden_size, num_experts), correction, routing),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts, use_bias}),
        shared_experts(w["shared_experts"], num_shared_experts, {hidden_size, shared_intermediate_size, use_bias}));
  }
};

using BailingMoe = BailingDecoder<Config>;

}  // namespace

MLXK_MODEL(BailingMoe, "bailing_moe");

}  // namespace mlxk
