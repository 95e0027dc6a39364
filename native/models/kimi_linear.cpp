// Kimi Linear: hybrid of latent attention and Kimi delta attention with a mixture of experts. Reference: mlx-lm,
// models/kimi_linear.py. Against DeepSeek-V3: nothing is rotated; most layers carry a state by the gated delta rule,
// every channel of it fading at a rate of its own (arXiv 2510.26692).

#include <algorithm>
#include <cmath>

#include "decoder.h"
#include "experts.h"
#include "gated_delta_net.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

struct DeltaShape {
  int hidden_size, heads, head_dim, kernel;
  float norm_eps;
};

struct Config : DecoderConfig {
  std::vector<int> kda_layers;  // counted from 1
  int num_experts, moe_intermediate_size, num_shared_experts, first_k_dense_replace, moe_layer_freq;
  GroupedTopK routing{};
  LatentShape latent;
  DeltaShape delta;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_experts(c.count_or_zero("num_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        num_shared_experts(c.count_or_zero("num_shared_experts", 0)),
        first_k_dense_replace(c.integer("first_k_dense_replace", 0, 0, 4096)),
        moe_layer_freq(c.count("moe_layer_freq", 1)),
        latent(LatentShape::read(c, hidden_size, num_attention_heads)) {
    const ConfigReader linear = c.child("linear_attn_config");
    kda_layers = linear.ints("kda_layers", 1, num_hidden_layers);
    delta = {hidden_size, linear.count("num_heads"), linear.dim("head_dim"),
             linear.integer("short_conv_kernel_size", 4, 1, 1024), rms_norm_eps};
    heads_width(delta.heads, delta.head_dim);
    latent.q_lora_rank = 0;
    latent.bias = false;
    latent.norm_eps = rms_norm_eps;
    latent.scale = 1 / std::sqrt(static_cast<float>(latent.qk_nope_head_dim + latent.qk_rope_head_dim));
    if (num_experts > 0) read_routing(c);
  }

  bool attends(int layer) const { return std::ranges::find(kda_layers, layer + 1) == kda_layers.end(); }

  std::unique_ptr<LayerState> new_state(int layer) const;
  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (num_experts == 0 || index < first_k_dense_replace || index % moe_layer_freq != 0) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    // The original names.
    const Weights original = layer["block_sparse_moe"];
    original.rename("gate.e_score_correction_bias", "e_score_correction_bias");
    layer.rename("block_sparse_moe", "mlp");
    w.stack("experts", num_experts, "w1", "switch_mlp.gate_proj");
    w.stack("experts", num_experts, "w2", "switch_mlp.down_proj");
    w.stack("experts", num_experts, "w3", "switch_mlp.up_proj");
    w.rename("e_score_correction_bias", "gate.e_score_correction_bias");
    return grouped_moe(w, {hidden_size, moe_intermediate_size, num_experts}, routing, num_shared_experts);
  }

 private:
  void read_routing(const ConfigReader& c) {
    const std::string function = c.text("moe_router_activation_func", "sigmoid");
    c.require(function == "sigmoid" || function == "softmax", "moe_router_activation_func",
              "must be sigmoid or softmax");
    routing = {.k = c.count("num_experts_per_token", 1),
               .groups = c.count("num_expert_group", 1),
               .top_groups = c.count("topk_group", 1),
               .normalize = c.flag("moe_renormalize", true),
               .scale = c.positive("routed_scaling_factor", 1.0f),
               .epsilon = 1e-20f,
               .softmax = function == "softmax"};
    require_top_k(c, routing.k, "num_experts_per_token", num_experts);
    c.require(num_experts % routing.groups == 0, "num_expert_group", "must divide num_experts");
    c.require(routing.top_groups <= routing.groups, "topk_group", "must be at most num_expert_group");
    c.require(routing.k <= num_experts / routing.groups * routing.top_groups, "num_experts_per_token",
              "must be at most the number of experts in topk_group groups");
  }
};

// Tensors: q_proj, k_proj and v_proj, each with a filter (q_conv.conv, ..); f_a_proj and f_b_proj, of what fades;
// b_proj, of how strongly is written; g_a_proj and g_b_proj, of the output's gate; A_log, dt_bias, o_norm, o_proj.
class KimiDeltaAttention final : public Mixer {
 public:
  static constexpr int kSlots = 4;  // the inputs of the convolutions, the recurrence

