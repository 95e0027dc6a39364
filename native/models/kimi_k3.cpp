// Kimi K3: hybrid of latent attention and Kimi delta attention with a mixture of experts. Reference: mlx-lm,
// models/kimi_k3.py. Against Kimi Linear: what a layer reads is mixed from the residuals of earlier spans of layers;
// heads' outputs may be gated; experts may work in a space of fewer dimensions; gates and values of feed-forwards are
// bounded. Of multimodal checkpoints it is the language model.

#include <algorithm>
#include <cmath>

#include "decoder.h"
#include "experts.h"
#include "kimi_delta_attention.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

// beta tanh(gate / beta) sigmoid(gate) * bounded(up), in float32; up is bounded where `linear_beta` is above 0.
Gate bounded_gate(float beta, float linear_beta) {
  return Gate([=](const Array& gate, const Array& up) {
    const Array g = mx::astype(gate, mx::Type::f32), u = mx::astype(up, mx::Type::f32);
    const Array y = soft_cap(g, beta) * mx::sigmoid(g) * (linear_beta > 0 ? soft_cap(u, linear_beta) : u);
    return mx::astype(y, up.dtype());
  });
}

struct Config : DecoderConfig {
  std::vector<int> kda_layers;  // counted from 1
  int num_experts, num_shared_experts, first_k_dense_replace, moe_layer_freq, attn_res_block_size;
  int moe_intermediate_size = 0, routed_expert_hidden_size = 0;
  bool latent_moe_use_norm;
  float situ_beta, situ_linear_beta;
  GroupedTopK routing{};
  LatentShape latent;
  KimiDeltaShape delta{};

  explicit Config(const ConfigReader& c) : Config(c.maybe("text_config").value_or(c), {}) {}

  bool attends(int layer) const { return std::ranges::find(kda_layers, layer + 1) == kda_layers.end(); }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends(layer)) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(KimiDeltaAttention::kSlots);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;

 private:
  struct Text {};  // tells the constructor that reads the text model's own config
  Config(const ConfigReader& c, Text);
  void read_routing(const ConfigReader& c);
};

Config::Config(const ConfigReader& c, Text)
    : DecoderConfig(c, {.default_norm_eps = 1e-5f}),
      num_experts(c.count_or_zero("num_experts", 0)),
      num_shared_experts(c.count_or_zero("num_shared_experts", 0)),
      first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
      moe_layer_freq(c.count("moe_layer_freq", 1)),
      attn_res_block_size(c.has("attn_res_block_size") ? c.layers("attn_res_block_size") : 0),
      latent_moe_use_norm(c.flag("latent_moe_use_norm", false)),
      situ_beta(c.positive("activation_situ_beta", 1.0f)),
      situ_linear_beta(c.has("activation_situ_linear_beta") ? c.positive("activation_situ_linear_beta") : 0),
      latent(LatentShape::read(c, hidden_size, num_attention_heads)) {
  c.require(c.text("hidden_act", "situ") == "situ", "hidden_act", "must be situ");
  c.require(c.flag("mla_use_nope", true), "mla_use_nope", "must be true");
  const ConfigReader linear = c.child("linear_attn_config");
  kda_layers = linear.ints("kda_layers", 1, num_hidden_layers);
  delta = {.hidden_size = hidden_size,
           .heads = linear.count("num_heads"),
           .head_dim = linear.dim("head_dim"),
           .kernel = linear.integer("short_conv_kernel_size", 4, 1, 1024),
           .norm_eps = rms_norm_eps,
           .low_rank_gate = !linear.flag("use_full_rank_gate", false)};
  if (linear.has("gate_lower_bound")) delta.lower_bound = linear.number("gate_lower_bound");
  latent.bias = false;
  latent.scale = 1 / std::sqrt(static_cast<float>(latent.qk_nope_head_dim + latent.qk_rope_head_dim));
  if (c.flag("mla_use_output_gate", false)) latent.output_gate = OutputGate::sigmoid;
  if (num_experts > 0) read_routing(c);
}

void Config::read_routing(const ConfigReader& c) {
  moe_intermediate_size = c.dim("moe_intermediate_size");
  if (c.has("routed_expert_hidden_size")) routed_expert_hidden_size = c.dim("routed_expert_hidden_size");
  c.require(c.text("moe_router_activation_func", "sigmoid") == "sigmoid", "moe_router_activation_func",
            "must be sigmoid");
  routing = {.k = c.count("num_experts_per_token", 16),
             .groups = c.count("num_expert_group", 1),
             .top_groups = c.count("topk_group", 1),
             .normalize = c.flag("moe_renormalize", true),
             .scale = c.positive("routed_scaling_factor", 1.0f),
             .epsilon = 1e-20f};
  require_top_k(c, routing.k, "num_experts_per_token", num_experts);
  c.require(num_experts % routing.groups == 0, "num_expert_group", "must divide num_experts");
  c.require(routing.top_groups <= routing.groups, "topk_group", "must be at most num_expert_group");
  c.require(routing.k <= num_experts / routing.groups * routing.top_groups, "num_experts_per_token",
            "must be at most the number of experts in topk_group groups");
}

