// Gemma: dense decoder. Reference: mlx-lm, models/gemma.py.
// Against Llama: norm weights are stored less one; the embedding is scaled; gelu gates the feed-forward; always tied.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  Rope rope;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true), rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false)) {
    tie_word_embeddings = true;
    norm_offset = 1;
  }
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int)
      : input_layernorm_(w["input_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        self_attn_(w["self_attn"], AttentionShape::of(c), c.rope),
        post_attention_layernorm_(w["post_attention_layernorm"], c.hidden_size, c.rms_norm_eps, c.norm_offset),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, false, Activation::gelu) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + self_attn_(input_layernorm_(x), cache);
    return h + mlp_(post_attention_layernorm_(h));
  }

 private:
  RMSNorm input_layernorm_;
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_;
  GatedMLP mlp_;
};

class Gemma final : public Decoder<Config, Block> {
 public:
  using Decoder::Decoder;

 protected:
  Array embed(const Array& ids) const override {
    return Decoder::embed(ids) * std::sqrt(static_cast<float>(config().hidden_size));
  }
};

}  // namespace

MLXK_MODEL(Gemma, "gemma");

}  // namespace mlxk
