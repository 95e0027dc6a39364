// Mistral 4: mixture of experts. Reference: mlx-lm, models/mistral4.py.
// Against DeepSeek-V3: experts are weighed by a softmax and nothing corrects the choice; queries grow with their
// position, as in Llama 4.

#include "deepseek.h"

namespace mlxk {
namespace {

struct Config : DeepseekConfig {
  PositionScale growth;

  explicit Config(const ConfigReader& c) : DeepseekConfig(c), growth(PositionScale::read(c.child("rope_parameters"))) {
    routing.softmax = routing.normalize_one = true;
    routing.epsilon = 1e-20f;
    corrected = false;
    moe_layer_freq = 1;
    rope = Rope(c, latent.qk_rope_head_dim, 100000.0f, c.flag("rope_interleave", true));
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    if (sparse(index)) {
      split_fused_experts(layer["mlp"], {hidden_size, moe_intermediate_size, n_routed_experts}, false);
    }
    return DeepseekConfig::feed_forward(layer, index);
  }
};

class Attention final : public LatentAttention {
 public:
  Attention(const Config& c, const Weights& w) : LatentAttention(w, c.latent, c.rope), growth_(c.growth) {}

 protected:
  Array prepared(const Array& q, const LayerCache& cache) const override { return growth_(q, cache); }

 private:
  PositionScale growth_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int) const {
  return std::make_unique<Attention>(*this, layer["self_attn"]);
}

using Mistral4 = DeepseekDecoder<Config>;

}  // namespace

MLXK_MODEL(Mistral4, "mistral4");

}  // namespace mlxk
