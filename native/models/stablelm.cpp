// StableLM 2 and StableLM 3B: dense decoder. Reference: mlx-lm, models/stablelm.py.
// Against Llama: LayerNorm; part of each head is rotated; attention and feed-forward may stand side by side; q and k
// may have a LayerNorm for each head.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  bool use_qkv_bias, use_parallel_residual, qk_layernorm;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.norm_eps = "layer_norm_eps"}),
        use_qkv_bias(c.flag("use_qkv_bias", false)),
        use_parallel_residual(c.flag("use_parallel_residual", false)),
        qk_layernorm(c.flag("qk_layernorm", false)) {
    c.require(!qk_layernorm, "qk_layernorm", "must be false: a LayerNorm for each head is not supported");
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    tie_word_embeddings = false;
    head_dim = hidden_size / num_attention_heads;
    const char* share = c.has("partial_rotary_factor") ? "partial_rotary_factor" : "rope_pct";
    rope = Rope(c, rotary_dims(c, head_dim, share, 0.25f), 10000.0f);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = use_qkv_bias;
    return shape;
  }
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer) {
    if (c.use_parallel_residual) {
      parallel_.emplace(c, w, layer);
    } else {
      sequential_.emplace(c, w, layer);
    }
  }
  Array operator()(const Array& x, const LayerCache& cache) const {
    return parallel_ ? (*parallel_)(x, cache) : (*sequential_)(x, cache);
  }

 private:
  std::optional<ParallelBlock<Config>> parallel_;
  std::optional<PreNormBlock<Config>> sequential_;
};

using StableLm = Decoder<Config, Block>;

}  // namespace

MLXK_MODEL(StableLm, "stablelm");

}  // namespace mlxk
