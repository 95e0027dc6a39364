// K-EXAONE: mixture of experts. Reference: mlx-lm, models/exaone_moe.py.
// Against Qwen3: layers may slide, and then those alone are rotated; some layers are mixtures with shared experts,
// routed as DeepSeek-V3's.

#include <algorithm>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

// is_moe_layer, one flag a layer.
std::vector<bool> read_flags(const ConfigReader& c, const char* field, int layers) {
  const Json* value = c.find(field);
  c.require(value && value->is_array() && value->as_array().size() == static_cast<size_t>(layers), field,
            "must be a list with one entry for each of num_hidden_layers");
  std::vector<bool> flags;
  for (const Json& entry : value->as_array()) {
    c.require(entry.is_bool(), field, "must hold true or false, got " + entry.describe());
    flags.push_back(entry.as_bool());
  }
  return flags;
}

struct Config : DecoderConfig {
  int num_experts, num_shared_experts, moe_intermediate_size;
  std::vector<bool> is_moe_layer;
  GroupedTopK routing;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_experts(c.count("num_experts")),
        num_shared_experts(c.count_or_zero("num_shared_experts", 0)),
        moe_intermediate_size(c.dim("moe_intermediate_size")),
        is_moe_layer(read_flags(c, "is_moe_layer", num_hidden_layers)),
        routing(read_grouped_top_k(c, num_experts)) {
    if (!c.has("routed_scaling_factor")) routing.scale = 2.5f;
    routing.epsilon = 1e-20f;
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; });
    rope = Rope(c, head_dim, 1000000.0f);
  }

  Rope layer_rope(int layer) const {
    const bool slides = std::ranges::any_of(windows, [](int w) { return w > 0; });
    return !slides || window(layer) > 0 ? rope : Rope();
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    if (!is_moe_layer[static_cast<size_t>(index)]) {
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    w.rename("e_score_correction_bias", "gate.e_score_correction_bias");
    return grouped_moe(w, {hidden_size, moe_intermediate_size, num_experts}, routing, num_shared_experts);
  }
};

class ExaoneMoe final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  ExaoneMoe(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), w) { w["mtp"].discard(); }
};

}  // namespace

MLXK_MODEL(ExaoneMoe, "exaone_moe");

}  // namespace mlxk
