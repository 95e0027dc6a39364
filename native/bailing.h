// What the Ling and Ring families (Bailing) share: heads that are normalized; and of their hybrids lightning attention
// in most layers and mixtures of which groups are chosen first. Reference: mlx-lm 0.32.2, models/bailing_moe.py,
// models/bailing_moe_linear.py and models/bailing_hybrid.py. Thread: engine thread only.

#pragma once

#include <memory>

#include "decoder.h"
#include "experts.h"
#include "lightning_attention.h"

namespace mlxk {

struct BailingConfig : DecoderConfig {
  struct Defaults {
    const char* score_function;
    bool qk_norm, expert_bias;
    float partial_rotary_factor;
  };

  int layer_group_size, first_k_dense_replace, num_experts, moe_intermediate_size, group_norm_size;
  bool use_bias, use_qkv_bias, use_qk_norm, expert_bias;
  GroupedTopK routing;
  int shared_intermediate_size = 0;  // 0: no shared experts

  BailingConfig(const ConfigReader& c, const Defaults& defaults);

  // The last of every layer_group_size layers does, and what is left over at the end.
  bool attends(int layer) const;
  std::unique_ptr<LayerState> new_state(int layer) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
  // `index`: that of the layer, as it counts for the decay of its state.
  std::unique_ptr<Mixer> lightning(const Weights& w, int width_of_head, int index) const;
};

// The lengths of the columns of a head [vocabulary, hidden], packed or not, float32 [hidden]; the head stays there for
// its layer to take. Empty where the head does not fit.
Array column_lengths(const Weights& head, int vocab_size, int hidden_size);

// A decoder whose head's columns count with length one where its config's norm_head says so, as mlx-lm has it at every
// load. Config: a DecoderConfig with `bool norm_head`.
template <class Config>
class BailingDecoder : public Decoder<Config, PreNormBlock<Config>> {
  using Base = Decoder<Config, PreNormBlock<Config>>;

 public:
  BailingDecoder(const ConfigReader& reader, const Weights& w) : BailingDecoder(Config(reader), w) {}

  Array logits(const Array& hidden) const override {
    if (!lengths_) return Base::logits(hidden);
    return Base::logits(mx::astype(mx::astype(hidden, mx::Type::f32) / lengths_, hidden.dtype()));
  }

 private:
  BailingDecoder(const Config& c, const Weights& w) : BailingDecoder(c, w, head_lengths(c, w[c.names.lm_head])) {}
  BailingDecoder(const Config& c, const Weights& w, const Array& lengths) : Base(c, w), lengths_(lengths) {}

  static Array head_lengths(const Config& c, const Weights& head) {
    if (!c.norm_head || c.tie_word_embeddings || !head.has("weight")) return {};
    const Array lengths = column_lengths(head, c.vocab_size, c.hidden_size);
    return lengths ? lengths + 1e-7f : Array();
  }

  Array lengths_;
};

}  // namespace mlxk
