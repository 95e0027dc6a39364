// Ministral 3: dense decoder. Reference: mlx-lm, models/ministral3.py.
// Against Llama: queries grow with their position, as in Llama 4; layers may slide.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  float llama_4_scaling_beta, original_max_position_embeddings;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        llama_4_scaling_beta(c.child("rope_parameters").number("llama_4_scaling_beta")),
        original_max_position_embeddings(c.child("rope_parameters").positive("original_max_position_embeddings")) {
    rope = Rope(c, head_dim, 10000.0f);
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; });
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

class Attention final : public SelfAttention {
 public:
  Attention(const Config& c, const Weights& w, int layer)
      : SelfAttention(w, AttentionShape::of(c, layer), c.rope),
        beta_(c.llama_4_scaling_beta),
        original_(c.original_max_position_embeddings) {}

 protected:
  // 1 + beta * log(1 + floor(position / original)).
  Array prepared(const Array& q, const LayerCache& cache) const override {
    const Array positions = mx::astype(cache.batch.positions(), mx::Type::f32);  // [B or 1, L]
    const Array spans = mx::floor(positions * (1 / original_));
    const Array scale = mx::log(spans + 1.0f) * beta_ + 1.0f;
    return q * mx::astype(mx::reshape(scale, {positions.dim(0), 1, -1, 1}), q.dtype());
  }

 private:
  float beta_, original_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  return std::make_unique<Attention>(*this, w["self_attn"], layer);
}

using Ministral3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Ministral3, "ministral3");

}  // namespace mlxk
