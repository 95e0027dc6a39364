// MiMo-V2-Flash: mixture of experts. Reference: mlx-lm, models/mimo_v2_flash.py.
// Against Llama: layers that slide have heads, a base and sinks of their own; values are narrower than keys and may be
// scaled; part of each head is rotated; some layers are mixtures, routed as DeepSeek-V3's.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

// A list of 0 and 1, one each layer.
std::vector<int> read_pattern(const ConfigReader& c, const char* field, int layers) {
  const auto pattern = c.ints(field, 0, 1);
  c.require(pattern.size() == static_cast<size_t>(layers), field, "must have one entry for each of num_hidden_layers");
  return pattern;
}

// What differs between layers that slide and the others.
struct Heads {
  int heads, kv_heads, head_dim, v_head_dim;
  bool sinks;
  Rope rope{};
};

struct Config : DecoderConfig {
  int n_routed_experts, n_shared_experts, moe_intermediate_size;
  std::vector<int> hybrid_layer_pattern, moe_layer_freq;
  float attention_value_scale;
  GroupedTopK routing;
  Heads full, sliding;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.norm_eps = "layernorm_epsilon"}),
        n_routed_experts(c.count_or_zero("n_routed_experts", 0)),
        n_shared_experts(c.count_or_zero("n_shared_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        hybrid_layer_pattern(read_pattern(c, "hybrid_layer_pattern", num_hidden_layers)),
        moe_layer_freq(read_pattern(c, "moe_layer_freq", num_hidden_layers)),
        attention_value_scale(c.number("attention_value_scale", 1.0f)),
        routing(read_grouped_top_k(c, n_routed_experts)) {
    tie_word_embeddings = false;
    routing.epsilon = 1e-20f;
    full = {.heads = num_attention_heads,
            .kv_heads = num_key_value_heads,
            .head_dim = head_dim,
            .v_head_dim = c.dim("v_head_dim", head_dim),
            .sinks = c.flag("add_full_attention_sink_bias", false)};
    sliding = {.heads = c.count("swa_num_attention_heads", full.heads),
               .kv_heads = c.count("swa_num_key_value_heads", full.kv_heads),
               .head_dim = c.dim("swa_head_dim", full.head_dim),
               .v_head_dim = c.dim("swa_v_head_dim", full.v_head_dim),
               .sinks = c.flag("add_swa_attention_sink_bias", false)};
    c.require(sliding.heads % sliding.kv_heads == 0, "swa_num_key_value_heads", "must divide swa_num_attention_heads");
    full.rope = Rope(c, rotary_dims(c, full.head_dim, "partial_rotary_factor", 1.0f), 10000.0f);
    const int rotated = rotary_dims(c, sliding.head_dim, "partial_rotary_factor", 1.0f);
    c.require(rotated > 0 && rotated % 2 == 0, "swa_head_dim", "must be even to be rotated");
    sliding.rope = Rope(rotated, c.positive("swa_rope_theta", 10000.0f));
    const int window = c.dim("sliding_window_size");
    for (const int slides : hybrid_layer_pattern) windows.push_back(slides ? window : 0);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (n_routed_experts == 0 || !moe_layer_freq[static_cast<size_t>(index)]) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    return grouped_moe(w, {hidden_size, moe_intermediate_size, n_routed_experts}, routing, n_shared_experts);
  }
};

// Scaling the values scales what attention and the output matrix make of them.
class Attention final : public SelfAttention {
 public:
  Attention(const Weights& w, const AttentionShape& shape, const Rope& rope, float value_scale)
      : SelfAttention(w, shape, rope), value_scale_(value_scale) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const Array out = SelfAttention::operator()(x, cache);
    return value_scale_ == 1 ? out : out * value_scale_;
  }

 private:
  float value_scale_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["self_attn"];
  w.rename("attention_sink_bias", "sinks");
  const Heads& h = window(index) > 0 ? sliding : full;
  auto shape = AttentionShape::of(*this, index);
  shape.heads = h.heads;
  shape.kv_heads = h.kv_heads;
  shape.head_dim = h.head_dim;
  shape.value_dim = h.v_head_dim;
  shape.sinks = h.sinks;
  return std::make_unique<Attention>(w, shape, h.rope, attention_value_scale);
}

class MiMoV2Flash final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  MiMoV2Flash(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {
    w["model"]["mtp"].discard();
  }
};

}  // namespace

MLXK_MODEL(MiMoV2Flash, "mimo_v2_flash");

}  // namespace mlxk
