// Hunyuan dense: dense decoder. Reference: mlx-lm, models/hunyuan_v1_dense.py.
// Against Llama: q and k are normalized per head after rope, whose base grows with `alpha`.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, use_qk_norm;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        use_qk_norm(c.flag("use_qk_norm", true)) {
    rope = Rope::ntk_alpha(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = attention_bias;
    if (use_qk_norm) shape.qk_norm = QKNorm::per_head;
    shape.norm_after_rope = true;
    shape.q_norm = "query_layernorm";
    shape.k_norm = "key_layernorm";
    return shape;
  }
};

using HunyuanV1Dense = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(HunyuanV1Dense, "hunyuan_v1_dense");

}  // namespace mlxk
