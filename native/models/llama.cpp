// Llama and Mistral: dense decoder. Reference: mlx-lm, models/llama.py.
// Biases on the projections where the config says so; layers may attend through a sliding window.

#include <algorithm>
#include <vector>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config {
  int hidden_size, num_hidden_layers, intermediate_size, num_attention_heads, num_key_value_heads, head_dim, vocab_size;
  float rms_norm_eps;
  bool tie_word_embeddings, attention_bias, mlp_bias;
  Rope rope;
  std::vector<int> windows;  // per layer; 0 attends to everything

  explicit Config(const ConfigReader& c)
      : hidden_size(c.dim("hidden_size")),
        num_hidden_layers(c.layers("num_hidden_layers")),
        intermediate_size(c.dim("intermediate_size")),
        num_attention_heads(c.count("num_attention_heads")),
        num_key_value_heads(c.count("num_key_value_heads", num_attention_heads)),
        head_dim(c.dim("head_dim", std::max(1, hidden_size / num_attention_heads))),
        vocab_size(c.dim("vocab_size")),
        rms_norm_eps(c.positive("rms_norm_eps")),
        tie_word_embeddings(c.flag("tie_word_embeddings", true)),
        attention_bias(c.flag("attention_bias", false)),
        mlp_bias(c.flag("mlp_bias", false)),
        rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false)),
        windows(static_cast<size_t>(num_hidden_layers), 0) {
    c.require(num_attention_heads % num_key_value_heads == 0, "num_key_value_heads", "must divide num_attention_heads");
    if (!c.has("layer_types")) return;
    const auto types = c.texts("layer_types");
    c.require(types.size() == windows.size(), "layer_types", "must have one entry for each of num_hidden_layers");
    for (size_t i = 0; i < types.size(); ++i) {
      if (types[i] == "sliding_attention") {
        windows[i] = c.dim("sliding_window");
      } else {
        c.require(types[i] == "full_attention", "layer_types", "must hold full_attention or sliding_attention");
      }
    }
  }

  AttentionShape attention(int layer) const {
    return {.hidden_size = hidden_size,
            .heads = num_attention_heads,
            .kv_heads = num_key_value_heads,
            .head_dim = head_dim,
            .qkv_bias = attention_bias,
            .o_bias = attention_bias,
            .window = windows[static_cast<size_t>(layer)]};
  }

  std::unique_ptr<LayerState> new_state(int layer) const {
    return std::make_unique<KVCache>(windows[static_cast<size_t>(layer)]);
  }
};

using Llama = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Llama, "llama", "mistral");

}  // namespace mlxk
