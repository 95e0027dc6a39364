// OLMo hybrid: attention and gated delta nets. Reference: mlx-lm, models/olmo_hybrid.py.
// Against OLMo 3: most layers carry a state by the gated delta rule, and are normalized before instead of after.

#include <algorithm>
#include <variant>

#include "decoder.h"
#include "gated_delta_net.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  std::vector<bool> attend;  // by layer
  bool attention_bias, allow_neg_eigval;
  GatedDeltaShape linear;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        allow_neg_eigval(c.flag("linear_allow_neg_eigval", false)),
        linear(GatedDeltaShape::read(c, hidden_size, c.positive("layer_norm_epsilon", 1e-5f))) {
    if (c.has("layer_types")) {
      for (const auto& type :
           layer_kinds(c, "layer_types", num_hidden_layers, {"full_attention", "linear_attention"})) {
        attend.push_back(type == "full_attention");
      }
    } else {
      for (int i = 0; i < num_hidden_layers; ++i) attend.push_back(i % 4 == 3);
    }
    // A base that is stated to be null rotates nothing.
    const Json* parameters = c.find("rope_parameters");
    const auto& members = c.json().as_object();
    const Json* base =
        parameters && parameters->is_object() ? parameters->as_object().find("rope_theta") : members.find("rope_theta");
    if (!base || !base->is_null()) rope = Rope(c, head_dim, 10000.0f);
  }

  bool attends(int layer) const { return attend[static_cast<size_t>(layer)]; }

  std::unique_ptr<LayerState> new_state(int layer) const;
  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

// As GatedDeltaNet, with every projection and filter apart. Tensors: those of FilteredProjections; a_proj, b_proj,
// g_proj, A_log, dt_bias, o_norm, o_proj.
class DeltaNet final : public Mixer {
 public:
  static constexpr int kSlots = FilteredProjections::kSlots + 1;  // and the recurrence

  DeltaNet(const Weights& w, const GatedDeltaShape& s, bool allow_neg_eigval)
      : shape_(s),
        strength_(allow_neg_eigval ? 2.0f : 1.0f),
        projections_(w, s),
        a_proj_(w["a_proj"], s.hidden_size, s.value_heads),
        b_proj_(w["b_proj"], s.hidden_size, s.value_heads),
        g_proj_(w["g_proj"], s.hidden_size, s.values()),
        rate_(mx::exp(mx::astype(w.take("A_log", {s.value_heads}), mx::Type::f32))),
        dt_bias_(w.take("dt_bias", {s.value_heads})),
        o_norm_(w["o_norm"], s.value_dim, s.norm_eps),
        o_proj_(w["o_proj"], s.values(), s.hidden_size) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const auto [q, k, v] = projections_(x, cache);
    const Array g = mx::exp(-(rate_ * mx::softplus(a_proj_(x) + dt_bias_)));
    const Array beta = mx::sigmoid(b_proj_(x)) * strength_;
    const int slot = FilteredProjections::kSlots;
    const Array before = recall(cache, slot, {shape_.value_heads, shape_.value_dim, shape_.key_dim}, mx::Type::f32);
    const auto [y, state] = gated_delta(q, k, v, g, beta, before);
    remember(cache, slot, state);
    const Array gate = mx::reshape(g_proj_(x), y.shape());
    return o_proj_(mx::reshape(gated_in_f32(o_norm_(y), gate), {x.dim(0), x.dim(1), -1}));
  }

 private:
  GatedDeltaShape shape_;
  float strength_;  // the most that is written; above one, a state may be turned over
  FilteredProjections projections_;
  Linear a_proj_, b_proj_, g_proj_;
  Array rate_;  // exp(A_log), float32
  Array dt_bias_;
  RMSNorm o_norm_;
  Linear o_proj_;
};

std::unique_ptr<LayerState> Config::new_state(int layer) const {
  if (attends(layer)) return std::make_unique<KVCache>();
  return std::make_unique<RecurrentState>(DeltaNet::kSlots);
}

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  if (!attends(layer)) return std::make_unique<DeltaNet>(w["linear_attn"], linear, allow_neg_eigval);
  auto shape = AttentionShape::of(*this);
  shape.qk_norm = QKNorm::whole;
  shape.qkv_bias = shape.o_bias = attention_bias;
  return std::make_unique<SelfAttention>(w["self_attn"], shape, rope);
}

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : block_(c.attends(layer) ? Either(std::in_place_type<PostNormBlock<Config>>, c, w, layer)
                                : Either(std::in_place_type<PreNormBlock<Config>>, c, w, layer)) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    return std::visit([&](const auto& block) { return block(x, cache); }, block_);
  }

 private:
  using Either = std::variant<PreNormBlock<Config>, PostNormBlock<Config>>;

  Either block_;
};

using OlmoHybrid = Decoder<Config, Block>;

}  // namespace

MLXK_MODEL(OlmoHybrid, "olmo_hybrid");

}  // namespace mlxk
