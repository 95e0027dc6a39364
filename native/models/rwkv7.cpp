// RWKV-7 (Goose): nothing but recurrences. Reference: mlx-lm, models/rwkv7.py.
// Against Mamba: a state of matrices that a generalized delta rule rewrites (arXiv 2503.14456); every layer sees the
// previous position's input beside its own; the first layer's values reach all others.

#include "decoder.h"
#include "recurrence.h"
#include "transformer.h"

namespace mlxk {
namespace {

constexpr float kHeadNormEps = 64e-5f;
constexpr float kFastestDecay = -0.606531f;  // -e^-1/2, of the logarithm of a state in one step

enum Slot { kMixed, kState, kFed, kSlots };  // the last input of either half, the recurrence

struct Config : LayerNormConfig {
  int heads, a_low_rank_dim, v_low_rank_dim, gate_low_rank_dim, decay_low_rank_dim;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.num_attention_heads = nullptr, .norm_eps = "norm_eps"}),
        a_low_rank_dim(c.dim("a_low_rank_dim")),
        v_low_rank_dim(c.dim("v_low_rank_dim")),
        gate_low_rank_dim(c.dim("gate_low_rank_dim")),
        decay_low_rank_dim(c.dim("decay_low_rank_dim")) {
    c.require(hidden_size % head_dim == 0, "head_dim", "must divide hidden_size");
    heads = hidden_size / head_dim;
    names.embed_tokens = "model.embeddings";
  }

  std::unique_ptr<LayerState> new_state(int) const { return std::make_unique<RecurrentState>(kSlots); }
};

// What came before each position of x [B, L, D], [B, L, D]; the last of x is remembered in `slot`.
Array shifted(const Array& x, const LayerCache& cache, int slot) {
  const int length = x.dim(1);
  const Array before = recall(cache, slot, {1, x.dim(2)}, x.dtype());
  remember(cache, slot, mx::contiguous(mx::slice(x, 1, length - 1, length)));
  return length == 1 ? before : mx::concatenate({before, mx::slice(x, 1, 0, length - 1)}, 1);
}

// out(activation(in(x))). Tensors: lora.0, lora.2.
class LowRank {
 public:
  LowRank(const Weights& w, const Config& c, int rank, bool bias, Array (*activation)(const Array&))
      : in_(w["lora.0"], c.hidden_size, rank), out_(w["lora.2"], rank, c.hidden_size, bias), activation_(activation) {}
  Array operator()(const Array& x) const { return out_(activation_ ? activation_(in_(x)) : in_(x)); }

 private:
  Linear in_, out_;
  Array (*activation_)(const Array&);
};

// A tensor of the checkpoint that belongs to heads, [heads, head_dim] or flat.
Array by_head(const Weights& w, const Config& c, const char* name) {
  const mx::Shape shape{c.heads, c.head_dim};
  if (w.has(name) && w.peek(name).shape() == mx::Shape{c.hidden_size}) w.put(name, mx::reshape(w.peek(name), shape));
  return w.take(name, shape);
}