// Tensors: gate_proj, up_proj, down_proj.
class BoundedMLP final : public FeedForward {
 public:
  BoundedMLP(const Weights& w, const Config& c, int intermediate_size)
      : gate_proj_(w["gate_proj"], c.hidden_size, intermediate_size),
        up_proj_(w["up_proj"], c.hidden_size, intermediate_size),
        down_proj_(w["down_proj"], intermediate_size, c.hidden_size),
        gate_(bounded_gate(c.situ_beta, c.situ_linear_beta)) {}
  Array operator()(const Array& x) const override { return down_proj_(gate_(gate_proj_(x), up_proj_(x))); }

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  Gate gate_;
};

// up(norm(experts(down(x)))) + shared(x); down, norm and up only where the experts work in a space of their own.
// Tensors: gate, switch_mlp, routed_expert_down_proj, routed_expert_norm, routed_expert_up_proj, shared_experts.
class LatentMoE final : public FeedForward {
 public:
  LatentMoE(const Weights& w, const Config& c)
      : router_(w["gate"], c.hidden_size, c.num_experts, c.routing),
        experts_(w["switch_mlp"], {width(c), c.moe_intermediate_size, c.num_experts},
                 bounded_gate(c.situ_beta, c.situ_linear_beta)) {
    if (c.num_shared_experts > 0) {
      shared_.emplace(
          w["shared_experts"], c,
          heads_width(c.num_shared_experts, c.moe_intermediate_size, "num_shared_experts * moe_intermediate_size"));
    }
    if (c.routed_expert_hidden_size == 0) return;
    down_.emplace(w["routed_expert_down_proj"], c.hidden_size, width(c));
    up_.emplace(w["routed_expert_up_proj"], width(c), c.hidden_size);
    if (c.latent_moe_use_norm) norm_.emplace(w["routed_expert_norm"], width(c), c.rms_norm_eps);
  }

  Array operator()(const Array& x) const override {
    Array y = experts_(down_ ? (*down_)(x) : x, router_(x));
    if (norm_) y = (*norm_)(y);
    if (up_) y = (*up_)(y);
    return shared_ ? y + (*shared_)(x) : y;
  }

 private:
  static int width(const Config& c) {
    return c.routed_expert_hidden_size > 0 ? c.routed_expert_hidden_size : c.hidden_size;
  }

  SigmoidRouter router_;
  GatedExperts experts_;
  std::optional<BoundedMLP> shared_;
  std::optional<Linear> down_, up_;
  std::optional<RMSNorm> norm_;
};

// The original checkpoints have queries, keys and values apart, converted ones in one matrix and one filter.
void split_qkv(const Weights& w, int width) {
  w.split("qkv_proj", {{"q_proj", width}, {"k_proj", width}, {"v_proj", width}});
  const Weights conv = w["qkv_conv.conv"];
  const bool joined = conv.has("weight") && conv.peek("weight").ndim() == 3 && conv.peek("weight").dim(0) == 3 * width;
  if (joined) {
    const auto parts = mx::split(conv.peek("weight"), 3, 0);
    const char* const names[] = {"q_conv1d.weight", "k_conv1d.weight", "v_conv1d.weight"};
    for (size_t i = 0; i < parts.size(); ++i) w.put(names[i], mx::contiguous(parts[i]));
    conv.discard();
  }
  for (const char* name : {"q_conv", "k_conv", "v_conv"})
    w.rename(std::string(name) + ".conv", std::string(name) + "1d");
}

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["self_attn"];
  if (attends(index)) return std::make_unique<LatentAttention>(w, latent, Rope());
  split_qkv(w, heads_width(delta.heads, delta.head_dim, "linear_attn_config.num_heads * head_dim"));
  return std::make_unique<KimiDeltaAttention>(w, delta);
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int index) const {
  if (num_experts == 0 || index < first_k_dense_replace || index % moe_layer_freq != 0) {
    return std::make_unique<BoundedMLP>(layer["mlp"], *this, intermediate_size);
  }
  layer.rename("block_sparse_moe", "mlp");
  const Weights w = layer["mlp"];
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}};  // the original names
  for (const auto& [original, name] : kNames) {
    w.stack("experts", num_experts, original, std::string("switch_mlp.") + name);
  }
  w.rename("e_score_correction_bias", "gate.e_score_correction_bias");
  return std::make_unique<LatentMoE>(w, *this);
}

