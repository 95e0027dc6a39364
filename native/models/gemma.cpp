// Gemma: dense decoder. Reference: mlx-lm, models/gemma.py.
// Against Llama: norm weights are stored less one; the embedding is scaled; gelu gates the feed-forward; always tied.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, true) {
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
    tie_word_embeddings = true;
    norm_offset = 1;
    activation = Activation::gelu;
  }

  AttentionShape attention(int) const { return AttentionShape::of(*this); }
};

class Gemma final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  using Decoder::Decoder;

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    return Decoder::embed(ids, batch) * std::sqrt(static_cast<float>(config().hidden_size));
  }
};

}  // namespace

MLXK_MODEL(Gemma, "gemma");

}  // namespace mlxk
