// What decoders are made of between their residual sums, and the residual blocks around it. An architecture picks its
// parts in its Config; one that differs by a mechanism writes its own Mixer, FeedForward or block instead.
// Thread: engine thread only.

#pragma once

#include <memory>
#include <optional>

#include "layers.h"
#include "rope.h"

namespace mlxk {

// Exchanges information between positions: attention, a convolution, a recurrence. [B, L, D] to [B, L, D].
class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual Array operator()(const Array& x, const LayerCache& cache) const = 0;
};

// Works on each position alone. [.., D] to [.., D].
class FeedForward {
 public:
  virtual ~FeedForward() = default;
  virtual Array operator()(const Array& x) const = 0;
};

// Heads times their size. Each factor was ranged when it was read; their product was not. Throws config_invalid, naming
// the two as `names`.
int heads_width(int heads, int head_dim, const char* names = "num_attention_heads * head_dim");

// whole: over all heads together, before they are split. each and layer: an RMSNorm or LayerNorm of each head, with a
// weight of its own for each, [H, D].
enum class QKNorm { none, per_head, whole, each, layer };

// What a matrix of its own scales the heads' outputs by, channel by channel or head by head.
enum class OutputGate { none, sigmoid, sigmoid_per_head, softplus_per_head };

struct AttentionShape {
  int hidden_size, heads, kv_heads, head_dim;
  bool qkv_bias = false, o_bias = false;
  QKNorm qk_norm = QKNorm::none;
  bool norm_after_rope = false;
  bool norm_weights = true;      // with qk_norm
  float norm_eps = 0;            // with qk_norm
  float norm_offset = 0;         // with qk_norm
  int window = 0;                // 0 attends to everything
  int chunk = 0;                 // above 0: attends within spans of this many positions
  int value_dim = 0;             // of a head's values; 0: head_dim
  std::optional<float> scale{};  // head_dim^-1/2
  float softcap = 0;             // of the scores; 0 leaves them
  bool sinks = false;            // a learnt score without a value joins every head's softmax
  bool value_norm = false;       // values pass an RMSNorm without a weight, per head
  bool keys_as_values = false;   // no v_proj: values are the keys before their norm and rotation
  std::optional<int> shared{};   // the layer whose keys and values are looked at, instead of any of its own
  bool gated = false;            // q_proj gives a gate beside each head's query; its sigmoid scales the head's output
  OutputGate output_gate = OutputGate::none;
  const char* gate_proj = "g_proj";  // with output_gate
  bool gate_bias = false;            // with output_gate
  const char *q_norm = "q_norm", *k_norm = "k_norm", *o_proj = "o_proj";

  // The fields of a DecoderConfig.
  template <class Config>
  static AttentionShape of(const Config& c, int layer = 0) {
    return {.hidden_size = c.hidden_size,
            .heads = c.num_attention_heads,
            .kv_heads = c.num_key_value_heads,
            .head_dim = c.head_dim,
            .norm_eps = c.rms_norm_eps,
            .norm_offset = c.norm_offset,
            .window = c.window(layer)};
  }
};

// Grouped-query attention. Tensors: q_proj, k_proj, v_proj, o_proj; q_norm and k_norm with qk_norm; sinks; g_proj with
// output_gate.
class SelfAttention : public Mixer {
 public:
  SelfAttention(const Weights& w, const AttentionShape& shape, const Rope& rope);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 protected:
  // q [B, H, L, D] once it is rotated; what an architecture scales queries by depends on their positions.
  virtual Array prepared(const Array& q, const LayerCache&) const { return q; }
  virtual bool prepares() const { return false; }  // whether it does anything

 private:
  // How one new position goes through norm, rotation, cache and attention, where that may be one primitive.
  std::optional<mx::CachedAttention> heads_of_next() const;
  Array output_gate(const Array& x) const;  // [B, L, H, 1 or D]

  AttentionShape shape_;
  Rope rope_;
  Linear q_proj_;
  std::optional<Linear> k_proj_, v_proj_;
  Linear o_proj_;
  std::optional<Linear> gate_proj_;
  mx::Unary q_norm_, k_norm_;
  AttentionOptions options_;
  std::optional<mx::CachedAttention> next_;
};

struct FeedForwardShape {
  int hidden_size, intermediate_size;
  bool bias = false;
  Activation activation = Activation::silu;
};

// down(activation(gate(x)) * up(x)), or with other names of the three.
class GatedMLP : public FeedForward {
 public:
  struct Names {
    const char *gate = "gate_proj", *up = "up_proj", *down = "down_proj";
  };

  GatedMLP(const Weights& w, const FeedForwardShape& shape, const Names& names);
  GatedMLP(const Weights& w, const FeedForwardShape& shape, Gate gate);  // instead of the shape's activation
  GatedMLP(const Weights& w, int hidden_size, int intermediate_size, bool bias = false,
           Activation activation = Activation::silu)
      : GatedMLP(w, {hidden_size, intermediate_size, bias, activation}, {}) {}
  Array operator()(const Array& x) const override { return down_proj_(gate_(gate_proj_(x), up_proj_(x))); }

 private:
  Linear gate_proj_, up_proj_, down_proj_;
  Gate gate_;
};

// The same with gate and up in one matrix, gate first. Tensors: `gate_up`, `down`.
class FusedGatedMLP : public FeedForward {
 public:
  FusedGatedMLP(const Weights& w, int hidden_size, int intermediate_size, const char* gate_up = "gate_up_proj",
                const char* down = "down_proj");
  Array operator()(const Array& x) const override;

