// See lfm2.h.

#include "lfm2.h"

#include <algorithm>

namespace mlxk {

Lfm2Config::Lfm2Config(const ConfigReader& c)
    : DecoderConfig(c, {.tied = true, .intermediate_size = nullptr, .norm_eps = "norm_eps"}),
      conv_L_cache(c.integer("conv_L_cache", 3, 1, 1024)),
      conv_bias(c.flag("conv_bias", false)) {
  tie_word_embeddings = true;
  c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
  head_dim = hidden_size / num_attention_heads;
  names.norm = "model.embedding_norm";
  names.mixer_norm = "operator_norm";
  names.feed_forward_norm = "ffn_norm";
  rope = Rope(c, head_dim, 1000000.0f);
  if (c.has("full_attn_idxs")) {
    full_attn_idxs = c.ints("full_attn_idxs", 0, num_hidden_layers - 1);
    return;
  }
  const auto types = c.texts("layer_types");
  c.require(types.size() == static_cast<size_t>(num_hidden_layers), "layer_types",
            "must have one entry for each of num_hidden_layers");
  for (int i = 0; i < num_hidden_layers; ++i) {
    if (types[static_cast<size_t>(i)] == "full_attention") full_attn_idxs.push_back(i);
  }
}

bool Lfm2Config::attends(int layer) const { return std::ranges::find(full_attn_idxs, layer) != full_attn_idxs.end(); }

std::unique_ptr<LayerState> Lfm2Config::new_state(int layer) const {
  if (attends(layer)) return std::make_unique<KVCache>();
  return std::make_unique<RecurrentState>(1);
}

std::unique_ptr<Mixer> Lfm2Config::mixer(const Weights& w, int layer) const {
  if (!attends(layer)) return std::make_unique<GatedConvolution>(w["conv"], hidden_size, conv_L_cache, conv_bias);
  auto shape = AttentionShape::of(*this, layer);
  shape.qk_norm = QKNorm::per_head;
  shape.q_norm = "q_layernorm";
  shape.k_norm = "k_layernorm";
  shape.o_proj = "out_proj";
  return std::make_unique<SelfAttention>(w["self_attn"], shape, rope);
}

}  // namespace mlxk
