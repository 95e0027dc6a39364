// MobileLLM-Pro (Llama 4 without experts): dense decoder. Reference: mlx-lm, models/llama4_text.py.
// Against Llama: q and k are normalized without weights; neighbouring pairs are rotated, in the layers that
// no_rope_layers names.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool use_qk_norm;
  std::vector<int> no_rope_layers;  // 1 for a layer that is rotated, in spite of the name

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), use_qk_norm(c.flag("use_qk_norm", false)) {
    intermediate_size = c.dim("intermediate_size_mlp", intermediate_size);
    no_rope_layers = c.ints("no_rope_layers", 0, 1);
    c.require(no_rope_layers.size() == static_cast<size_t>(num_hidden_layers), "no_rope_layers",
              "must have one entry for each of num_hidden_layers");
    rope = Rope(c, head_dim, 10000.0f, true);
    names.lm_head = "output";
  }

  Rope layer_rope(int layer) const { return no_rope_layers[static_cast<size_t>(layer)] ? rope : Rope(); }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    if (use_qk_norm) {
      shape.qk_norm = QKNorm::per_head;
      shape.norm_weights = false;
    }
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    return std::make_unique<GatedMLP>(layer["feed_forward"], hidden_size, intermediate_size);
  }
};

using Llama4Text = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Llama4Text, "llama4_text");

}  // namespace mlxk
