// The decoder of DeepSeek-V3, which others took over: latent attention; all layers but the first few are mixtures with
// shared experts. An architecture derives its Config and says what differs. Thread: engine thread only.

#pragma once

#include <memory>

#include "decoder.h"
#include "experts.h"
#include "latent_attention.h"

namespace mlxk {

struct DeepseekConfig : DecoderConfig {
  int n_routed_experts, n_shared_experts, moe_intermediate_size, first_k_dense_replace, moe_layer_freq;
  int num_nextn_predict_layers;  // layers beyond the last that predict further ahead; nothing here runs them
  GroupedTopK routing;
  bool corrected = true;  // the routers have an e_score_correction_bias
  LatentShape latent;

  // What the families that took it over have for fields that a config leaves out.
  struct Defaults {
    GroupedTopK routing{.k = 1};
    float norm_eps = 1e-6f;
    int first_k_dense_replace = 0;
  };

  explicit DeepseekConfig(const ConfigReader& c) : DeepseekConfig(c, Defaults()) {}
  DeepseekConfig(const ConfigReader& c, const Defaults& defaults);

  bool sparse(int layer) const;
  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
};

// Throws config_invalid unless the config asks for the routing that read_grouped_top_k and SigmoidRouter have.
void require_noaux_tc(const ConfigReader& c);

// Config: a DeepseekConfig.
template <class Config>
class DeepseekDecoder : public Decoder<Config, PreNormBlock<Config>> {
 public:
  DeepseekDecoder(const ConfigReader& reader, const Weights& w)
      : Decoder<Config, PreNormBlock<Config>>(Config(reader), w) {
    const Config& c = this->config();
    const Weights layers = w[c.names.layers];
    for (int i = 0; i < c.num_nextn_predict_layers; ++i) layers[c.num_hidden_layers + i].discard();
  }
};

}  // namespace mlxk
