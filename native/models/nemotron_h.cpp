// Nemotron-H and Nemotron 3: hybrid of attention and Mamba-2, dense or with a mixture of experts. Reference: mlx-lm,
// models/nemotron_h.py. Against Granite 4.0: a block is one norm and either a mixer or a feed-forward, in a pattern;
// nothing is rotated; feed-forwards are plain; the experts may work in a space of fewer dimensions.

#include <algorithm>
#include <limits>

#include "decoder.h"
#include "experts.h"
#include "mamba.h"

namespace mlxk {
namespace {

enum class Kind { mamba, attention, mlp, moe };

std::vector<Kind> pattern(const ConfigReader& c) {
  constexpr const char* kField = "hybrid_override_pattern";
  const Json* given = c.find(kField);
  std::vector<std::string> names;
  if (given && given->is_string()) {
    for (const char letter : given->as_string()) names.emplace_back(1, letter);
  } else {
    names = c.texts(given ? kField : c.has("layers_block_type") ? "layers_block_type" : "layer_types");
  }
  c.require(!names.empty() && names.size() <= 4096, kField, "must have from 1 to 4096 layers");
  std::vector<Kind> kinds;
  for (const auto& name : names) {
    if (name == "M" || name == "mamba" || name == "linear_attention" || name == "conv") {
      kinds.push_back(Kind::mamba);
    } else if (name == "*" || name == "attention" || name == "full_attention") {
      kinds.push_back(Kind::attention);
    } else if (name == "-" || name == "mlp") {
      kinds.push_back(Kind::mlp);
    } else if (name == "E" || name == "moe") {
      kinds.push_back(Kind::moe);
    } else {
      c.refuse(kField, "must hold M, *, - or E, or mamba, attention, mlp or moe");
    }
  }
  return kinds;
}

struct Config : DecoderConfig {
  std::vector<Kind> kinds;
  bool attention_bias;
  int n_routed_experts = 0, moe_intermediate_size = 0, moe_latent_size = 0, shared_intermediate_size = 0;
  GroupedTopK routing{};
  Mamba2Shape mamba;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.num_hidden_layers = nullptr, .norm_eps = "layer_norm_epsilon"}),
        kinds(pattern(c)),
        attention_bias(c.flag("attention_bias", false)),
        mamba{.hidden_size = hidden_size,
              .heads = c.count("mamba_num_heads"),
              .head_dim = c.dim("mamba_head_dim"),
              .groups = c.count("n_groups"),
              .state_size = c.dim("ssm_state_size"),
              .kernel = c.integer("conv_kernel", 4, 1, 1024),
              .conv_bias = c.flag("use_conv_bias", true),
              .bias = c.flag("mamba_proj_bias", false),
              .out_bias = c.flag("mamba_proj_bias", false),
              .limit = TimeStepLimit::read(c, {0, std::numeric_limits<float>::infinity()}),
              .norm = Mamba2Shape::Norm::by_group,
              .norm_eps = rms_norm_eps} {
    num_hidden_layers = static_cast<int>(kinds.size());
    tie_word_embeddings = false;
    mlp_bias = c.flag("mlp_bias", false);
    mamba.check(c, {"mamba_num_heads", "mamba_head_dim", "n_groups", "ssm_state_size"});
    names = {.embed_tokens = "backbone.embeddings", .layers = "backbone.layers", .norm = "backbone.norm_f"};
    if (std::ranges::find(kinds, Kind::moe) == kinds.end()) return;
    n_routed_experts = c.count("n_routed_experts");
    moe_intermediate_size = c.dim("moe_intermediate_size");
    moe_latent_size = c.has("moe_latent_size") ? c.dim("moe_latent_size") : 0;
    const int shared = c.count_or_zero("n_shared_experts", 0);
    shared_intermediate_size = shared > 0 ? c.dim("moe_shared_expert_intermediate_size") : 0;
    routing = read_grouped_top_k(c, n_routed_experts, {.k = 1, .normalize = false});
    routing.epsilon = 1e-20f;
  }

