// Step 3.5: mixture of experts. Reference: mlx-lm, models/step3p5.py.
// Against Llama: layers that slide have heads of their own number; base, share and scaling of the rotation differ by
// layer; q and k are normalized and a gate scales each head; mixtures are routed by corrected sigmoids, and the gated
// feed-forwards may be held within limits.

#include <algorithm>
#include <charconv>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Heads {
  int heads, kv_heads;
};

struct Config : DecoderConfig {
  bool use_head_wise_attn_gate;
  int moe_num_experts, moe_intermediate_size, share_expert_dim;
  std::vector<bool> sparse;
  std::vector<float> swiglu_limits, swiglu_limits_shared;  // by layer, 0 for none
  std::vector<Rope> ropes;
  Heads full{}, sliding{};
  GroupedTopK routing;

  explicit Config(const ConfigReader& c);

  Rope layer_rope(int layer) const { return ropes[static_cast<size_t>(layer)]; }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    const Heads& h = window(layer) > 0 ? sliding : full;
    shape.heads = h.heads;
    shape.kv_heads = h.kv_heads;
    shape.qk_norm = QKNorm::per_head;
    if (use_head_wise_attn_gate) shape.output_gate = OutputGate::sigmoid_per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
};

// A number for every layer; what a list does not reach, or says null for, is `fallback`.
std::vector<float> read_by_layer(const ConfigReader& c, const char* field, int layers, float fallback) {
  std::vector<float> out(static_cast<size_t>(layers), fallback);
  const Json* value = c.find(field);
  if (!value) return out;
  c.require(value->is_array(), field, "must be a list of numbers, got " + value->describe());
  size_t at = 0;
  for (const Json& entry : value->as_array()) {
    if (at == out.size()) break;
    c.require(entry.is_null() || entry.is_number(), field, "must hold numbers, got " + entry.describe());
    if (entry.is_number()) out[at] = static_cast<float>(std::clamp(entry.as_double(), -3e38, 3e38));
    ++at;
  }
  return out;
}

// The layers that moe_layers_enum lists, "4,5,6"; all but the first where it is not there.
std::vector<bool> read_sparse(const ConfigReader& c, int layers) {
  std::vector<bool> sparse(static_cast<size_t>(layers), !c.has("moe_layers_enum"));
  if (!c.has("moe_layers_enum")) {
    sparse[0] = false;
    return sparse;
  }
  const std::string list = c.text("moe_layers_enum");
  const char *at = list.data(), *end = at + list.size();
  while (at < end) {
    while (at < end && *at == ' ') ++at;
    int layer = 0;
    const auto [next, error] = std::from_chars(at, end, layer);
    c.require(error == std::errc() && layer >= 0, "moe_layers_enum", "must be layers separated by commas");
    if (layer < layers) sparse[static_cast<size_t>(layer)] = true;
    at = next;
    while (at < end && *at == ' ') ++at;
    c.require(at == end || *at == ',', "moe_layers_enum", "must be layers separated by commas");
    if (at < end) ++at;
  }
  return sparse;
}

