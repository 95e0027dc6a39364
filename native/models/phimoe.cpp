// Phi-3.5-MoE and Phi-mini-MoE: mixture of experts. Reference: mlx-lm, models/phimoe.py.
// Against Llama: LayerNorm, biases in the attention and on the head; every feed-forward is a mixture, routed by
// SparseMixer.

#include <limits>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  int num_local_experts, num_experts_per_tok;
  float router_jitter_noise;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c.or_else({{"num_key_value_heads", 8}}), DecoderFields{.default_norm_eps = 1e-6f}),
        num_local_experts(c.count("num_local_experts", 16)),
        num_experts_per_tok(c.count("num_experts_per_tok", 2)),
        router_jitter_noise(c.number("router_jitter_noise", 0.01f)) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    tie_word_embeddings = false;
    lm_head_bias = true;
    rope = Rope(c, head_dim, 10000.0f, false, "longrope");
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = true;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const;
};

// SparseMixer, arXiv 2409.12136: the experts are chosen one after the other, each weighed by a softmax over the scores
// near its own among those that are left.
class SparseMixer final : public Router {
 public:
  SparseMixer(const Weights& w, const Config& c)
      : gate_(w, c.hidden_size, c.num_local_experts), k_(c.num_experts_per_tok), band_(2 * c.router_jitter_noise) {}

  Routing operator()(const Array& x) const override {
    const Array scores = gate_(x);
    const Array never = mx::scalar(-std::numeric_limits<float>::infinity(), scores.dtype());
    const Array band = mx::scalar(band_, scores.dtype());
    Array left = scores;
    std::vector<Array> indices, weights;
    for (int i = 0; i < k_; ++i) {
      const Array best = mx::max(left, -1, true);
      const Array index = mx::expand_dims(mx::argmax(left, -1), -1);
      const Array distance = (best - scores) / mx::maximum(mx::abs(scores), best);
      const Array near = mx::softmax(mx::where(mx::less(band, distance), never, left), -1);
      indices.push_back(index);
      weights.push_back(mx::take_along(near, index, -1));
      left = mx::put_along(left, index, never, -1);
    }
    return {mx::concatenate(indices, -1), mx::concatenate(weights, -1)};
  }

 private:
  Linear gate_;
  int k_;
  float band_;
};

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int) const {
  const Weights w = layer["block_sparse_moe"];
  w.stack("experts", num_local_experts, "w1", "switch_mlp.gate_proj");
  w.stack("experts", num_local_experts, "w2", "switch_mlp.down_proj");
  w.stack("experts", num_local_experts, "w3", "switch_mlp.up_proj");
  return std::make_unique<SparseMoE>(
      std::make_unique<SparseMixer>(w["gate"], *this),
      GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_local_experts}));
}

using PhiMoE = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(PhiMoE, "phimoe");

}  // namespace mlxk
