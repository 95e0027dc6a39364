// Falcon-H1: hybrid of attention and Mamba-2 side by side. Reference: mlx-lm, models/falcon_h1.py.
// Against Llama: every layer attends and carries a state, of the same input; the original checkpoints leave a good many
// multipliers to the config, which converted ones have in their weights.

#include <limits>

#include "decoder.h"
#include "mamba.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  float embedding_multiplier, lm_head_multiplier;
  Mamba2Shape mamba;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 2}, {"head_dim", 64}}),
                      DecoderFields{.tied = true, .default_norm_eps = 1e-5f}),
        attention_bias(c.flag("attention_bias", false)),
        embedding_multiplier(c.positive("embedding_multiplier", 5.656854249492381f)),
        lm_head_multiplier(c.positive("lm_head_multiplier", 0.0390625f)),
        mamba{.hidden_size = hidden_size,
              .heads = c.count("mamba_n_heads", 24),
              .head_dim = c.dim("mamba_d_head", 64),
              .groups = c.count("mamba_n_groups", 1),
              .state_size = c.dim("mamba_d_state", 128),
              .kernel = c.integer("mamba_d_conv", 4, 1, 1024),
              .conv_bias = c.flag("mamba_conv_bias", true),
              .bias = c.flag("mamba_proj_bias", false),
              .out_bias = c.flag("projectors_bias", false),
              .limit = {0, std::numeric_limits<float>::infinity()},
              .norm = c.flag("mamba_rms_norm", false) ? Mamba2Shape::Norm::whole : Mamba2Shape::Norm::none,
              .norm_before_gate = c.flag("mamba_norm_before_gate", false),
              .norm_eps = rms_norm_eps} {
    mlp_bias = c.flag("mlp_bias", false);
    mamba.check(c, {"mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state"});
    c.require(c.dim("mamba_d_ssm", mamba.inner()) == mamba.inner(), "mamba_d_ssm",
              "must be mamba_n_heads times mamba_d_head");
    rope = Rope(c, head_dim, 1e11f, c.flag("rope_traditional", false));
    names.norm = "model.final_layernorm";
  }

  static constexpr int kStatesPerLayer = 2;  // attention's, the recurrence's
  std::unique_ptr<LayerState> new_state(int index) const {
    if (index % kStatesPerLayer == 0) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(Mamba2Mixer::kSlots);
  }

  AttentionShape attention() const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }
};

// h = x + attention(norm(x)) + mamba(norm(x)); h + feed_forward(norm(h)).
class Block {
 public:
  Block(const Config& c, const Weights& w, int)
      : input_layernorm_(c.norm(w["input_layernorm"])),
        self_attn_(w["self_attn"], c.attention(), c.rope),
        mamba_(w["mamba"], c.mamba),
        pre_ff_layernorm_(c.norm(w["pre_ff_layernorm"])),
        feed_forward_(w["feed_forward"], c.hidden_size, c.intermediate_size, c.mlp_bias) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array normed = input_layernorm_(x);
    const LayerCache second{cache.batch, cache.layer + 1};
    const Array h = x + mamba_(normed, second) + self_attn_(normed, cache);
    return h + feed_forward_(pre_ff_layernorm_(h));
  }

 private:
  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  Mamba2Mixer mamba_;
  RMSNorm pre_ff_layernorm_;
  GatedMLP feed_forward_;
};

std::vector<float> multipliers(const ConfigReader& c, const char* field, std::vector<float> fallback) {
  if (!c.has(field)) return fallback;
  const auto given = c.floats(field);
  c.require(given.size() == fallback.size(), field, "must hold " + std::to_string(fallback.size()) + " numbers");
  return given;
}

// Whether the filters of the convolutions lie as PyTorch has them.
bool is_original(const Config& c, const Weights& w) {
  const Weights conv = w[c.names.layers][0]["mamba.conv1d"];
  return conv.has("weight") && conv.peek("weight").ndim() == 3 &&
         conv.peek("weight").dim(2) > conv.peek("weight").dim(1);
}

// Multiplies the weights of an original checkpoint by what its config says, as mlx-lm's conversion does.
Config prepared(const ConfigReader& reader, Config c, const Weights& w) {
  if (!is_original(c, w)) return c;
  const auto scale = [](const Weights& module, float factor) {
    if (module.has("weight")) module.put("weight", module.peek("weight") * factor);
  };
  const float attention_in = reader.number("attention_in_multiplier", 1.0f);
  const float attention_out = reader.number("attention_out_multiplier", 0.9375f);
  const float ssm_in = reader.number("ssm_in_multiplier", 1.25f);
  const float ssm_out = reader.number("ssm_out_multiplier", 0.23570226039551587f);
  const auto mlp = multipliers(reader, "mlp_multipliers", {0.8838834764831844f, 0.5859375f});
  constexpr float kSmall = 0.3535533905932738f;
  const auto ssm = multipliers(reader, "ssm_multipliers", {kSmall, 0.25f, kSmall, 0.5f, kSmall});

  const Mamba2Shape& s = c.mamba;
  const int grouped = s.groups * s.state_size;
  const int sizes[] = {s.inner(), s.inner(), grouped, grouped, s.heads};  // gate, input, B, C, time steps
  std::vector<float> rows;
  for (size_t i = 0; i < ssm.size(); ++i) rows.insert(rows.end(), static_cast<size_t>(sizes[i]), ssm[i] * ssm_in);

  scale(w[c.names.embed_tokens], c.embedding_multiplier);
  scale(w[c.names.lm_head], c.lm_head_multiplier);
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    const Weights layer = w[c.names.layers][i];
    scale(layer["self_attn.q_proj"], attention_in);
    scale(layer["self_attn.k_proj"], attention_in);
    scale(layer["self_attn.o_proj"], attention_out);
    scale(layer["feed_forward.gate_proj"], mlp[0]);
    scale(layer["feed_forward.down_proj"], mlp[1]);
    scale(layer["mamba.out_proj"], ssm_out);
    const Weights in_proj = layer["mamba.in_proj"];
    if (in_proj.has("weight")) {
      const Array& weight = in_proj.peek("weight");
      const Array factors = mx::astype(mx::from_floats(rows, {static_cast<int>(rows.size()), 1}), weight.dtype());
      in_proj.put("weight", weight * factors);
    }
  }
  return c;
}

class FalconH1 final : public Decoder<Config, Block> {
 public:
  FalconH1(const ConfigReader& reader, const Weights& w) : Decoder(prepared(reader, Config(reader), w), w) {}

  // A tied head has been scaled as the embedding it is.
  Array logits(const Array& hidden) const override {
    const Array scores = Decoder::logits(hidden);
    if (!config().tie_word_embeddings) return scores;
    return scores * (config().lm_head_multiplier / config().embedding_multiplier);
  }
};

}  // namespace

MLXK_MODEL(FalconH1, "falcon_h1");

}  // namespace mlxk
