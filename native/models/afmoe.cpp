// Trinity (AFMoE): mixture of experts. Reference: mlx-lm, models/afmoe.py.
// Against Llama: q and k are normalized per head and a gate scales what the heads give; layers that slide are rotated,
// the others not; norms before and after each branch; all layers but the first few are mixtures.

#include <cmath>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_experts, num_shared_experts, num_dense_layers, moe_intermediate_size;
  bool mup_enabled;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 4}, {"head_dim", 64}}),
                      DecoderFields{.default_norm_eps = 1e-5f}),
        num_experts(c.count("num_experts", 128)),
        num_shared_experts(c.count_or_zero("num_shared_experts", 1)),
        num_dense_layers(c.integer("num_dense_layers", 2, 0, 4096)),
        moe_intermediate_size(c.dim("moe_intermediate_size", 1024)),
        mup_enabled(c.flag("mup_enabled", true)),
        routing(read_grouped_top_k(c, num_experts, {.k = 8})) {
    const std::string score = c.text("score_func", "sigmoid");
    c.require(score == "sigmoid" || score == "softmax", "score_func", "must be sigmoid or softmax");
    routing.softmax = score == "softmax";
    routing.normalize = c.flag("route_norm", true);
    routing.scale = c.positive("route_scale", 2.826f);
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; }, 2048);
    rope = Rope(c, head_dim, 10000.0f);
  }

  Rope layer_rope(int layer) const { return window(layer) > 0 ? rope : Rope(); }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    shape.output_gate = OutputGate::sigmoid;
    shape.gate_proj = "gate_proj";
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (index < num_dense_layers) return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    stack_experts(w, num_experts, "experts");
    return std::make_unique<SparseMoE>(
        std::make_unique<SigmoidRouter>(Linear(w["router"]["gate"], hidden_size, num_experts),
                                        w.take("expert_bias", {num_experts}), routing),
        GatedExperts(w["experts"], {hidden_size, moe_intermediate_size, num_experts}),
        shared_experts(w["shared_experts"], num_shared_experts, {hidden_size, moe_intermediate_size}));
  }
};

// The residual block under the names that SandwichBlock has for its norms.
class Block : public SandwichBlock<Config> {
 public:
  Block(const Config& c, const Weights& w, int layer) : SandwichBlock(c, renamed(w), layer) {}

 private:
  static const Weights& renamed(const Weights& w) {
    w.rename("pre_mlp_layernorm", "pre_feedforward_layernorm");
    w.rename("post_mlp_layernorm", "post_feedforward_layernorm");
    return w;
  }
};

class Afmoe final : public Decoder<Config, Block> {
 public:
  using Decoder::Decoder;

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    const Array h = Decoder::embed(ids, batch);
    return config().mup_enabled ? h * std::sqrt(static_cast<float>(config().hidden_size)) : h;
  }
};

}  // namespace

MLXK_MODEL(Afmoe, "afmoe");

}  // namespace mlxk
