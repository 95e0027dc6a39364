// GLM-4 9B and GLM-Edge: dense decoder. Reference: mlx-lm, models/glm.py, which rotates whole heads.
// Against Llama: neighbouring pairs are rotated, in the part of each head that the config names; gate and up are one
// matrix.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, true), attention_bias(c.flag("attention_bias", false)) {
    rope = Rope(c, rotary_dims(c, head_dim, "partial_rotary_factor", 1.0f), 10000.0f, true);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = attention_bias;
    return shape;
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<FusedGatedMLP>(w["mlp"], hidden_size, intermediate_size);
  }
};

using Glm = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Glm, "glm");

}  // namespace mlxk
