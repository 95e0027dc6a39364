// The frame that decoder-only architectures share: embedding, blocks in order, final norm, head (its own or tied).
// An architecture supplies `Config`, a DecoderConfig and what its blocks read, and `Block`.

#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "layers.h"
#include "model.h"
#include "rope.h"

namespace mlxk {

// The names an architecture gives to the common fields of config.json. A null name: the architecture has no such field,
// or sets what it stands for itself.
struct DecoderFields {
  bool tied = false;  // default for tie_word_embeddings
  const char* hidden_size = "hidden_size";
  const char* num_hidden_layers = "num_hidden_layers";
  const char* intermediate_size = "intermediate_size";
  const char* num_attention_heads = "num_attention_heads";
  const char* norm_eps = "rms_norm_eps";
  std::optional<float> default_norm_eps{};
  const char* vocab_size = "vocab_size";
};

// Where a checkpoint keeps the parts of the frame.
struct DecoderNames {
  const char* embed_tokens = "model.embed_tokens";
  const char* layers = "model.layers";
  const char* norm = "model.norm";
  const char* lm_head = "lm_head";
  const char* mixer_norm = "input_layernorm";
  const char* feed_forward_norm = "post_attention_layernorm";
};

// The fields of config.json that nearly every decoder has, under the checkpoint's names.
struct DecoderConfig {
  int hidden_size, num_hidden_layers, intermediate_size, num_attention_heads, num_key_value_heads, head_dim, vocab_size;
  float rms_norm_eps;  // of LayerNorm too, where that is the architecture's norm
  bool tie_word_embeddings;
  bool lm_head_bias = false;
  bool mlp_bias = false;
  float norm_offset = 0;  // added to the weight of every norm
  float residual_multiplier = 1;
  Activation activation = Activation::silu;
  DecoderNames names;
  Rope rope;                 // of every layer, unless the architecture's layer_rope says otherwise
  std::vector<int> windows;  // by layer, 0 for everything; empty: no layer slides

  // num_key_value_heads defaults to num_attention_heads, head_dim to their share of hidden_size.
  DecoderConfig(const ConfigReader& c, const DecoderFields& fields);
  DecoderConfig(const ConfigReader& c, bool tied) : DecoderConfig(c, DecoderFields{.tied = tied}) {}

  // Makes head_dim the heads' share of hidden_size, whatever the config says of it. Throws config_invalid, naming
  // `heads`, where they do not divide it.
  void split_heads(const ConfigReader& c, const char* heads = "num_attention_heads");

  using Norm = RMSNorm;
  Norm norm(const Weights& w) const { return {w, hidden_size, rms_norm_eps, norm_offset}; }

  Rope layer_rope(int) const { return rope; }
  int window(int layer) const { return windows.empty() ? 0 : windows[static_cast<size_t>(layer)]; }

  static constexpr int kStatesPerLayer = 1;
  std::unique_ptr<LayerState> new_state(int index) const { return std::make_unique<KVCache>(window(index)); }
};

// A DecoderConfig whose norms are LayerNorms.
struct LayerNormConfig : DecoderConfig {
  bool norm_bias = true;

  using DecoderConfig::DecoderConfig;
  using Norm = LayerNorm;
  Norm norm(const Weights& w) const { return {w, hidden_size, rms_norm_eps, norm_bias, norm_offset}; }
};

// For each layer the window it attends through, 0 for everything, from `layer_types`; `fallback(i)` tells whether layer
// i slides where the config does not list them, `window` how far where it has no sliding_window.
std::vector<int> layer_windows(const ConfigReader& c, int layers, bool (*fallback)(int layer),
                               std::optional<int> window = {});

// A list of what every layer is, each one of `known`. Throws config_invalid for another, or for a list of another
// length.
std::vector<std::string> layer_kinds(const ConfigReader& c, const char* field, int layers,
                                     std::initializer_list<std::string_view> known);

// The dimensions of a head that are rotated: `share` of it, by `field` of the config. Throws config_invalid for a share
// that is not above 0 and at most 1.
int rotary_dims(const ConfigReader& c, int head_dim, const char* field, float fallback);

// The language model of a multimodal checkpoint, `language_model`, whichever way the checkpoint nests it. What sees and
// hears is discarded.
Weights language_tower(const Weights& w);

// Config: a DecoderConfig. Block: Block(const Config&, const Weights& of the layer, int layer); Array operator()(const
// Array& x, const LayerCache& cache) const, [B, L, D] to [B, L, D].
template <class Config, class Block>
class Decoder : public Model {
 public:
  Decoder(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed(ids, batch);
    for (int i = 0; i < config_.num_hidden_layers; ++i) {
      h = layers_[static_cast<size_t>(i)](h, {batch, i * Config::kStatesPerLayer});
    }
    batch.advance();
    return norm_(h);
  }

  Array logits(const Array& hidden) const override {
    return lm_head_ ? (*lm_head_)(hidden) : embed_tokens_.as_linear(hidden);
  }

  SequenceCache new_cache() const override {
    SequenceCache cache;
    for (int i = 0; i < config_.num_hidden_layers * Config::kStatesPerLayer; ++i) {
      cache.layers.push_back(config_.new_state(i));
    }
    return cache;
  }

  int layers() const override { return config_.num_hidden_layers; }
  int vocab_size() const override { return config_.vocab_size; }

 protected:
  Decoder(Config config, const Weights& w)
      : config_(std::move(config)),
        embed_tokens_(w[config_.names.embed_tokens], config_.vocab_size, config_.hidden_size),
        norm_(config_.norm(w[config_.names.norm])) {
    w.discard_suffix("rotary_emb.inv_freq");  // a buffer that old checkpoints saved
    if (config_.tie_word_embeddings) {
      w[config_.names.lm_head].discard();
    } else {
      lm_head_.emplace(w[config_.names.lm_head], config_.hidden_size, config_.vocab_size, config_.lm_head_bias);
    }
    const Weights layers = w[config_.names.layers];
    for (int i = 0; i < config_.num_hidden_layers; ++i) layers_.emplace_back(config_, layers[i], i);
  }

  // ids [B, L] to what the first block receives, [B, L, D].
  virtual Array embed(const Array& ids, Batch&) const { return embed_tokens_(ids); }

  const Config& config() const { return config_; }
  // For an architecture whose blocks receive more than the residual: its own `hidden` goes through these.
  const std::vector<Block>& blocks() const { return layers_; }
  Array normalized(const Array& h) const { return norm_(h); }

 private:
  Config config_;
  Embedding embed_tokens_;
  std::vector<Block> layers_;
  typename Config::Norm norm_;
  std::optional<Linear> lm_head_;
};

}  // namespace mlxk
