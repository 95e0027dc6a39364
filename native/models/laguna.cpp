// Laguna: mixture of experts. Reference: mlx-lm, models/laguna.py.
// Against Qwen3-MoE: layers may slide, with a rotation and as many heads as the config says; a gate scales each head;
// sigmoids route, shifted by a learnt correction for the choice alone; a shared expert.

#include <cmath>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, qkv_bias, gating, square_root;
  int num_experts, moe_intermediate_size, shared_expert_intermediate_size;
  float softcap;  // of the router's logits; 0 leaves them
  std::vector<int> heads;
  std::vector<std::string> kinds;  // of the feed-forwards; empty: all but the first are mixtures
  GroupedTopK routing;
  Rope sliding_rope;

  explicit Config(const ConfigReader& c);

  Rope layer_rope(int layer) const { return window(layer) > 0 ? sliding_rope : rope; }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.heads = heads[static_cast<size_t>(layer)];
    shape.qkv_bias = qkv_bias;
    shape.o_bias = attention_bias;
    shape.qk_norm = QKNorm::per_head;
    if (gating) shape.output_gate = OutputGate::softplus_per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
};

Config::Config(const ConfigReader& c)
    : DecoderConfig(c.or_else({{"num_attention_heads", 48}, {"num_key_value_heads", 8}, {"head_dim", 128}}),
                    DecoderFields{.default_norm_eps = 1e-6f}),
      attention_bias(c.flag("attention_bias", false)),
      qkv_bias(c.flag("qkv_bias", false)),
      gating(true),
      num_experts(c.count("num_experts", 256)),
      moe_intermediate_size(c.dim("moe_intermediate_size", 512)),
      shared_expert_intermediate_size(c.dim("shared_expert_intermediate_size", 512)),
      softcap(c.number("moe_router_logit_softcapping", 0.0f)),
      routing{.k = c.count("num_experts_per_tok", 8),
              .normalize_one = true,
              .scale = c.positive("moe_routed_scaling_factor", 1.0f)} {
  require_top_k(c, routing.k, "num_experts_per_tok", num_experts);
  // Original configs name the kind of gate.
  const Json* gate = c.find("gating");
  if (gate && gate->is_bool()) gating = gate->as_bool();
  const std::string score = c.text("moe_router_score_func", "sigmoid");
  c.require(score == "sigmoid" || score == "sqrtsoftplus", "moe_router_score_func",
            "must be sigmoid or sqrtsoftplus, got " + quoted(score));
  square_root = score == "sqrtsoftplus";
  const auto layers = static_cast<size_t>(num_hidden_layers);
  if (c.has("mlp_layer_types")) kinds = layer_kinds(c, "mlp_layer_types", num_hidden_layers, {"dense", "sparse"});
  heads.assign(layers, num_attention_heads);
  if (c.has("num_attention_heads_per_layer")) {
    heads = c.ints("num_attention_heads_per_layer", 1, 65'536);
    c.require(heads.size() == layers, "num_attention_heads_per_layer",
              "must have one entry for each of num_hidden_layers");
    for (const int count : heads) {
      c.require(count % num_key_value_heads == 0, "num_attention_heads_per_layer",
                "must hold multiples of num_key_value_heads");
    }
  }
  windows = layer_windows(c, num_hidden_layers, [](int) { return false; }, 512);
  const auto parameters = c.maybe("rope_parameters");
  const auto rope_of = [&](const char* kind) {
    const auto p = parameters ? parameters->maybe(kind) : std::nullopt;
    const ConfigReader& share = p && p->has("partial_rotary_factor") ? *p : c;
    const int dims = rotary_dims(share, head_dim, "partial_rotary_factor", 1.0f);
    c.require(dims > 0 && dims % 2 == 0, "head_dim", "must be even to be rotated");
    return p ? Rope::of_parameters(*p, dims, 10000.0f) : Rope(dims, 10000.0f);
  };
  rope = rope_of("full_attention");
  sliding_rope = rope_of("sliding_attention");
}

class LagunaRouter final : public Router {
 public:
  LagunaRouter(const Config& c, const Weights& w)
      : proj_(w["proj"], c.hidden_size, c.num_experts),
        correction_(mx::astype(w.take("e_score_correction_bias", {c.num_experts}), mx::Type::f32)),
        softcap_(c.softcap),
        square_root_(c.square_root),
        routing_(c.routing) {}

  Routing operator()(const Array& x) const override {
    Array logits = mx::astype(proj_(x), mx::Type::f32);
    if (softcap_ > 0) logits = soft_cap(logits, softcap_);
    const Array scores = square_root_ ? mx::exp(mx::log(mx::softplus(logits)) * 0.5f) : mx::sigmoid(logits);
    return choose_grouped(scores, correction_, routing_);
  }

 private:
  Linear proj_;
  Array correction_;
  float softcap_;
  bool square_root_;
  GroupedTopK routing_;
};

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int index) const {
  const Weights w = layer["mlp"];
  const bool dense = kinds.empty() ? index == 0 : kinds[static_cast<size_t>(index)] == "dense";
  if (dense) return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
  w.rename("gate.weight", "gate.proj.weight");
  w.rename("experts.e_score_correction_bias", "gate.e_score_correction_bias");
  stack_experts(w, num_experts);
  return std::make_unique<SparseMoE>(
      std::make_unique<LagunaRouter>(*this, w["gate"]),
      GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts}),
      std::make_unique<GatedMLP>(w["shared_expert"], hidden_size, shared_expert_intermediate_size));
}

class Laguna final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Laguna(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), unwrapped(w)) {}

 private:
  static const Weights& unwrapped(const Weights& w) {
    w.rename("language_model.model", "model");
    w.rename("language_model.lm_head", "lm_head");
    return w;
  }
};

}  // namespace

MLXK_MODEL(Laguna, "laguna");

}  // namespace mlxk
