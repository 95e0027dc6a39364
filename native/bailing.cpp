// See bailing.h.

#include "bailing.h"

#include <algorithm>

namespace mlxk {

BailingConfig::BailingConfig(const ConfigReader& c, const Defaults& defaults)
    : DecoderConfig(c, false),
      layer_group_size(c.count("layer_group_size")),
      first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
      num_experts(c.count("num_experts")),
      moe_intermediate_size(c.dim("moe_intermediate_size")),
      group_norm_size(c.count("group_norm_size")),
      use_bias(c.flag("use_bias", false)),
      use_qkv_bias(c.flag("use_qkv_bias", false)),
      use_qk_norm(c.flag("use_qk_norm", defaults.qk_norm)),
      expert_bias(c.flag("moe_router_enable_expert_bias", defaults.expert_bias)),
      routing(read_grouped_top_k(c, num_experts, {.k = 1, .top_groups = 4})) {
  const std::string function =
      c.is_null("score_function") ? "softmax" : c.text("score_function", defaults.score_function);
  c.require(function == "softmax" || function == "sigmoid", "score_function", "must be softmax or sigmoid");
  routing.softmax = function == "softmax";
  routing.epsilon = 1e-20f;
  rope = Rope(c, rotary_dims(c, head_dim, "partial_rotary_factor", defaults.partial_rotary_factor), 10000.0f,
              c.flag("rope_traditional", false));
  names.embed_tokens = "model.word_embeddings";
}

bool BailingConfig::attends(int layer) const {
  return (layer + 1) % layer_group_size == 0 || layer >= num_hidden_layers / layer_group_size * layer_group_size;
}

std::unique_ptr<LayerState> BailingConfig::new_state(int layer) const {
  if (attends(layer)) return std::make_unique<KVCache>();
  return std::make_unique<RecurrentState>(1);
}

std::unique_ptr<FeedForward> BailingConfig::feed_forward(const Weights& layer, int index) const {
  const Weights w = layer["mlp"];
  if (index < first_k_dense_replace) return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size, use_bias);
  stack_experts(w, num_experts);
  w.rename("gate.weight", "gate.gate_proj.weight");
  std::unique_ptr<FeedForward> shared;
  if (shared_intermediate_size > 0) {
    shared = std::make_unique<GatedMLP>(w["shared_experts"], hidden_size, shared_intermediate_size, use_bias);
  }
  Array correction;
  if (expert_bias) correction = mx::astype(w["gate"].take("expert_bias", {num_experts}), mx::Type::f32);
  return std::make_unique<SparseMoE>(
      std::make_unique<SigmoidRouter>(Linear(w["gate.gate_proj"], hidden_size, num_experts), correction, routing),
      GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts, use_bias}), std::move(shared));
}

std::unique_ptr<Mixer> BailingConfig::lightning(const Weights& w, int width_of_head, int index) const {
  const float passed = static_cast<float>(index) / static_cast<float>(std::max(1, num_hidden_layers - 1));
  const LightningShape shape{.hidden_size = hidden_size,
                             .heads = num_attention_heads,
                             .head_dim = width_of_head,
                             .qkv_bias = use_qkv_bias,
                             .bias = use_bias,
                             .qk_norm = use_qk_norm,
                             .norm_groups = group_norm_size,
                             .norm_eps = rms_norm_eps,
                             .depth = 1 - passed};
  return std::make_unique<LightningAttention>(w, shape, rope);
}

Array column_lengths(const Weights& head, int vocab_size, int hidden_size) {
  const mx::Shape dense_shape{vocab_size, hidden_size};
  if (!head.has("scales") && head.peek("weight").shape() != dense_shape) return {};  // which its layer refuses
  if (head.has("scales") && (head.peek("scales").ndim() < 2 || hidden_size > 128 * head.peek("scales").dim(-1)))
    return {};
  std::vector<std::pair<const char*, Array>> kept;
  for (const char* leaf : {"weight", "scales", "biases"}) {
    if (head.has(leaf)) kept.emplace_back(leaf, head.peek(leaf));
  }
  const Array dense = mx::astype(Matrix(head, vocab_size, hidden_size).dense(), mx::Type::f32);
  for (const auto& [leaf, tensor] : kept) head.put(leaf, tensor);
  const Array lengths = mx::sqrt(mx::sum(mx::square(dense), 0, false));
  mx::eval({lengths});  // frees the dense matrix
  return lengths;
}

}  // namespace mlxk