  KimiDeltaAttention(const Weights& w, const DeltaShape& s)
      : shape_(s),
        q_proj_(w["q_proj"], s.hidden_size, s.heads * s.head_dim),
        k_proj_(w["k_proj"], s.hidden_size, s.heads * s.head_dim),
        v_proj_(w["v_proj"], s.hidden_size, s.heads * s.head_dim),
        q_conv_(filter(w, "q_conv1d", "q_conv.conv"), s.heads * s.head_dim, s.kernel, false),
        k_conv_(filter(w, "k_conv1d", "k_conv.conv"), s.heads * s.head_dim, s.kernel, false),
        v_conv_(filter(w, "v_conv1d", "v_conv.conv"), s.heads * s.head_dim, s.kernel, false),
        f_a_proj_(w["f_a_proj"], s.hidden_size, s.head_dim),
        f_b_proj_(w["f_b_proj"], s.head_dim, s.heads * s.head_dim),
        b_proj_(w["b_proj"], s.hidden_size, s.heads),
        g_a_proj_(w["g_a_proj"], s.hidden_size, s.head_dim),
        g_b_proj_(w["g_b_proj"], s.head_dim, s.heads * s.head_dim),
        rate_(mx::reshape(mx::exp(mx::astype(w.take("A_log", {1, 1, s.heads, 1}), mx::Type::f32)), {s.heads, 1})),
        dt_bias_(mx::reshape(flat(w, "dt_bias").take("dt_bias", {s.heads * s.head_dim}), {s.heads, s.head_dim})),
        o_norm_(w["o_norm"], s.head_dim, s.norm_eps),
        o_proj_(w["o_proj"], s.heads * s.head_dim, s.hidden_size) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const mx::Shape split{x.dim(0), x.dim(1), shape_.heads, shape_.head_dim};
    const auto convolved = [&](const Array& projected, const ShortConvolution& conv, int slot) {
      const Array y = conv(projected, cache, slot);
      return mx::reshape(y * mx::sigmoid(y), split);
    };
    const auto [q, k] = unit_query_key(convolved(q_proj_(x), q_conv_, 0), convolved(k_proj_(x), k_conv_, 1));
    const Array v = convolved(v_proj_(x), v_conv_, 2);
    const Array fading = mx::reshape(f_b_proj_(f_a_proj_(x)), split);
    const Array g = mx::exp(-(rate_ * mx::softplus(fading + dt_bias_)));

    const Array before = recall(cache, 3, {shape_.heads, shape_.head_dim, shape_.head_dim}, mx::Type::f32);
    const auto [y, state] = gated_delta(q, k, v, g, mx::sigmoid(b_proj_(x)), before);
    remember(cache, 3, state);
    const Array gate = mx::reshape(g_b_proj_(g_a_proj_(x)), split);
    return o_proj_(mx::reshape(o_norm_(y) * mx::sigmoid(gate), {x.dim(0), x.dim(1), -1}));
  }

 private:
  static Weights filter(const Weights& w, const char* original, const char* name) {
    w.rename(original, name);
    return w[name];
  }
  static const Weights& flat(const Weights& w, const char* name) {
    if (w.has(name) && w.peek(name).ndim() > 1) w.put(name, mx::reshape(w.peek(name), {-1}));
    return w;
  }

  DeltaShape shape_;
  Linear q_proj_, k_proj_, v_proj_;
  ShortConvolution q_conv_, k_conv_, v_conv_;
  Linear f_a_proj_, f_b_proj_, b_proj_, g_a_proj_, g_b_proj_;
  Array rate_;     // [heads, 1], float32
  Array dt_bias_;  // [heads, head_dim]
  RMSNorm o_norm_;
  Linear o_proj_;
};

std::unique_ptr<LayerState> Config::new_state(int layer) const {
  if (attends(layer)) return std::make_unique<KVCache>();
  return std::make_unique<RecurrentState>(KimiDeltaAttention::kSlots);
}

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["self_attn"];
  if (attends(index)) return std::make_unique<LatentAttention>(w, latent, Rope());
  return std::make_unique<KimiDeltaAttention>(w, delta);
}

class KimiLinear final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  KimiLinear(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    w["model.mtp"].discard();  // layers that predict ahead
  }
};

}  // namespace

MLXK_MODEL(KimiLinear, "kimi_linear");

}  // namespace mlxk
