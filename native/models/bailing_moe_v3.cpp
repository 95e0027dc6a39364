// Ling and Ring 3: hybrid of latent attention and Kimi delta attention with a mixture of experts. Reference: mlx-lm,
// models/bailing_moe_v3.py. Against Kimi Linear: the rotated parts of latent attention are rotated, and its heads'
// outputs gated; the decay has a lower bound; experts are chosen from groups; the names are Ling's.

#include "decoder.h"
#include "experts.h"
#include "kimi_delta_attention.h"
#include "latent_attention.h"

namespace mlxk {
namespace {

// A SigmoidRouter that multiplies in float32. Tensors: those of a Linear, expert_bias.
class WideRouter final : public Router {
 public:
  WideRouter(const Weights& w, int hidden_size, int experts, const GroupedTopK& p)
      : gate_(w, hidden_size, experts),
        correction_(mx::astype(w.take("expert_bias", {experts}), mx::Type::f32)),
        parameters_(p) {}
  Routing operator()(const Array& x) const override {
    return grouped_top_k(gate_(mx::astype(x, mx::Type::f32)), correction_, parameters_);
  }

 private:
  Linear gate_;
  Array correction_;
  GroupedTopK parameters_;
};

struct Config : DecoderConfig {
  int layer_group_size, first_k_dense_replace, num_experts, moe_intermediate_size, shared_intermediate_size;
  GroupedTopK routing;
  LatentShape latent;
  KimiDeltaShape delta;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"head_dim", 128}}), {.default_norm_eps = 1e-6f}),
        layer_group_size(c.count("layer_group_size", 4)),
        first_k_dense_replace(c.integer("first_k_dense_replace", 1, 0, 4096)),
        num_experts(c.count("num_experts", 128)),
        moe_intermediate_size(c.dim("moe_intermediate_size", 512)),
        shared_intermediate_size(heads_width(c.count("num_shared_experts", 1),
                                             c.dim("moe_shared_expert_intermediate_size", 512),
                                             "num_shared_experts * moe_shared_expert_intermediate_size")),
        routing(read_grouped_top_k(c, num_experts, {.k = 8, .top_groups = 4, .scale = 2.5f})),
        latent(LatentShape::read(c, hidden_size, num_attention_heads)),
        delta{.hidden_size = hidden_size,
              .heads = num_attention_heads,
              .head_dim = head_dim,
              .kernel = c.integer("short_conv_kernel_size", 4, 1, 1024),
              .norm_eps = rms_norm_eps,
              .low_rank_decay = false,
              .low_rank_gate = false} {
    if (!c.is_null("kda_lower_bound")) delta.lower_bound = c.number("kda_lower_bound", -5.0f);
    for (const char* field : {"kda_safe_gate", "no_kda_lora", "rope_interleave"}) {
      c.require(c.flag(field, true), field, "must be true");
    }
    routing.normalize = routing.normalize_one = true;
    routing.epsilon = 1e-20f;
    latent.bias = false;
    latent.norm_eps = rms_norm_eps;
    latent.output_gate = OutputGate::sigmoid_per_head;
    rope = Rope(c, latent.qk_rope_head_dim, 6000000.0f, true);
    names.embed_tokens = "model.word_embeddings";
  }

  bool attends(int layer) const {
    return (layer + 1) % layer_group_size == 0 || layer >= num_hidden_layers / layer_group_size * layer_group_size;
  }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends(layer)) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(KimiDeltaAttention::kSlots);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attention"];
    if (!attends(index)) return std::make_unique<KimiDeltaAttention>(w, delta);
    w.rename("dense", "o_proj");
    return std::make_unique<LatentAttention>(w, latent, rope);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (index < first_k_dense_replace) return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    stack_experts(w, num_experts);
    return std::make_unique<SparseMoE>(
        std::make_unique<WideRouter>(w["gate"], hidden_size, num_experts, routing),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size, num_experts}),
        std::make_unique<GatedMLP>(w["shared_experts"], hidden_size, shared_intermediate_size));
  }
};

class BailingMoeV3 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  BailingMoeV3(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    // The layers that predict further tokens ahead follow the others; nothing here runs them.
    const int ahead = std::max(1, reader.integer("num_nextn_predict_layers", 0, 0, 4096));
    for (int i = 0; i < ahead; ++i) w["model"]["layers"][config().num_hidden_layers + i].discard();
  }
};

}  // namespace

MLXK_MODEL(BailingMoeV3, "bailing_moe_v3");

}  // namespace mlxk
