// Qwen2: dense decoder. Reference: mlx-lm, models/qwen2.py.
// Against Llama: q, k and v carry biases and nothing else does; the head width always follows from the hidden size.

#include <algorithm>

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
        head_dim(std::max(1, hidden_size / num_attention_heads)),
        vocab_size(c.dim("vocab_size")),
        rms_norm_eps(c.positive("rms_norm_eps")),
        tie_word_embeddings(c.flag("tie_word_embeddings", true)),
        rope(c, head_dim, 1000000.0f, c.flag("rope_traditional", false)) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    c.require(num_attention_heads % num_key_value_heads == 0, "num_key_value_heads", "must divide num_attention_heads");
  }

  AttentionShape attention(int) const {
    return {.hidden_size = hidden_size,
            .heads = num_attention_heads,
            .kv_heads = num_key_value_heads,
            .head_dim = head_dim,
            .qkv_bias = true};
  }

  std::unique_ptr<LayerState> new_state(int) const { return std::make_unique<KVCache>(); }
};

using Qwen2 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Qwen2, "qwen2");

}  // namespace mlxk