  std::unique_ptr<LayerState> new_state(int layer) const {
    switch (kinds[static_cast<size_t>(layer)]) {
      case Kind::attention: return std::make_unique<KVCache>();
      case Kind::mamba: return std::make_unique<RecurrentState>(Mamba2Mixer::kSlots);
      default: return std::make_unique<RecurrentState>(0);
    }
  }

  std::unique_ptr<FeedForward> mlp(const Weights& w, int intermediate) const {
    const FeedForwardShape shape{hidden_size, intermediate, mlp_bias, Activation::relu2};
    return std::make_unique<PlainMLP>(w, shape, "up_proj", "down_proj");
  }
};

// out(experts(in(x))) + shared(x); in and out only where the experts work in a space of their own.
class LatentMoE final : public FeedForward {
 public:
  LatentMoE(const Config& c, const Weights& w)
      : router_(w["gate"], c.hidden_size, c.n_routed_experts, c.routing), experts_(experts(c, w)) {
    if (c.moe_latent_size > 0) {
      in_.emplace(w["fc1_latent_proj"], c.hidden_size, c.moe_latent_size, c.mlp_bias);
      out_.emplace(w["fc2_latent_proj"], c.moe_latent_size, c.hidden_size, c.mlp_bias);
    }
    if (c.shared_intermediate_size > 0) shared_ = c.mlp(w["shared_experts"], c.shared_intermediate_size);
  }

  Array operator()(const Array& x) const override {
    const Array chosen = experts_(in_ ? (*in_)(x) : x, router_(x));
    const Array y = out_ ? (*out_)(chosen) : chosen;
    return shared_ ? y + (*shared_)(x) : y;
  }

 private:
  static PlainExperts experts(const Config& c, const Weights& w) {
    w.stack("experts", c.n_routed_experts, "up_proj", "switch_mlp.fc1");
    w.stack("experts", c.n_routed_experts, "down_proj", "switch_mlp.fc2");
    const int width = c.moe_latent_size > 0 ? c.moe_latent_size : c.hidden_size;
    return {w["switch_mlp"], {width, c.moe_intermediate_size, c.n_routed_experts}, Activation::relu2};
  }

  SigmoidRouter router_;
  PlainExperts experts_;
  std::optional<Linear> in_, out_;
  std::unique_ptr<FeedForward> shared_;
};

// x + mixer(norm(x)), the mixer a feed-forward in some of the layers.
class Block {
 public:
  Block(const Config& c, const Weights& w, int layer) : norm_(c.norm(w["norm"])) {
    const Weights part = w["mixer"];
    switch (c.kinds[static_cast<size_t>(layer)]) {
      case Kind::mamba: mixer_ = std::make_unique<Mamba2Mixer>(part, c.mamba); break;
      case Kind::attention: {
        auto shape = AttentionShape::of(c);
        shape.qkv_bias = shape.o_bias = c.attention_bias;
        mixer_ = std::make_unique<SelfAttention>(part, shape, Rope());
        break;
      }
      case Kind::mlp: feed_forward_ = c.mlp(part, c.intermediate_size); break;
      case Kind::moe: feed_forward_ = std::make_unique<LatentMoE>(c, part); break;
    }
  }

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = norm_(x);
    return x + (mixer_ ? (*mixer_)(h, cache) : (*feed_forward_)(h));
  }

 private:
  RMSNorm norm_;
  std::unique_ptr<Mixer> mixer_;  // or
  std::unique_ptr<FeedForward> feed_forward_;
};

class NemotronH final : public Decoder<Config, Block> {
 public:
  NemotronH(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    w["mtp"].discard();  // layers that predict ahead
  }
};

}  // namespace

MLXK_MODEL(NemotronH, "nemotron_h");

}  // namespace mlxk
