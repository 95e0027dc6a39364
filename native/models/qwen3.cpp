// Qwen3: dense decoder. Reference: mlx-lm, models/qwen3.py.
// Against Llama: q and k are normalized per head before rope; attention has no biases.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config {
  int hidden_size, num_hidden_layers, intermediate_size, num_attention_heads, num_key_value_heads, head_dim, vocab_size;
  float rms_norm_eps;
  bool tie_word_embeddings;
  Rope rope;
  static constexpr bool mlp_bias = false;

  explicit Config(const ConfigReader& c)
      : hidden_size(c.dim("hidden_size")),
        num_hidden_layers(c.layers("num_hidden_layers")),
        intermediate_size(c.dim("intermediate_size")),
        num_attention_heads(c.count("num_attention_heads")),
        num_key_value_heads(c.count("num_key_value_heads")),
        head_dim(c.dim("head_dim")),
        vocab_size(c.dim("vocab_size")),
        rms_norm_eps(c.positive("rms_norm_eps")),
        tie_word_embeddings(c.flag("tie_word_embeddings", false)),
        rope(c, head_dim, 1000000.0f) {
    c.require(num_attention_heads % num_key_value_heads == 0, "num_key_value_heads", "must divide num_attention_heads");
  }

  AttentionShape attention(int) const {
    return {.hidden_size = hidden_size,
            .heads = num_attention_heads,
            .kv_heads = num_key_value_heads,
            .head_dim = head_dim,
            .qk_norm_eps = rms_norm_eps};
  }

  std::unique_ptr<LayerState> new_state(int) const { return std::make_unique<KVCache>(); }
};

using Qwen3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen3, "qwen3");

}  // namespace mlxk
