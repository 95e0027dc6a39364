// Qwen3: dense decoder. Reference: mlx-lm, models/qwen3.py.
// Against Llama: q and k are normalized per head before rope; attention has no biases.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, false) { rope = Rope(c, head_dim, 1000000.0f); }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }
};

using Qwen3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen3, "qwen3");

}  // namespace mlxk
