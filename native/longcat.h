// The decoder of LongCat-Flash: every layer attends twice and has two dense feed-forwards; a mixture takes a short cut
// around the second half; some of its experts return what they are given. Reference: mlx-lm 0.32.2,
// models/longcat_flash.py. Thread: engine thread only.

#pragma once

#include <memory>
#include <optional>

#include "decoder.h"
#include "experts.h"
#include "latent_attention.h"

namespace mlxk {

struct LongcatConfig : DecoderConfig {
  int expert_ffn_hidden_size, n_routed_experts, zero_expert_num, moe_topk;
  bool norm_topk_prob, router_bias;
  float routed_scaling_factor;
  LatentShape latent;

  explicit LongcatConfig(const ConfigReader& c);

  static constexpr int kStatesPerLayer = 2;
};

class LongcatBlock {
 public:
  LongcatBlock(const LongcatConfig& c, const Weights& w, int layer);
  Array operator()(const Array& x, const LayerCache& cache) const;

 private:
  struct Half {
    RMSNorm input_layernorm;
    std::unique_ptr<LatentAttention> self_attn;
    RMSNorm post_attention_layernorm;
    std::unique_ptr<FeedForward> mlp;
  };
  Half half(const LongcatConfig& c, const Weights& w, int index) const;

  Half first_, second_;
  std::unique_ptr<FeedForward> mixture_;
};

using LongcatDecoder = Decoder<LongcatConfig, LongcatBlock>;

}  // namespace mlxk
