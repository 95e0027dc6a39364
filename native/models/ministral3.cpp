// Ministral 3: dense decoder. Reference: mlx-lm, models/ministral3.py.
// Against Llama: queries grow with their position, as in Llama 4; layers may slide.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  PositionScale growth;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true), growth(PositionScale::read(c.child("rope_parameters"))) {
    rope = Rope(c, head_dim, 10000.0f);
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; }, 0);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

class Attention final : public SelfAttention {
 public:
  Attention(const Config& c, const Weights& w, int layer)
      : SelfAttention(w, AttentionShape::of(c, layer), c.rope), growth_(c.growth) {}

 protected:
  Array prepared(const Array& q, const LayerCache& cache) const override { return growth_(q, cache); }
  bool prepares() const override { return true; }

 private:
  PositionScale growth_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  return std::make_unique<Attention>(*this, w["self_attn"], layer);
}

using Ministral3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Ministral3, "ministral3");

}  // namespace mlxk