class TimeMixing {
 public:
  TimeMixing(const Config& c, const Weights& w, bool first)
      : heads_(c.heads),
        head_dim_(c.head_dim),
        k_k_(by_head(w, c, "k_k")),
        k_a_(by_head(w, c, "k_a")),
        r_k_(by_head(w, c, "r_k")),
        norm_weight_(by_head(w["g_norm"], c, "weight")),
        norm_bias_(by_head(w["g_norm"], c, "bias")),
        r_proj_(w["r_proj"], c.hidden_size, c.hidden_size),
        k_proj_(w["k_proj"], c.hidden_size, c.hidden_size),
        v_proj_(w["v_proj"], c.hidden_size, c.hidden_size),
        o_proj_(w["o_proj"], c.hidden_size, c.hidden_size),
        w_lora_(w["w_lora"], c, c.decay_low_rank_dim, true, mx::tanh),
        a_lora_(w["a_lora"], c, c.a_low_rank_dim, true, nullptr),
        g_lora_(w["g_lora"], c, c.gate_low_rank_dim, false, mx::sigmoid) {
    for (const char* name : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"})
      mixes_.push_back(w.take(name, {1, 1, c.hidden_size}));
    if (!first) v_lora_.emplace(w["v_lora"], c, c.v_low_rank_dim, true, nullptr);
  }

  // `values`: those of the first layer, which sets them.
  Array operator()(const Array& x, const LayerCache& cache, Array& values) const {
    const mx::Shape split{x.dim(0), x.dim(1), heads_, head_dim_};
    const auto by_head = [&](const Array& a) { return mx::reshape(a, split); };
    const Array change = shifted(x, cache, kMixed) - x;
    const auto mixed = [&](size_t which) { return x + change * mixes_[which]; };
    const Array xv = mixed(3);

    const Array r = by_head(r_proj_(mixed(0))), key = by_head(k_proj_(mixed(2)));
    const Array rate = by_head(mx::sigmoid(a_lora_(mixed(4))));  // how fast a state learns in context
    Array v = by_head(v_proj_(xv));
    if (v_lora_) {
      v = v + (values - v) * by_head(mx::sigmoid((*v_lora_)(xv)));
    } else {
      values = v;
    }
    const Array decay = mx::astype(mx::sigmoid(by_head(w_lora_(mixed(1)))), mx::Type::f32);
    const Array w = mx::astype(mx::exp(decay * kFastestDecay), r.dtype());
    const Array removed = unit(key * k_k_);
    const Array k = key * ((rate + -1.0f) * k_a_ + 1.0f);

    const Array before = recall(cache, kState, {heads_, head_dim_, head_dim_}, mx::Type::f32);
    const auto [y, state] = wkv7(r, w, k, v, -removed, removed * rate, before);
    remember(cache, kState, state);
    const Array normed = norm_weight_ * mx::layer_norm(y, {}, {}, kHeadNormEps) + norm_bias_;
    const Array bonus = mx::sum(r * k * r_k_, -1, true) * v;
    return o_proj_(mx::reshape(normed + bonus, x.shape()) * g_lora_(mixed(5)));
  }

 private:
  static Array unit(const Array& x) {
    const Array length = mx::sqrt(mx::sum(mx::square(x), -1, true));
    return x / mx::maximum(length, mx::scalar(1e-7f, x.dtype()));
  }

  int heads_, head_dim_;
  std::vector<Array> mixes_;       // of r, w, k, v, a and g: how much of the previous position they see
  Array k_k_, k_a_, r_k_;          // [heads, head_dim]
  Array norm_weight_, norm_bias_;  // [heads, head_dim]
  Linear r_proj_, k_proj_, v_proj_, o_proj_;
  LowRank w_lora_, a_lora_, g_lora_;
  std::optional<LowRank> v_lora_;
};

class ChannelMixing {
 public:
  ChannelMixing(const Config& c, const Weights& w)
      : x_k_(w.take("x_k", {c.hidden_size})),
        feed_forward_(
            w,
            {.hidden_size = c.hidden_size, .intermediate_size = c.intermediate_size, .activation = Activation::relu2},
            "key", "value") {}
  Array operator()(const Array& x, const LayerCache& cache) const {
    return feed_forward_(x + (shifted(x, cache, kFed) - x) * x_k_);
  }

 private:
  Array x_k_;
  PlainMLP feed_forward_;
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : attn_norm_(c.norm(w["attn_norm"])),
        attn_(c, w["attn"], layer == 0),
        ffn_norm_(c.norm(w["ffn_norm"])),
        ffn_(c, w["ffn"]) {
    if (layer == 0) pre_norm_.emplace(c.norm(w["pre_norm"]));
  }

  // `values`: those of the first layer, which sets them.
  Array operator()(const Array& x, const LayerCache& cache, Array* values = nullptr) const {
    Array own;
    const Array start = pre_norm_ ? (*pre_norm_)(x) : x;
    const Array h = start + attn_(attn_norm_(start), cache, values ? *values : own);
    return h + ffn_(ffn_norm_(h), cache);
  }

 private:
  std::optional<LayerNorm> pre_norm_;
  LayerNorm attn_norm_;
  TimeMixing attn_;
  LayerNorm ffn_norm_;
  ChannelMixing ffn_;
};

class Rwkv7 final : public Decoder<Config, Block> {
 public:
  using Decoder::Decoder;

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed(ids, batch), values;
    for (int i = 0; i < config().num_hidden_layers; ++i) {
      h = blocks()[static_cast<size_t>(i)](h, {batch, i}, &values);
    }
    batch.advance();
    return normalized(h);
  }
};

}  // namespace

MLXK_MODEL(Rwkv7, "rwkv7");

}  // namespace mlxk
