// The frame that decoder-only architectures share: embedding, blocks in order, final norm, head (its own or tied).
// An architecture supplies `Config`, a DecoderConfig and what its blocks read, and `Block`.

#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "layers.h"
#include "model.h"

namespace mlxk {

// The fields of config.json that nearly every decoder has, under the checkpoint's names.
struct DecoderConfig {
  int hidden_size, num_hidden_layers, intermediate_size, num_attention_heads, num_key_value_heads, head_dim, vocab_size;
  float rms_norm_eps;
  bool tie_word_embeddings;
  bool mlp_bias = false;
  float norm_offset = 0;  // added to the weight of every norm
  Activation activation = Activation::silu;

  // `tied`: the architecture's default for tie_word_embeddings. num_key_value_heads defaults to num_attention_heads,
  // head_dim to their share of hidden_size.
  DecoderConfig(const ConfigReader& c, bool tied);

  std::unique_ptr<LayerState> new_state(int) const { return std::make_unique<KVCache>(); }
};

// For each layer the window it attends through, 0 for everything, from `layer_types`; `fallback(i)` tells whether layer
// i slides where the config does not list them.
std::vector<int> layer_windows(const ConfigReader& c, int layers, bool (*fallback)(int layer));

// Config: a DecoderConfig. Block: Block(const Config&, const Weights& of the layer, int layer); Array operator()(const
// Array& x, const LayerCache& cache) const, [B, L, D] to [B, L, D].
template <class Config, class Block>
class Decoder : public Model {
 public:
  Decoder(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed(ids);
    for (int i = 0; i < config_.num_hidden_layers; ++i) h = layers_[static_cast<size_t>(i)](h, {batch, i});
    batch.advance();
    return norm_(h);
  }

  Array logits(const Array& hidden) const override {
    return lm_head_ ? (*lm_head_)(hidden) : embed_tokens_.as_linear(hidden);
  }

  SequenceCache new_cache() const override {
    SequenceCache cache;
    for (int i = 0; i < config_.num_hidden_layers; ++i) cache.layers.push_back(config_.new_state(i));
    return cache;
  }

  int vocab_size() const override { return config_.vocab_size; }
  int attention_heads() const override { return config_.num_attention_heads; }

 protected:
  Decoder(Config config, const Weights& w)
      : config_(std::move(config)),
        embed_tokens_(w["model"]["embed_tokens"], config_.vocab_size, config_.hidden_size),
        norm_(w["model"]["norm"], config_.hidden_size, config_.rms_norm_eps, config_.norm_offset) {
    w.discard_suffix("rotary_emb.inv_freq");  // a buffer that old checkpoints saved
    if (config_.tie_word_embeddings) {
      w["lm_head"].discard();
    } else {
      lm_head_.emplace(w["lm_head"], config_.hidden_size, config_.vocab_size);
    }
    for (int i = 0; i < config_.num_hidden_layers; ++i) layers_.emplace_back(config_, w["model"]["layers"][i], i);
  }

  // ids [B, L] to what the first block receives, [B, L, D].
  virtual Array embed(const Array& ids) const { return embed_tokens_(ids); }

  const Config& config() const { return config_; }

 private:
  Config config_;
  Embedding embed_tokens_;
  std::vector<Block> layers_;
  RMSNorm norm_;
  std::optional<Linear> lm_head_;
};

}  // namespace mlxk
