// Gemma 3, text: dense decoder. Reference: mlx-lm, models/gemma3_text.py.
// Against Gemma: norms before and after attention and feed-forward; q and k are normalized per head; all layers but
// every sixth slide and rotate with a base of their own; residual sums are clipped in float16.

#include <algorithm>
#include <cmath>
#include <utility>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int sliding_window, sliding_window_pattern;
  float query_pre_attn_scalar;
  Rope global, local;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(complete(c), {.tied = true, .default_norm_eps = 1e-6f}),
        sliding_window(c.dim("sliding_window", 512)),
        sliding_window_pattern(c.count("sliding_window_pattern", 6)),
        query_pre_attn_scalar(c.positive("query_pre_attn_scalar", 256.0f)),
        global(rope_of(c, "full_attention", head_dim, "rope_theta", 1000000.0f)),
        local(rope_of(c, "sliding_attention", head_dim, "rope_local_base_freq", 10000.0f)) {
    norm_offset = 1;
  }

  int window(int layer) const { return (layer + 1) % sliding_window_pattern == 0 ? 0 : sliding_window; }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this);
    shape.qk_norm = QKNorm::per_head;
    shape.scale = 1 / std::sqrt(query_pre_attn_scalar);
    shape.window = window(layer);
    return shape;
  }
  std::unique_ptr<LayerState> new_state(int layer) const { return std::make_unique<KVCache>(window(layer)); }

 private:
  // The published multimodal checkpoints state only what differs from these.
  static ConfigReader complete(const ConfigReader& c) {
    constexpr std::pair<const char*, int64_t> kDefaults[] = {
        {"head_dim", 256}, {"num_attention_heads", 4}, {"num_key_value_heads", 1}, {"vocab_size", 262144}};
    ConfigReader out = c;
    for (const auto& [field, value] : kDefaults) {
      if (!c.has(field)) out = out.with(field, Json(value));
    }
    return out;
  }
  // Newer checkpoints (transformers 5) keep a rotation for each kind of layer; in older ones the scaling is of the
  // layers that attend to everything.
  static Rope rope_of(const ConfigReader& c, const char* kind, int dims, const char* theta, float fallback) {
    const auto kinds = c.maybe("rope_parameters");
    if (const auto own = kinds ? kinds->maybe(kind) : std::nullopt) return Rope::of_parameters(*own, dims, fallback);
    if (std::string_view(theta) == "rope_theta") return {c, dims, fallback};
    return {dims, c.positive(theta, fallback)};
  }
};

// Sums that leave the range of float16 are held at its edge.
Array clipped_sum(const Array& x, const Array& y) {
  if (x.dtype() != mx::Type::f16) return x + y;
  constexpr float kMaxFloat16 = 65504.0f;
  const Array sum = mx::astype(x, mx::Type::f32) + mx::astype(y, mx::Type::f32);
  return mx::astype(mx::clip(sum, -kMaxFloat16, kMaxFloat16), mx::Type::f16);
}

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : input_layernorm_(w["input_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        self_attn_(w["self_attn"], c.attention(layer), c.window(layer) > 0 ? c.local : c.global),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        pre_feedforward_layernorm_(w["pre_feedforward_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, false, Activation::gelu_tanh),
        post_feedforward_layernorm_(w["post_feedforward_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = clipped_sum(x, post_attention_layernorm_(self_attn_(input_layernorm_(x), cache)));
    return clipped_sum(h, post_feedforward_layernorm_(mlp_(pre_feedforward_layernorm_(h))));
  }

 private:
  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_, pre_feedforward_layernorm_;
  GatedMLP mlp_;
  RMSNorm post_feedforward_layernorm_;
};

class Gemma3Text final : public Decoder<Config, Block> {
 public:
  // Tied exactly when the checkpoint has no head of its own, whatever the config says.
  Gemma3Text(const ConfigReader& reader, const Weights& w) : Decoder(with_head(Config(reader), w), w) {}

 protected:
  // The scale is rounded to bfloat16, as the model was trained.
  Array embed(const Array& ids, Batch& batch) const override {
    const Array h = Decoder::embed(ids, batch);
    const Array scale = mx::scalar(std::sqrt(static_cast<float>(config().hidden_size)), mx::Type::bf16);
    return h * mx::astype(scale, h.dtype());
  }

 private:
  static Config with_head(Config c, const Weights& w) {
    c.tie_word_embeddings = !w["lm_head"].has("weight");
    return c;
  }
};

}  // namespace

MLXK_MODEL(Gemma3Text, "gemma3_text");

}  // namespace mlxk
