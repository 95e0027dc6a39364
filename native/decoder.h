// The frame that decoder-only architectures share: embedding, blocks in order, final norm, head (its own or tied).
// An architecture supplies `Config` (with the fields used below and new_state) and `Block`.

#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "layers.h"
#include "model.h"

namespace mlxk {

// Config: hidden_size, num_hidden_layers, num_attention_heads, vocab_size, rms_norm_eps, tie_word_embeddings, and
//   std::unique_ptr<LayerState> new_state(int layer) const.
// Block: Block(const Config&, const Weights& of the layer, int layer); Array operator()(const Array& x, const
//   LayerCache& cache) const, [B, L, D] to [B, L, D].
template <class Config, class Block>
class Decoder : public Model {
 public:
  Decoder(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed_tokens_(ids);
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
        norm_(w["model"]["norm"], config_.hidden_size, config_.rms_norm_eps) {
    w.discard_suffix("rotary_emb.inv_freq");  // a buffer that old checkpoints saved
    if (config_.tie_word_embeddings) {
      w["lm_head"].discard();
    } else {
      lm_head_.emplace(w["lm_head"], config_.hidden_size, config_.vocab_size);
    }
    for (int i = 0; i < config_.num_hidden_layers; ++i) layers_.emplace_back(config_, w["model"]["layers"][i], i);
  }

  const Config& config() const { return config_; }

 private:
  Config config_;
  Embedding embed_tokens_;
  std::vector<Block> layers_;
  RMSNorm norm_;
  std::optional<Linear> lm_head_;
};

}  // namespace mlxk
