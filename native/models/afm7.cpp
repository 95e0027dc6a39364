// Apple Foundation Model 7: dense decoder. Reference: mlx-lm, models/afm7.py.
// Against Qwen3: neighbouring pairs are rotated, before the norms; keys and values are rounded to 8 bits; the last
// layers have none of their own and look at those of the last that has.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_kv_reuse_layers;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true,
                          .hidden_size = "hidden_dim",
                          .num_hidden_layers = "num_layers",
                          .intermediate_size = nullptr,
                          .num_attention_heads = "num_heads",
                          .default_norm_eps = 1e-5f}),
        num_kv_reuse_layers(c.integer("num_kv_reuse_layers", 0, 0, num_hidden_layers - 1)) {
    split_heads(c, "num_heads");
    num_key_value_heads = c.count("num_kv_heads");
    c.require(num_attention_heads % num_key_value_heads == 0, "num_kv_heads", "must divide num_heads");
    constexpr double kMost = 1 << 24;
    const double width = static_cast<double>(c.positive("hidden_dim_scale_factor", 3.25f)) * hidden_size;
    c.require(width >= 1 && width <= kMost, "hidden_dim_scale_factor", "must leave from 1 to 16777216 units");
    intermediate_size = static_cast<int>(width);
    tie_word_embeddings = true;
    names.embed_tokens = "model.embedding";
    names.norm = "model.output_norm";
    rope = Rope(c, head_dim, 50000.0f, true);
  }

  int own_layers() const { return num_hidden_layers - num_kv_reuse_layers; }
  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

// Tensors: qkv_proj, q_norm, k_norm, out_proj, quant_key_scale, quant_value_scale.
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w)
      : q_width_(c.hidden_size),
        kv_width_(c.num_key_value_heads * c.head_dim),
        head_dim_(c.head_dim),
        rope_(c.rope),
        qkv_proj_(w["qkv_proj"], c.hidden_size, q_width_ + 2 * kv_width_),
        out_proj_(w["out_proj"], c.hidden_size, c.hidden_size),
        q_norm_(w["q_norm"], c.head_dim, kNormEps),
        k_norm_(w["k_norm"], c.head_dim, kNormEps),
        key_scale_(mx::astype(w.take("quant_key_scale", {}), mx::Type::f32)),
        value_scale_(mx::astype(w.take("quant_value_scale", {}), mx::Type::f32)),
        options_{.scale = 1 / std::sqrt(static_cast<float>(c.head_dim))} {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1);
    const auto parts = mx::split_at(qkv_proj_(x), std::vector<int>{q_width_, q_width_ + kv_width_}, -1);
    const auto heads = [&](const Array& part) {
      return mx::swapaxes(mx::reshape(part, {batch, length, -1, head_dim_}), 1, 2);
    };
    const Array q = q_norm_(rope_(heads(parts[0]), cache));
    const Array k = rounded(k_norm_(rope_(heads(parts[1]), cache)), key_scale_);
    const Array v = rounded(heads(parts[2]), value_scale_);
    const Array attended = attention(q, k, v, cache, options_);
    return out_proj_(mx::reshape(mx::swapaxes(attended, 1, 2), {batch, length, q_width_}));
  }

  static constexpr float kNormEps = 1e-5f;

 private:
  // To a whole number of `scale` that 8 bits hold, as the model was trained.
  static Array rounded(const Array& x, const Array& scale) {
    const Array steps = mx::round(mx::astype(x, mx::Type::f32) / scale);
    return mx::astype(mx::clip(steps, -128, 127) * scale, x.dtype());
  }

  int q_width_, kv_width_, head_dim_;
  Rope rope_;
  Linear qkv_proj_, out_proj_;
  RMSNorm q_norm_, k_norm_;
  Array key_scale_, value_scale_;
  AttentionOptions options_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  if (layer < own_layers()) return std::make_unique<Attention>(*this, w["self_attn"]);
  auto shape = AttentionShape::of(*this);
  shape.qk_norm = QKNorm::per_head;
  shape.norm_after_rope = true;
  shape.norm_eps = Attention::kNormEps;
  shape.o_proj = "out_proj";
  shape.shared = own_layers() - 1;
  return std::make_unique<SelfAttention>(w["self_attn"], shape, rope);
}

class Afm7 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Afm7(const ConfigReader& reader, const Weights& w) : Afm7(Config(reader), w) {}

 private:
  Afm7(const Config& c, const Weights& w) : Decoder(c, in_one_list(c, w["model"], w)) {}

  // A checkpoint counts the layers without keys on their own.
  static const Weights& in_one_list(const Config& c, const Weights& model, const Weights& w) {
    for (int i = 0; i < c.num_kv_reuse_layers; ++i) {
      model.rename("kv_reuse_layers." + std::to_string(i), "layers." + std::to_string(c.own_layers() + i));
    }
    return w;
  }
};

}  // namespace

MLXK_MODEL(Afm7, "afm7");

}  // namespace mlxk
