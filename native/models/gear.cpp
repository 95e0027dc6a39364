// Gear: hybrid of attention and short convolutions. Reference: mlx-lm, models/gear.py.
// Against Gemma 3, text: layers may slide, attend to everything, or mix positions by convolutions of keys and values
// that the queries gate; the sums of the residual are not clipped.

#include <cmath>

#include "decoder.h"
#include "recurrence.h"
#include "transformer.h"

namespace mlxk {
namespace {

enum class Kind { full, sliding, convolution };

struct Config : DecoderConfig {
  std::vector<Kind> kinds;
  int sliding_window, conv_L_cache;
  float query_pre_attn_scalar, attn_logit_softcapping, final_logit_softcapping;
  bool attention_bias;
  Rope global, local;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        kinds(read_kinds(c, num_hidden_layers)),
        sliding_window(c.dim("sliding_window", 512)),
        conv_L_cache(c.integer("conv_L_cache", 3, 1, 1024)),
        query_pre_attn_scalar(c.positive("query_pre_attn_scalar", static_cast<float>(head_dim))),
        attn_logit_softcapping(c.has("attn_logit_softcapping") ? c.positive("attn_logit_softcapping") : 0),
        final_logit_softcapping(c.has("final_logit_softcapping") ? c.positive("final_logit_softcapping") : 0),
        attention_bias(c.flag("attention_bias", false)),
        global(c, head_dim, 1000000.0f),
        local(head_dim, c.positive("rope_local_base_freq", 10000.0f)) {
    c.require(!c.flag("use_bidirectional_attention", false), "use_bidirectional_attention", "must be false");
    norm_offset = 1;
    activation = read_activation(c, "hidden_activation", "gelu_pytorch_tanh");
  }

  Kind kind(int layer) const { return kinds[static_cast<size_t>(layer)]; }
  int window(int layer) const { return kind(layer) == Kind::sliding ? sliding_window : 0; }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (kind(layer) == Kind::convolution) return std::make_unique<RecurrentState>(2);
    return std::make_unique<KVCache>(window(layer));
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;

 private:
  static std::vector<Kind> read_kinds(const ConfigReader& c, int layers) {
    std::vector<Kind> kinds(static_cast<size_t>(layers), Kind::full);
    if (!c.has("layer_types")) return kinds;
    const auto types = c.texts("layer_types");
    c.require(types.size() == kinds.size(), "layer_types", "must have one entry for each of num_hidden_layers");
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] == "sliding_attention") {
        kinds[i] = Kind::sliding;
      } else if (types[i] == "conv_mixer") {
        kinds[i] = Kind::convolution;
      } else {
        c.require(types[i] == "full_attention", "layer_types",
                  "must hold full_attention, sliding_attention or conv_mixer");
      }
    }
    return kinds;
  }
};

// o(sigmoid(q * conv(k)) * conv(v)), q and k normalized head by head. Tensors: q_proj, k_proj, v_proj, o_proj, q_norm,
// k_norm, key_conv, value_conv.
class GatedConvolution final : public Mixer {
 public:
  GatedConvolution(const Config& c, const Weights& w)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        q_proj_(w["q_proj"], c.hidden_size, heads_width(heads_, c.head_dim), c.attention_bias),
        k_proj_(w["k_proj"], c.hidden_size, heads_width(kv_heads_, c.head_dim), c.attention_bias),
        v_proj_(w["v_proj"], c.hidden_size, heads_width(kv_heads_, c.head_dim), c.attention_bias),
        o_proj_(w["o_proj"], heads_width(heads_, c.head_dim), c.hidden_size, c.attention_bias),
        q_norm_(w["q_norm"], c.head_dim, c.rms_norm_eps, c.norm_offset),
        k_norm_(w["k_norm"], c.head_dim, c.rms_norm_eps, c.norm_offset),
        key_conv_(w["key_conv"], kv_heads_ * c.head_dim, c.conv_L_cache, c.attention_bias),
        value_conv_(w["value_conv"], kv_heads_ * c.head_dim, c.conv_L_cache, c.attention_bias) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1);
    const auto heads = [&](const Array& a, int count) { return mx::reshape(a, {batch, length, count, -1}); };
    const auto joined = [&](const Array& a) { return mx::reshape(a, {batch, length, -1}); };
    const auto expanded = [&](const Array& a) { return mx::repeat(heads(a, kv_heads_), heads_ / kv_heads_, 2); };
    const Array query = q_norm_(heads(q_proj_(x), heads_));
    const Array key = key_conv_(joined(k_norm_(heads(k_proj_(x), kv_heads_))), cache, 0);
    const Array value = value_conv_(v_proj_(x), cache, 1);
    return o_proj_(joined(mx::sigmoid(query * expanded(key)) * expanded(value)));
  }

 private:
  int heads_, kv_heads_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  RMSNorm q_norm_, k_norm_;
  ShortConvolution key_conv_, value_conv_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  if (kind(layer) == Kind::convolution) return std::make_unique<GatedConvolution>(*this, w["local_mixer"]);
  auto shape = AttentionShape::of(*this, layer);
  shape.qkv_bias = shape.o_bias = attention_bias;
  shape.qk_norm = QKNorm::per_head;
  shape.scale = 1 / std::sqrt(query_pre_attn_scalar);
  shape.softcap = attn_logit_softcapping;
  return std::make_unique<SelfAttention>(w["self_attn"], shape, kind(layer) == Kind::sliding ? local : global);
}

// A buffer that checkpoints may carry along.
const Weights& cleaned(const Weights& w) {
  w.discard_suffix("embed_scale");
  return w;
}

class Gear final : public Decoder<Config, SandwichBlock<Config>> {
 public:
  Gear(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), cleaned(w)) {}

  Array logits(const Array& hidden) const override {
    const float cap = config().final_logit_softcapping;
    return cap > 0 ? soft_cap(Decoder::logits(hidden), cap) : Decoder::logits(hidden);
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) * std::sqrt(static_cast<float>(config().hidden_size));
  }
};

}  // namespace

MLXK_MODEL(Gear, "gear");

}  // namespace mlxk
