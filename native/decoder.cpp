// See decoder.h.

#include "decoder.h"

#include <algorithm>

namespace mlxk {

DecoderConfig::DecoderConfig(const ConfigReader& c, bool tied)
    : hidden_size(c.dim("hidden_size")),
      num_hidden_layers(c.layers("num_hidden_layers")),
      intermediate_size(c.dim("intermediate_size")),
      num_attention_heads(c.count("num_attention_heads")),
      num_key_value_heads(c.count("num_key_value_heads", num_attention_heads)),
      head_dim(c.dim("head_dim", std::max(1, hidden_size / num_attention_heads))),
      vocab_size(c.dim("vocab_size")),
      rms_norm_eps(c.positive("rms_norm_eps")),
      tie_word_embeddings(c.flag("tie_word_embeddings", tied)) {
  c.require(num_attention_heads % num_key_value_heads == 0, "num_key_value_heads", "must divide num_attention_heads");
}

std::vector<int> layer_windows(const ConfigReader& c, int layers, bool (*fallback)(int layer)) {
  std::vector<int> windows(static_cast<size_t>(layers), 0);
  const bool listed = c.has("layer_types");
  const auto types = listed ? c.texts("layer_types") : std::vector<std::string>();
  if (listed) {
    c.require(types.size() == windows.size(), "layer_types", "must have one entry for each of num_hidden_layers");
  }
  for (size_t i = 0; i < windows.size(); ++i) {
    const bool slides = listed ? types[i] == "sliding_attention" : fallback(static_cast<int>(i));
    if (slides) {
      windows[i] = c.dim("sliding_window");
    } else if (listed) {
      c.require(types[i] == "full_attention", "layer_types", "must hold full_attention or sliding_attention");
    }
  }
  return windows;
}

}  // namespace mlxk