Config::Config(const ConfigReader& c)
    : DecoderConfig(c, DecoderFields{.default_norm_eps = 1e-5f}),
      use_head_wise_attn_gate(c.flag("use_head_wise_attn_gate", true)),
      moe_num_experts(c.count("moe_num_experts", 288)),
      moe_intermediate_size(c.dim("moe_intermediate_size", 1280)),
      share_expert_dim(c.dim("share_expert_dim", 1280)),
      sparse(read_sparse(c, num_hidden_layers)),
      swiglu_limits(read_by_layer(c, "swiglu_limits", num_hidden_layers, 0)),
      swiglu_limits_shared(read_by_layer(c, "swiglu_limits_shared", num_hidden_layers, 0)),
      routing{.k = c.count("moe_top_k", 8),
              .normalize = c.flag("norm_expert_weight", true),
              .normalize_one = true,
              .scale = c.positive("moe_router_scaling_factor", 3.0f),
              .epsilon = 1e-20f} {
  require_top_k(c, routing.k, "moe_top_k", moe_num_experts);
  tie_word_embeddings = false;
  full = {num_attention_heads, c.count("num_attention_groups")};
  sliding = full;
  if (const auto other = c.maybe("attention_other_setting")) {
    sliding = {other->count("num_attention_heads"), other->count("num_attention_groups")};
    other->require(sliding.heads % sliding.kv_heads == 0, "num_attention_groups", "must divide num_attention_heads");
  }
  c.require(full.heads % full.kv_heads == 0, "num_attention_groups", "must divide num_attention_heads");

  // Configs list layers beyond the last too, which predict further ahead.
  const size_t layers = static_cast<size_t>(num_hidden_layers);
  const bool listed = c.has("layer_types") && !c.texts("layer_types").empty();
  auto kinds = listed ? c.texts("layer_types") : std::vector<std::string>(layers, "full_attention");
  c.require(kinds.size() >= layers, "layer_types", "must have one entry for each of num_hidden_layers");
  const int width = c.dim("sliding_window", 512);
  for (size_t i = 0; i < layers; ++i) {
    const bool slides = listed ? kinds[i] == "sliding_attention" : i % 2 == 0;
    c.require(slides || kinds[i] == "full_attention", "layer_types", "must hold full_attention or sliding_attention");
    windows.push_back(slides ? width : 0);
  }

  const Json* theta = c.find("rope_theta");
  const bool by_layer = theta && theta->is_array();
  const std::vector<float> bases = by_layer ? read_by_layer(c, "rope_theta", num_hidden_layers, 10000.0f)
                                            : std::vector<float>(layers, c.positive("rope_theta", 10000.0f));
  const std::vector<float> shares = read_by_layer(c, "partial_rotary_factors", num_hidden_layers, 1.0f);
  const auto scaled = c.has("yarn_only_types") ? c.texts("yarn_only_types") : std::vector<std::string>();
  const auto scaling = c.maybe("rope_scaling");
  for (size_t i = 0; i < layers; ++i) {
    c.require(shares[i] > 0 && shares[i] <= 1, "partial_rotary_factors", "must hold numbers above 0 and at most 1");
    c.require(bases[i] > 1, "rope_theta", "must be above 1");
    const int dims = static_cast<int>(static_cast<float>(head_dim) * shares[i]);
    c.require(dims > 0 && dims % 2 == 0, "head_dim", "must be even to be rotated");
    const bool plain = !scaling || (!scaled.empty() && std::ranges::find(scaled, kinds[i]) == scaled.end());
    ropes.push_back(plain ? Rope(dims, bases[i]) : Rope::of_parameters(*scaling, dims, bases[i]));
  }
}

// silu(gate) up, the first held below the limit and the second within it.
Gate gate_within(float limit) {
  if (!(limit > 0)) return Gate(Activation::silu);
  return Gate([limit](const Array& gate, const Array& up) {
    const Array held = mx::minimum(gate * mx::sigmoid(gate), mx::scalar(limit, gate.dtype()));
    return held * mx::clip(up, -limit, limit);
  });
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int index) const {
  const auto at = static_cast<size_t>(index);
  const Gate shared_gate = gate_within(swiglu_limits_shared[at]);
  // Original checkpoints keep the parts of a mixture beside each other.
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    layer.rename(std::string("moe.") + name, std::string("mlp.switch_mlp.") + name);
  }
  layer.rename("moe.gate", "mlp.gate.gate");
  layer.rename("moe.router_bias", "mlp.gate.router_bias");
  layer.rename("share_expert", "mlp.share_expert");
  const Weights w = layer["mlp"];
  if (!sparse[at]) {
    return std::make_unique<GatedMLP>(w, FeedForwardShape{hidden_size, intermediate_size}, shared_gate);
  }
  return std::make_unique<SparseMoE>(
      std::make_unique<SigmoidRouter>(Linear(w["gate"]["gate"], hidden_size, moe_num_experts),
                                      w.take("gate.router_bias", {moe_num_experts}), routing),
      GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, moe_num_experts},
                   gate_within(swiglu_limits[at])),
      std::make_unique<GatedMLP>(w["share_expert"], FeedForwardShape{hidden_size, share_expert_dim}, shared_gate));
}

// Original checkpoints, told by where the parts of their mixtures lie, hold the norms less one.
Config prepared(Config c, const Weights& w) {
  const Weights layers = w[c.names.layers];
  bool original = false;
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    original |= layers[i].has("moe.gate.weight") || layers[i].has("share_expert.up_proj.weight");
  }
  for (int i = 0; i < 8; ++i) layers[c.num_hidden_layers + i].discard();  // those predict further ahead
  if (!original) return c;
  const auto add_one = [](const Weights& norm) {
    if (norm.has("weight")) norm.put("weight", norm.peek("weight") + 1.0f);
  };
  add_one(w[c.names.norm]);
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    for (const char* name : {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"}) {
      add_one(layers[i][name]);
    }
  }
  return c;
}

class Step3p5 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Step3p5(const ConfigReader& reader, const Weights& w) : Decoder(prepared(Config(reader), w), w) {}
};

}  // namespace

MLXK_MODEL(Step3p5, "step3p5");

}  // namespace mlxk
