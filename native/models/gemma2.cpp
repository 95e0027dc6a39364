// Gemma 2: dense decoder. Reference: mlx-lm, models/gemma2.py, which attends to everything in every layer.
// Against Gemma: norms before and after attention and feed-forward; attention scores and final scores are capped.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  float attn_logit_softcapping, final_logit_softcapping, query_pre_attn_scalar;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attn_logit_softcapping(c.positive("attn_logit_softcapping", 50.0f)),
        final_logit_softcapping(c.positive("final_logit_softcapping", 30.0f)),
        query_pre_attn_scalar(c.positive("query_pre_attn_scalar", 144.0f)) {
    tie_word_embeddings = true;
    norm_offset = 1;
    activation = Activation::gelu_tanh;
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.scale = 1 / std::sqrt(query_pre_attn_scalar);
    shape.softcap = attn_logit_softcapping;
    return shape;
  }
};

class Gemma2 final : public Decoder<Config, SandwichBlock<Config>> {
 public:
  using Decoder::Decoder;
  Array logits(const Array& hidden) const override {
    return soft_cap(Decoder::logits(hidden), config().final_logit_softcapping);
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) * std::sqrt(static_cast<float>(config().hidden_size));
  }
};

}  // namespace

MLXK_MODEL(Gemma2, "gemma2");

}  // namespace mlxk
