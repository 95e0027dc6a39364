// Command R and Command R7B: dense decoders. References: mlx-lm, models/cohere.py and models/cohere2.py.
// Against Llama: LayerNorm; attention and feed-forward side by side; scores are scaled; neighbouring pairs are rotated.
// Of cohere2's layers three in four slide, and the fourth rotates nothing.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  bool attention_bias;
  float logit_scale;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.tied = true, .norm_eps = "layer_norm_eps", .default_norm_eps = 1e-5f}),
        attention_bias(c.flag("attention_bias", false)),
        logit_scale(c.positive("logit_scale", 0.0625f)) {
    tie_word_embeddings = true;
    norm_bias = c.flag("layer_norm_bias", false);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }
};

struct CohereConfig : Config {
  bool use_qk_norm;

  explicit CohereConfig(const ConfigReader& c) : Config(c), use_qk_norm(c.flag("use_qk_norm", false)) {
    rope = Rope(c, head_dim, 8000000.0f, true);
  }

  AttentionShape attention(int layer) const {
    auto shape = Config::attention(layer);
    if (use_qk_norm) shape.qk_norm = QKNorm::layer;
    return shape;
  }
};

struct Cohere2Config : Config {
  explicit Cohere2Config(const ConfigReader& c) : Config(c) {
    const int pattern = c.count("sliding_window_pattern", 4);
    for (int i = 0; i < num_hidden_layers; ++i) {
      windows.push_back((i + 1) % pattern == 0 ? 0 : c.dim("sliding_window", 4096));
    }
    rope = Rope(c, head_dim, 50000.0f, true);
  }
  Rope layer_rope(int layer) const { return window(layer) > 0 ? rope : Rope(); }
};

template <class C>
class Scaled : public Decoder<C, ParallelBlock<C>> {
 public:
  using Decoder<C, ParallelBlock<C>>::Decoder;
  Array logits(const Array& hidden) const override {
    return Decoder<C, ParallelBlock<C>>::logits(hidden) * this->config().logit_scale;
  }
};

using Cohere = Scaled<CohereConfig>;
using Cohere2 = Scaled<Cohere2Config>;

}  // namespace

MLXK_MODEL(Cohere, "cohere");
MLXK_MODEL(Cohere2, "cohere2");

}  // namespace mlxk
