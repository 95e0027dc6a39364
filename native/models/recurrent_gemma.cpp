// RecurrentGemma (Griffin): hybrid of sliding attention and gated linear recurrences. Reference: mlx-lm,
// models/recurrent_gemma.py. Against Gemma: two layers of three carry a state, the others attend through a window with
// one head of keys; biases in the feed-forward; the scores are capped.

#include <cmath>

#include "decoder.h"
#include "recurrence.h"
#include "transformer.h"

namespace mlxk {
namespace {

constexpr int kKernel = 4;  // of the convolutions, whatever conv1d_width says

struct Config : DecoderConfig {
  std::vector<bool> recurrent;  // by layer
  bool embeddings_scale_by_sqrt_dim;
  float logits_soft_cap;
  int attention_window_size;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        embeddings_scale_by_sqrt_dim(c.flag("embeddings_scale_by_sqrt_dim", true)),
        logits_soft_cap(c.number("logits_soft_cap", 0)),
        attention_window_size(c.dim("attention_window_size")) {
    c.require(logits_soft_cap >= 0, "logits_soft_cap", "must not be negative");
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    c.require(intermediate_size % 2 == 0, "intermediate_size", "must be even");
    head_dim = hidden_size / num_attention_heads;
    c.require(head_dim % 4 == 0, "num_attention_heads", "must leave heads of a multiple of four dimensions");
    num_key_value_heads = 1;
    norm_offset = 1;
    intermediate_size /= 2;
    rope = Rope(head_dim / 2, 10000.0f);
    names.norm = "model.final_norm";
    names.mixer_norm = "temporal_pre_norm";
    names.feed_forward_norm = "channel_pre_norm";
    const char* field = c.has("block_types") ? "block_types" : "_block_types";
    const auto cycle = c.texts(field);
    c.require(!cycle.empty(), field, "must not be empty");
    for (size_t i = 0; i < static_cast<size_t>(num_hidden_layers); ++i) {
      const auto& type = cycle[i % cycle.size()];
      c.require(type == "recurrent" || type == "attention", field, "must hold recurrent or attention");
      recurrent.push_back(type == "recurrent");
    }
  }

  std::unique_ptr<LayerState> new_state(int layer) const;
  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;

  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<GatedMLP>(w["mlp_block"], hidden_size, intermediate_size, true, Activation::gelu_tanh);
  }
};

// The real-gated linear recurrent unit, arXiv 2402.19427 section 2.4. Tensors: recurrent_param, and weight and bias of
// input_gate and recurrent_gate, head by head.
class LinearRecurrentUnit {
 public:
  LinearRecurrentUnit(const Weights& w, int width, int heads)
      : heads_(heads),
        rate_(mx::softplus(mx::astype(w.take("recurrent_param", {width}), mx::Type::f32)) * -8.0f),
        input_gate_(w, "input_gate", width, heads),
        recurrent_gate_(w, "recurrent_gate", width, heads) {}

  // x [B, L, D]; the last output is remembered in `slot`.
  Array operator()(const Array& x, const LayerCache& cache, int slot) const {
    const Array log_a = mx::astype(gate(x, recurrent_gate_), mx::Type::f32) * rate_;
    const Array norm =
        mx::sqrt(mx::maximum(mx::scalar(1, mx::Type::f32) - mx::exp(log_a * 2.0f), mx::scalar(0, mx::Type::f32)));
    // The first input of a sequence has nothing to make room for.
    const Array positions = mx::expand_dims(cache.batch.positions(), -1);
    const Array first = mx::less(positions, mx::from_ints(std::vector<int32_t>{1}, {1}));
    const Array input =
        mx::astype(x * gate(x, input_gate_), mx::Type::f32) * mx::where(first, mx::scalar(1, mx::Type::f32), norm);
    const Array y = linear_scan(input, mx::exp(log_a), recall(cache, slot, {x.dim(2)}, mx::Type::f32));
    const int length = x.dim(1);
    remember(cache, slot, mx::contiguous(mx::reshape(mx::slice(y, 1, length - 1, length), {x.dim(0), x.dim(2)})));
    return mx::astype(y, x.dtype());
  }

 private:
  struct HeadGate {
    HeadGate(const Weights& w, const std::string& name, int width, int heads)
        : weight(w.take(name + "_weight", {heads, width / heads, width / heads})),
          bias(w.take(name + "_bias", {heads, width / heads})) {}
    Array weight, bias;
  };

  Array gate(const Array& x, const HeadGate& g) const {
    const Array heads = mx::swapaxes(mx::reshape(x, {x.dim(0), x.dim(1), heads_, -1}), 1, 2);
    return mx::sigmoid(mx::reshape(mx::swapaxes(mx::matmul(heads, g.weight), 1, 2) + g.bias, x.shape()));
  }

  int heads_;
  Array rate_;  // -8 softplus(recurrent_param), float32
  HeadGate input_gate_, recurrent_gate_;
};

// out(unit(conv(in_x(x))) * gelu(in_y(x))).
class RecurrentBlock final : public Mixer {
 public:
  static constexpr int kSlots = 2;  // the convolution's inputs, the recurrence

  RecurrentBlock(const Config& c, const Weights& w)
      : linear_y_(w["linear_y"], c.hidden_size, c.hidden_size, true),
        linear_x_(w["linear_x"], c.hidden_size, c.hidden_size, true),
        linear_out_(w["linear_out"], c.hidden_size, c.hidden_size, true),
        conv_1d_(w["conv_1d"], c.hidden_size, kKernel, true),
        rg_lru_(w["rg_lru"], c.hidden_size, c.num_attention_heads),
        gelu_(activate(Activation::gelu_tanh)) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const Array branch = rg_lru_(conv_1d_(linear_x_(x), cache, 0), cache, 1);
    return linear_out_(branch * gelu_(linear_y_(x)));
  }

 private:
  Linear linear_y_, linear_x_, linear_out_;
  ShortConvolution conv_1d_;
  LinearRecurrentUnit rg_lru_;
  mx::Unary gelu_;
};

std::unique_ptr<LayerState> Config::new_state(int layer) const {
  if (recurrent[static_cast<size_t>(layer)]) return std::make_unique<RecurrentState>(RecurrentBlock::kSlots);
  return std::make_unique<KVCache>(attention_window_size);
}

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["temporal_block"];
  if (recurrent[static_cast<size_t>(index)]) return std::make_unique<RecurrentBlock>(*this, w);
  auto shape = AttentionShape::of(*this);
  shape.window = attention_window_size;
  shape.o_bias = true;
  return std::make_unique<SelfAttention>(w, shape, rope);
}

// Tied exactly when the checkpoint has no head of its own.
Config prepared(Config c, const Weights& w) {
  c.tie_word_embeddings = !w[c.names.lm_head].has("weight");
  return c;
}

class RecurrentGemma final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  RecurrentGemma(const ConfigReader& reader, const Weights& w) : Decoder(prepared(Config(reader), w), w) {}

  Array logits(const Array& hidden) const override {
    const Array scores = Decoder::logits(hidden);
    return config().logits_soft_cap > 0 ? soft_cap(scores, config().logits_soft_cap) : scores;
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override {
    const Array h = Decoder::embed(ids, batch);
    return config().embeddings_scale_by_sqrt_dim ? h * std::sqrt(static_cast<float>(config().hidden_size)) : h;
  }
};

}  // namespace

MLXK_MODEL(RecurrentGemma, "recurrent_gemma");

}  // namespace mlxk
