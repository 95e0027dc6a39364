// See decoder.h.

#include "decoder.h"

#include <algorithm>

namespace mlxk {

namespace {

float norm_eps(const ConfigReader& c, const DecoderFields& f) {
  return f.default_norm_eps ? c.positive(f.norm_eps, *f.default_norm_eps) : c.positive(f.norm_eps);
}

// A config that lists the kinds of its layers need not count them.
int layer_count(const ConfigReader& c, const char* field) {
  const Json* kinds = c.find("layer_types");
  if (c.has(field) || !kinds || !kinds->is_array()) return c.layers(field);
  return c.layers(field, static_cast<int>(std::min<size_t>(kinds->as_array().size(), 1 << 20)));
}

}  // namespace

DecoderConfig::DecoderConfig(const ConfigReader& c, const DecoderFields& f)
    : hidden_size(c.dim(f.hidden_size)),
      num_hidden_layers(f.num_hidden_layers ? layer_count(c, f.num_hidden_layers) : 0),
      intermediate_size(f.intermediate_size ? c.dim(f.intermediate_size) : 0),
      num_attention_heads(f.num_attention_heads ? c.count(f.num_attention_heads) : 1),
      num_key_value_heads(c.count("num_key_value_heads", num_attention_heads)),
      head_dim(c.dim("head_dim", std::max(1, hidden_size / num_attention_heads))),
      vocab_size(c.dim(f.vocab_size)),
      rms_norm_eps(norm_eps(c, f)),
      tie_word_embeddings(c.flag("tie_word_embeddings", f.tied)) {
  c.require(num_attention_heads % num_key_value_heads == 0, "num_key_value_heads", "must divide num_attention_heads");
}

Weights language_tower(const Weights& w) {
  const Weights model = w["model"];
  for (const char* part :
       {"visual", "vision_tower", "vision_model", "vision_encoder", "vision_embed_tokens", "vision_embedder",
        "vision_language_adapter", "vision_adapter", "vision_projection", "audio_tower", "embed_vision", "embed_audio",
        "multi_modal_projector", "mm_projector", "patch_merge_mlp", "patch_merger", "image_newline"}) {
    w[part].discard();
    model[part].discard();
  }
  w.rename("model.language_model", "language_model.model");
  w.rename("model", "language_model.model");
  w.rename("lm_head", "language_model.lm_head");
  return w["language_model"];
}

void DecoderConfig::split_heads(const ConfigReader& c, const char* heads) {
  c.require(hidden_size % num_attention_heads == 0, heads, "must divide the hidden size");
  head_dim = hidden_size / num_attention_heads;
}

int rotary_dims(const ConfigReader& c, int head_dim, const char* field, float fallback) {
  const float share = c.positive(field, fallback);
  c.require(share <= 1, field, "must be at most 1");
  return static_cast<int>(static_cast<float>(head_dim) * share);
}

std::vector<int> layer_windows(const ConfigReader& c, int layers, bool (*fallback)(int layer),
                               std::optional<int> window) {
  std::vector<int> windows(static_cast<size_t>(layers), 0);
  const bool listed = c.has("layer_types");
  const auto types = listed ? c.texts("layer_types") : std::vector<std::string>();
  if (listed) {
    c.require(types.size() == windows.size(), "layer_types", "must have one entry for each of num_hidden_layers");
  }
  for (size_t i = 0; i < windows.size(); ++i) {
    const bool slides = listed ? types[i] == "sliding_attention" : fallback(static_cast<int>(i));
    if (slides) {
      windows[i] = window && !c.has("sliding_window") ? *window : c.dim("sliding_window");
    } else if (listed) {
      c.require(types[i] == "full_attention", "layer_types", "must hold full_attention or sliding_attention");
    }
  }
  return windows;
}

std::vector<std::string> layer_kinds(const ConfigReader& c, const char* field, int layers,
                                     std::initializer_list<std::string_view> known) {
  auto kinds = c.texts(field);
  c.require(kinds.size() == static_cast<size_t>(layers), field, "must have one entry for each of num_hidden_layers");
  std::string list;
  for (const auto name : known) list += (list.empty() ? "" : " or ") + std::string(name);
  for (const auto& kind : kinds) c.require(std::ranges::find(known, kind) != known.end(), field, "must hold " + list);
  return kinds;
}

}  // namespace mlxk