// The residuals as the spans of layers before have found them.
using Residuals = std::vector<Array>;

// A layer's choice among those and the running residual. Tensors: `name`_proj, of one row, and `name`_norm.
class ResidualMix {
 public:
  ResidualMix(const Weights& w, const std::string& name, const Config& c)
      : weight_(merged(w, name, c.hidden_size)), eps_(c.rms_norm_eps) {}

  // A softmax over the spans and x, of how each answers to `weight`, weighs their sum.
  Array operator()(const Array& x, const Residuals& residuals) const {
    if (residuals.empty()) return x;
    Residuals all = residuals;
    all.push_back(x);
    const Array stacked = mx::stack(all, 0), wide = mx::astype(stacked, mx::Type::f32);
    const Array length = mx::rsqrt(mx::mean(mx::square(wide), -1, true) + eps_);
    const Array weights = mx::softmax(mx::sum(wide * weight_, -1, true) * length, 0);
    return mx::astype(mx::sum(weights * wide, 0, false), x.dtype());
  }

 private:
  static Array merged(const Weights& w, const std::string& name, int size) {
    w.rename(name + ".proj_weight", name + "_proj.weight");  // the original names
    w.rename(name + ".norm_weight", name + "_norm.weight");
    const Array norm = mx::astype(w[name + "_norm"].take("weight", {size}), mx::Type::f32);
    return norm * mx::astype(mx::reshape(Matrix(w[name + "_proj"], 1, size).dense(), {size}), mx::Type::f32);
  }

  Array weight_;  // [hidden_size], float32
  float eps_;
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : input_layernorm_(c.norm(w["input_layernorm"])),
        self_attn_(c.mixer(w, layer)),
        post_attention_layernorm_(c.norm(w["post_attention_layernorm"])),
        mlp_(c.feed_forward(w, layer)) {
    if (c.attn_res_block_size == 0) return;
    self_attention_res_.emplace(w, "self_attention_res", c);
    mlp_res_.emplace(w, "mlp_res", c);
    starts_span_ = layer % c.attn_res_block_size == 0;
  }

  // `residuals`: of the layers before; a layer that starts a span adds to them.
  Array operator()(const Array& x, const LayerCache& cache, Residuals* residuals = nullptr) const {
    Residuals none;
    Residuals& before = residuals ? *residuals : none;
    const Array read = self_attention_res_ ? (*self_attention_res_)(x, before) : x;
    if (starts_span_) before.push_back(x);
    const Array y = (*self_attn_)(input_layernorm_(read), cache);
    const Array sum = starts_span_ ? y : x + y;
    const Array h = mlp_res_ ? (*mlp_res_)(sum, before) : sum;
    return sum + (*mlp_)(post_attention_layernorm_(h));
  }

 private:
  RMSNorm input_layernorm_;
  std::unique_ptr<Mixer> self_attn_;
  RMSNorm post_attention_layernorm_;
  std::unique_ptr<FeedForward> mlp_;
  std::optional<ResidualMix> self_attention_res_, mlp_res_;
  bool starts_span_ = false;
};

// The names that checkpoints give to the language model, and what they hold beside it.
Weights prepared(const Weights& w, const Config& c) {
  const Weights tower = language_tower(w);
  tower["mtp"].discard();
  tower["model.mtp"].discard();
  tower["model.layers"][c.num_hidden_layers].discard();
  return tower;
}

class KimiK3 final : public Decoder<Config, Block> {
 public:
  KimiK3(const ConfigReader& reader, const Weights& w) : KimiK3(Config(reader), w) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    Residuals residuals;
    Array h = embed(ids, batch);
    for (int i = 0; i < config().num_hidden_layers; ++i) {
      h = blocks()[static_cast<size_t>(i)](h, {batch, i}, &residuals);
    }
    batch.advance();
    return normalized(output_res_ ? (*output_res_)(h, residuals) : h);
  }

 private:
  KimiK3(const Config& c, const Weights& w) : Decoder(c, prepared(w, c)) {
    if (c.attn_res_block_size > 0) output_res_.emplace(w["language_model.model"], "output_attn_res", c);
  }

  std::optional<ResidualMix> output_res_;
};

}  // namespace

MLXK_MODEL(KimiK3, "kimi_k3");

}  // namespace mlxk
