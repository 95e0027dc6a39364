// Qwen2: dense decoder. Reference: mlx-lm, models/qwen2.py.
// Against Llama: q, k and v carry biases and nothing else does; the head width always follows from the hidden size.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, true) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    rope = Rope(c, head_dim, 1000000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = true;
    return shape;
  }
};

using Qwen2 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen2, "qwen2");

}  // namespace mlxk
