// InternLM 3: dense decoder. Reference: mlx-lm, models/internlm3.py.
// Against Llama: the biases of attention and feed-forward have fields of their own; not tied unless the config says so.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool qkv_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), qkv_bias(c.flag("qkv_bias", false)) {
    split_heads(c);
    mlp_bias = c.flag("bias", false);
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = qkv_bias;
    return shape;
  }
};

using InternLM3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(InternLM3, "internlm3");

}  // namespace mlxk
