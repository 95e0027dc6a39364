// PLaMo 2: hybrid of attention and Mamba-2. Reference: mlx-lm, models/plamo2.py.
// Against Llama: norms before and after mixer and feed-forward, with offsets; q and k are normalized per head, each
// with a weight of its own; most layers carry a state, whose inputs are projected after the convolution and normalized.

#include <algorithm>

#include "plamo.h"
#include "recurrence.h"

namespace mlxk {
namespace {

constexpr float kQKNormEps = 1e-6f;
constexpr float kLeastStep = 0.001f, kMostStep = 100.0f;

struct Config : DecoderConfig {
  int mamba_d_state, mamba_d_conv, mamba_num_heads, mamba_step;
  bool mamba_enabled;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 4}}), {.tied = true, .default_norm_eps = 1e-6f}),
        mamba_d_state(c.dim("mamba_d_state", 64)),
        mamba_d_conv(c.integer("mamba_d_conv", 4, 1, 1024)),
        mamba_num_heads(c.count("mamba_num_heads", 64)),
        mamba_step(c.count("mamba_step", 2)),
        mamba_enabled(c.flag("mamba_enabled", true)) {
    head_dim = c.dim("hidden_size_per_head", 128);
    c.require(!mamba_enabled || mamba_step > 1, "mamba_step", "must be above 1");
    heads_width(mamba_num_heads, head_dim, "mamba_num_heads * hidden_size_per_head");
    norm_offset = 1;
    rope = Rope(c, head_dim, 10000.0f);
    names.layers = "model.layers.layers";
  }

  bool attends(int layer) const {
    if (!mamba_enabled) return true;
    if (num_hidden_layers <= mamba_step / 2) return layer == num_hidden_layers - 1;
    return layer % mamba_step == mamba_step / 2;
  }

  std::unique_ptr<LayerState> new_state(int layer) const;
  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

// Tensors: in_proj (of every head a gate and the input), conv1d, bcdt_proj, dt_proj, dt_bias, A_log, D, dt_norm_weight,
// B_norm_weight, C_norm_weight, out_proj.
class Mamba final : public Mixer {
 public:
  static constexpr int kSlots = 2;  // the convolution's inputs, the recurrence

  Mamba(const Config& c, const Weights& w)
      : heads_(c.mamba_num_heads),
        width_(c.head_dim),
        state_size_(c.mamba_d_state),
        rank_(std::max(64, c.hidden_size / 16)),
        eps_(c.rms_norm_eps),
        in_proj_(w["in_proj"], c.hidden_size, 2 * heads_ * width_),
        conv1d_(w["conv1d"], heads_ * width_, c.mamba_d_conv, false),
        bcdt_proj_(w["bcdt_proj"], heads_ * width_, rank_ + 2 * state_size_),
        dt_proj_(w["dt_proj"], rank_, heads_),
        dt_bias_(w.take("dt_bias", {heads_})),
        a_(-mx::exp(mx::astype(w.take("A_log", {heads_}), mx::Type::f32))),
        d_(w.take("D", {heads_})),
        dt_norm_(w.take("dt_norm_weight", {rank_})),
        b_norm_(w.take("B_norm_weight", {state_size_})),
        c_norm_(w.take("C_norm_weight", {state_size_})),
        out_proj_(w["out_proj"], heads_ * width_, c.hidden_size) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1);
    const mx::Shape flat{batch, length, heads_ * width_}, grouped{batch, length, 1, state_size_};
    const auto halves = mx::split(mx::reshape(in_proj_(x), {batch, length, heads_, 2 * width_}), 2, -1);
    const Array convolved = conv1d_(mx::reshape(halves[1], flat), cache, 0);
    const Array input = convolved * mx::sigmoid(convolved);
    const int at[] = {state_size_, 2 * state_size_};
    const auto bcdt = mx::split_at(bcdt_proj_(input), at, -1);
    const Array b = mx::reshape(mx::rms_norm(bcdt[0], b_norm_, eps_), grouped);
    const Array c = mx::reshape(mx::rms_norm(bcdt[1], c_norm_, eps_), grouped);
    const Array dt = time_steps(dt_proj_(mx::rms_norm(bcdt[2], dt_norm_, eps_)), dt_bias_, kLeastStep, kMostStep);

    const Array before = recall(cache, 1, {heads_, width_, state_size_}, mx::Type::f32);
    const auto [y, state] = state_space(mx::reshape(input, {batch, length, heads_, width_}), a_, b, c, d_, dt, before);
    remember(cache, 1, state);
    return out_proj_(mx::swiglu(mx::reshape(halves[0], flat), mx::reshape(y, flat)));
  }

 private:
  int heads_, width_, state_size_, rank_;
  float eps_;
  Linear in_proj_;
  ShortConvolution conv1d_;
  Linear bcdt_proj_, dt_proj_;
  Array dt_bias_;
  Array a_;  // -exp(A_log), float32
  Array d_, dt_norm_, b_norm_, c_norm_;
  Linear out_proj_;
};

std::unique_ptr<LayerState> Config::new_state(int layer) const {
  if (attends(layer)) return std::make_unique<KVCache>();
  return std::make_unique<RecurrentState>(Mamba::kSlots);
}

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  if (!attends(layer)) return std::make_unique<Mamba>(*this, w);
  split_qkv(*this, w);
  w.rename("q_weight", "q_norm.weight");
  w.rename("k_weight", "k_norm.weight");
  auto shape = AttentionShape::of(*this);
  shape.qk_norm = QKNorm::each;
  shape.norm_eps = kQKNormEps;
  return std::make_unique<SelfAttention>(w, shape, rope);
}

using Plamo2 = Decoder<Config, PlamoBlock<Config>>;

}  // namespace

MLXK_MODEL(Plamo2, "plamo2");

}  // namespace mlxk
