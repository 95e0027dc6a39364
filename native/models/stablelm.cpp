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
    split_heads(c);
    tie_word_embeddings = false;
    const char* share = c.has("partial_rotary_factor") ? "partial_rotary_factor" : "rope_pct";
    rope = Rope(c, rotary_dims(c, head_dim, share, 0.25f), 10000.0f);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["self_attn"];
    auto shape = AttentionShape::of(*this, index);
    shape.qkv_bias = use_qkv_bias;
    if (qk_layernorm) {
      shape.qk_norm = QKNorm::layer;
      shape.q_norm = "q_layernorm";
      shape.k_norm = "k_layernorm";
      w.stack("q_layernorm.norms", num_attention_heads, "", "q_layernorm");
      w.stack("k_layernorm.norms", num_key_value_heads, "", "k_layernorm");
    }
    return std::make_unique<SelfAttention>(w, shape, rope);
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
