// Llama-Nemotron, found by architecture search: dense decoder. Reference: mlx-lm, models/nemotron-nas.py.
// Against Llama: every layer has its own number of key heads and width of feed-forward; either may be a single matrix,
// or missing.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

enum class Kind { absent, linear, full };

struct Layer {
  Kind attention, feed_forward;
  int kv_heads = 0, width = 0;
};

struct Config : DecoderConfig {
  bool attention_bias;
  std::vector<Layer> layers;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.intermediate_size = nullptr, .default_norm_eps = 1e-5f}),
        attention_bias(c.flag("attention_bias", false)) {
    split_heads(c);
    mlp_bias = c.flag("mlp_bias", false);
    activation = read_activation(c, "hidden_act", "silu");
    rope = Rope(c, head_dim, 500000.0f);
    const Json* blocks = c.find("block_configs");
    c.require(blocks && blocks->is_array() && blocks->as_array().size() == static_cast<size_t>(num_hidden_layers),
              "block_configs", "must be a list with one entry for each of num_hidden_layers");
    for (const Json& block : blocks->as_array()) {
      const std::string path = "block_configs[" + std::to_string(layers.size()) + "]";
      // The aliasing pointer does not own: the document outlives the constructor.
      layers.push_back(read_layer(ConfigReader(std::shared_ptr<const Json>(std::shared_ptr<void>(), &block), path)));
    }
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int layer) const;

 private:
  static Kind read_kind(const ConfigReader& c) {
    if (c.flag("no_op", false)) return Kind::absent;
    return c.flag("replace_with_linear", false) ? Kind::linear : Kind::full;
  }
  Layer read_layer(const ConfigReader& block) const {
    const ConfigReader attention = block.child("attention"), ffn = block.child("ffn");
    Layer layer{read_kind(attention), read_kind(ffn)};
    if (layer.attention == Kind::full) {
      const int group = attention.count("n_heads_in_group");
      attention.require(num_attention_heads % group == 0, "n_heads_in_group", "must divide num_attention_heads");
      layer.kv_heads = num_attention_heads / group;
    }
    if (layer.feed_forward == Kind::full) {
      constexpr int kMultiple = 256, kMost = 1 << 24;
      const double width = 2.0 * static_cast<double>(ffn.positive("ffn_mult")) * hidden_size / 3;
      ffn.require(width >= 1 && width <= kMost, "ffn_mult", "must leave from 1 to 16777216 units");
      layer.width = (static_cast<int>(width) + kMultiple - 1) / kMultiple * kMultiple;
    }
    return layer;
  }
};

// A matrix in the place of attention.
class LinearMixer final : public Mixer {
 public:
  explicit LinearMixer(Linear linear) : linear_(std::move(linear)) {}
  Array operator()(const Array& x, const LayerCache&) const override { return linear_(x); }

 private:
  Linear linear_;
};

// A matrix in the place of the feed-forward.
class LinearFeedForward final : public FeedForward {
 public:
  explicit LinearFeedForward(Linear linear) : linear_(std::move(linear)) {}
  Array operator()(const Array& x) const override { return linear_(x); }

 private:
  Linear linear_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["self_attn"];
  const Layer& own = layers[static_cast<size_t>(index)];
  if (own.attention == Kind::absent) return nullptr;
  if (own.attention == Kind::linear) {
    return std::make_unique<LinearMixer>(Linear(w["linear"], hidden_size, hidden_size, attention_bias));
  }
  auto shape = AttentionShape::of(*this);
  shape.kv_heads = own.kv_heads;
  shape.qkv_bias = shape.o_bias = attention_bias;
  return std::make_unique<SelfAttention>(w, shape, rope);
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int index) const {
  const Weights w = layer["mlp"];
  const Layer& own = layers[static_cast<size_t>(index)];
  if (own.feed_forward == Kind::absent) return nullptr;
  if (own.feed_forward == Kind::linear) {
    return std::make_unique<LinearFeedForward>(Linear(w["linear"], hidden_size, hidden_size, mlp_bias));
  }
  return std::make_unique<GatedMLP>(w, hidden_size, own.width, mlp_bias, activation);
}

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : mixer_(c.mixer(w, layer)), feed_forward_(c.feed_forward(w, layer)) {
    if (mixer_) mixer_norm_.emplace(c.norm(w[c.names.mixer_norm]));
    if (feed_forward_) feed_forward_norm_.emplace(c.norm(w[c.names.feed_forward_norm]));
  }

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = mixer_ ? x + (*mixer_)((*mixer_norm_)(x), cache) : x;
    return feed_forward_ ? h + (*feed_forward_)((*feed_forward_norm_)(h)) : h;
  }

 private:
  std::unique_ptr<Mixer> mixer_;
  std::unique_ptr<FeedForward> feed_forward_;
  std::optional<RMSNorm> mixer_norm_, feed_forward_norm_;
};

using NemotronNas = Decoder<Config, Block>;

}  // namespace

MLXK_MODEL(NemotronNas, "nemotron-nas");

}  // namespace mlxk