 private:
  Linear gate_up_proj_, down_proj_;
  Gate gate_;
};

// down(activation(up(x))). Tensors: `up`, `down`.
class PlainMLP : public FeedForward {
 public:
  PlainMLP(const Weights& w, const FeedForwardShape& shape, const char* up, const char* down)
      : up_(w[up], shape.hidden_size, shape.intermediate_size, shape.bias),
        down_(w[down], shape.intermediate_size, shape.hidden_size, shape.bias),
        activation_(activate(shape.activation)) {}
  Array operator()(const Array& x) const override { return down_(activation_(up_(x))); }

 private:
  Linear up_, down_;
  mx::Unary activation_;
};

// Config: a DecoderConfig. A layer's mixer is what its `mixer(const Weights& of the layer, int layer) const` makes; a
// Config without one gives AttentionShape attention(int layer) const and Rope layer_rope(int layer) const. The same
// holds for `feed_forward` and the gated MLP of the DecoderConfig's sizes.

template <class Config>
std::unique_ptr<Mixer> make_mixer(const Config& c, const Weights& w, int layer) {
  if constexpr (requires { c.mixer(w, layer); }) {
    return c.mixer(w, layer);
  } else {
    return std::make_unique<SelfAttention>(w["self_attn"], c.attention(layer), c.layer_rope(layer));
  }
}

template <class Config>
std::unique_ptr<FeedForward> make_feed_forward(const Config& c, const Weights& w, int layer) {
  if constexpr (requires { c.feed_forward(w, layer); }) {
    return c.feed_forward(w, layer);
  } else {
    return std::make_unique<GatedMLP>(w["mlp"], c.hidden_size, c.intermediate_size, c.mlp_bias, c.activation);
  }
}

// h = x + r mixer(norm(x)); h + r feed_forward(norm(h)), r the config's residual_multiplier.
template <class Config>
class PreNormBlock {
 public:
  PreNormBlock(const Config& c, const Weights& w, int layer)
      : mixer_norm_(c.norm(w[c.names.mixer_norm])),
        mixer_(make_mixer(c, w, layer)),
        feed_forward_norm_(c.norm(w[c.names.feed_forward_norm])),
        feed_forward_(make_feed_forward(c, w, layer)),
        residual_multiplier_(c.residual_multiplier) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = sum(x, (*mixer_)(mixer_norm_(x), cache));
    return sum(h, (*feed_forward_)(feed_forward_norm_(h)));
  }

 private:
  Array sum(const Array& x, const Array& branch) const {
    return residual_multiplier_ == 1 ? x + branch : x + branch * residual_multiplier_;
  }

  typename Config::Norm mixer_norm_;
  std::unique_ptr<Mixer> mixer_;
  typename Config::Norm feed_forward_norm_;
  std::unique_ptr<FeedForward> feed_forward_;
  float residual_multiplier_;
};

// h = x + norm(mixer(x)); h + norm(feed_forward(h)).
template <class Config>
class PostNormBlock {
 public:
  PostNormBlock(const Config& c, const Weights& w, int layer)
      : mixer_(make_mixer(c, w, layer)),
        mixer_norm_(c.norm(w["post_attention_layernorm"])),
        feed_forward_(make_feed_forward(c, w, layer)),
        feed_forward_norm_(c.norm(w["post_feedforward_layernorm"])) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + mixer_norm_((*mixer_)(x, cache));
    return h + feed_forward_norm_((*feed_forward_)(h));
  }

 private:
  std::unique_ptr<Mixer> mixer_;
  typename Config::Norm mixer_norm_;
  std::unique_ptr<FeedForward> feed_forward_;
  typename Config::Norm feed_forward_norm_;
};

// h = x + norm(mixer(norm(x))); h + norm(feed_forward(norm(h))).
template <class Config>
class SandwichBlock {
 public:
  SandwichBlock(const Config& c, const Weights& w, int layer)
      : input_layernorm_(c.norm(w["input_layernorm"])),
        mixer_(make_mixer(c, w, layer)),
        post_attention_layernorm_(c.norm(w["post_attention_layernorm"])),
        pre_feedforward_layernorm_(c.norm(w["pre_feedforward_layernorm"])),
        feed_forward_(make_feed_forward(c, w, layer)),
        post_feedforward_layernorm_(c.norm(w["post_feedforward_layernorm"])) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + post_attention_layernorm_((*mixer_)(input_layernorm_(x), cache));
    return h + post_feedforward_layernorm_((*feed_forward_)(pre_feedforward_layernorm_(h)));
  }

 private:
  typename Config::Norm input_layernorm_;
  std::unique_ptr<Mixer> mixer_;
  typename Config::Norm post_attention_layernorm_, pre_feedforward_layernorm_;
  std::unique_ptr<FeedForward> feed_forward_;
  typename Config::Norm post_feedforward_layernorm_;
};

// x + mixer(h) + feed_forward(h), h = norm(x).
template <class Config>
class ParallelBlock {
 public:
  ParallelBlock(const Config& c, const Weights& w, int layer)
      : norm_(c.norm(w[c.names.mixer_norm])),
        mixer_(make_mixer(c, w, layer)),
        feed_forward_(make_feed_forward(c, w, layer)) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = norm_(x);
    return (*mixer_)(h, cache) + (*feed_forward_)(h) + x;
  }

 private:
  typename Config::Norm norm_;
  std::unique_ptr<Mixer> mixer_;
  std::unique_ptr<FeedForward> feed_forward_;
};

}  // namespace mlxk
