// What the hybrids of the Ling and Ring families (Bailing) share: lightning attention in most layers, mixtures of which
// groups are chosen first. Reference: mlx-lm 0.32.2, models/bailing_moe_linear.py and models/bailing_hybrid.py.
// Thread: engine thread only.

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
// its layer to take.
Array column_lengths(const Weights& head, int vocab_size, int hidden_size);

}  // namespace mlxk
