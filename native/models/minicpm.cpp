// MiniCPM: dense decoder. Reference: mlx-lm, models/minicpm.py.
// Against Llama: the embedding and the residual branches are scaled, and the scores where the head is not tied.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  float scale_emb;
  int dim_model_base;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false), scale_emb(c.positive("scale_emb")), dim_model_base(c.dim("dim_model_base")) {
    split_heads(c);
    residual_multiplier = c.positive("scale_depth") / std::sqrt(static_cast<float>(num_hidden_layers));
    rope = Rope(c, head_dim, 1000000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int) const { return AttentionShape::of(*this); }
};

class MiniCpm final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  MiniCpm(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), with_head(w)) {}

  Array logits(const Array& hidden) const override {
    const float width = static_cast<float>(config().hidden_size) / static_cast<float>(config().dim_model_base);
    return Decoder::logits(config().tie_word_embeddings ? hidden : hidden * (1 / width));
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override { return Decoder::embed(ids, batch) * config().scale_emb; }

 private:
  // The embedding serves where a checkpoint without a head does not say that it is tied; the scores are then scaled.
  static const Weights& with_head(const Weights& w) {
    const Weights head = w["lm_head"], embedding = w["model"]["embed_tokens"];
    if (head.has("weight")) return w;
    for (const char* leaf : {"weight", "scales", "biases"}) {
      if (embedding.has(leaf)) head.put(leaf, embedding.peek(leaf));
    }
    return w;
  }
};

}  // namespace

MLXK_MODEL(MiniCpm, "minicpm");

}  // namespace mlxk
