// Gemma 3n: dense decoder, the text tower of the multimodal checkpoints. Reference: mlx-lm, models/gemma3n.py.
// Against Gemma 3, text: the residual is several streams that every layer predicts and corrects (AltUp, arXiv
// 2301.13310), beside a low-rank residual (LAuReL, arXiv 2411.07501); values are normalized, scores are not scaled; the
// last layers look at the keys and values of earlier ones; each layer receives an embedding of the token of its own;
// some feed-forwards keep only their largest activations.

#include <cmath>
#include <numbers>

#include "decoder.h"
#include "text_tower.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_kv_shared_layers, hidden_size_per_layer_input, vocab_size_per_layer_input, laurel_rank;
  int altup_num_inputs, altup_active_idx;
  float altup_coef_clip, final_logit_softcapping;
  bool altup_correct_scale;
  std::vector<int> widths;      // of the feed-forwards
  std::vector<float> sparsity;  // share of their units that is cut
  Rope global, local;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true, .intermediate_size = nullptr}),
        num_kv_shared_layers(c.integer("num_kv_shared_layers", 0, 0, num_hidden_layers - 1)),
        hidden_size_per_layer_input(c.count("hidden_size_per_layer_input")),
        vocab_size_per_layer_input(c.dim("vocab_size_per_layer_input")),
        laurel_rank(c.dim("laurel_rank")),
        altup_num_inputs(c.integer("altup_num_inputs", 4, 1, 64)),
        altup_active_idx(c.integer("altup_active_idx", 0, 0, altup_num_inputs - 1)),
        altup_coef_clip(c.has("altup_coef_clip") ? c.positive("altup_coef_clip") : 0),
        final_logit_softcapping(c.positive("final_logit_softcapping", 30.0f)),
        altup_correct_scale(c.flag("altup_correct_scale", true)),
        global(head_dim, c.positive("rope_theta")),
        local(head_dim, c.positive("rope_local_base_freq")) {
    tie_word_embeddings = true;
    const auto layers = static_cast<size_t>(num_hidden_layers);
    c.require(c.has("layer_types"), "layer_types", "is missing");
    windows = layer_windows(c, num_hidden_layers, [](int) { return false; });
    for (int i = first_shared(); i < num_hidden_layers; ++i) {
      c.require(key_layer(i) >= 0, "num_kv_shared_layers", "must leave a layer of every kind that shares keys");
    }
    const Json* width = c.find("intermediate_size");
    widths = width && width->is_array() ? c.ints("intermediate_size", 1, 1 << 20)
                                        : std::vector<int>(layers, c.dim("intermediate_size"));
    c.require(widths.size() == layers, "intermediate_size", "must have one entry for each of num_hidden_layers");
    sparsity = c.has("activation_sparsity_pattern") ? c.floats("activation_sparsity_pattern")
                                                    : std::vector<float>(layers, 0.0f);
    c.require(sparsity.size() == layers, "activation_sparsity_pattern",
              "must have one entry for each of num_hidden_layers");
    for (const float share : sparsity) {
      c.require(share >= 0 && share < 1, "activation_sparsity_pattern", "must hold shares from 0 to below 1");
    }
  }

  int first_shared() const { return num_hidden_layers - num_kv_shared_layers; }

  // The layer whose keys and values this one looks at: itself, or the last of its kind that has its own.
  int key_layer(int layer) const {
    if (layer < first_shared()) return layer;
    int owner = first_shared() - 1;
    while (owner >= 0 && (window(owner) > 0) != (window(layer) > 0)) --owner;
    return owner;
  }

  SelfAttention attention(const Weights& w, int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    shape.value_norm = true;
    shape.scale = 1.0f;
    if (const int owner = key_layer(layer); owner != layer) {
      shape.shared = owner;
      for (const char* unused : {"k_proj", "v_proj", "k_norm"}) w[unused].discard();
    }
    return {w, shape, window(layer) > 0 ? local : global};
  }
};

// The point below which a share p of a normal distribution lies, by bisection; once a layer.
float normal_quantile(float p) {
  double low = -40, high = 40;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::numbers::sqrt2) / 2 < p ? low : high) = middle;
  }
  return static_cast<float>(low);
}

class SparseMLP {
 public:
  SparseMLP(const Config& c, const Weights& w, int layer)
      : gate_proj_(w["gate_proj"], c.hidden_size, c.widths[static_cast<size_t>(layer)]),
        up_proj_(w["up_proj"], c.hidden_size, c.widths[static_cast<size_t>(layer)]),
        down_proj_(w["down_proj"], c.widths[static_cast<size_t>(layer)], c.hidden_size),
        gate_(Activation::gelu_tanh) {
    if (const float share = c.sparsity[static_cast<size_t>(layer)]; share > 0) deviations_ = normal_quantile(share);
  }

  Array operator()(const Array& x) const { return down_proj_(gate_(cut(gate_proj_(x)), up_proj_(x))); }

 private:
  // What exceeds the mean by so many standard deviations, zero below.
  Array cut(const Array& x) const {
    if (!deviations_) return x;
    const Array mean = mx::mean(x, -1, true);
    const Array variance = mx::mean(mx::square(x - mean), -1, true);
    const Array zero = mx::scalar(0, x.dtype());
    const Array deviation = mx::where(mx::less(zero, variance), variance * mx::rsqrt(variance), zero);
    return mx::maximum(x - (mean + deviation * *deviations_), zero);
  }

  Linear gate_proj_, up_proj_, down_proj_;
  Gate gate_;
  std::optional<float> deviations_;
};

// Streams [B, L, N, D] of which one is active.
class AltUp {
 public:
  AltUp(const Config& c, const Weights& w)
      : streams_(c.altup_num_inputs),
        active_(c.altup_active_idx),
        correct_scale_(c.altup_correct_scale),
        router_scale_(1 / static_cast<float>(c.hidden_size)),
        router_norm_(c.norm(w["router_norm"])),
        router_(w["modality_router"], c.hidden_size, streams_),
        prediction_(coefficients(c, w["prediction_coefs"], streams_ * streams_)),
        correction_(coefficients(c, w["correction_coefs"], streams_)),
        output_scale_(w.take("correct_output_scale", {c.hidden_size})) {}

  Array active(const Array& h) const {
    return mx::reshape(mx::slice(h, 2, active_, active_ + 1), {h.dim(0), h.dim(1), h.dim(3)});
  }
  // What the streams are expected to be after the layer.
  Array predict(const Array& h) const {
    const Array mix = mx::reshape(mx::linear(route(active(h)), prediction_), {h.dim(0), h.dim(1), streams_, streams_});
    const Array streams = mx::astype(h, mx::Type::f32);
    return mx::astype(mx::matmul(mix, streams) + streams, h.dtype());
  }
  // The streams after the layer made `activated` [B, L, D] of the active one.
  Array correct(const Array& predicted, const Array& activated) const {
    const Array share = mx::expand_dims(mx::linear(route(activated), correction_) + 1.0f, -1);  // [B, L, N, 1]
    const Array innovation = mx::expand_dims(activated - active(predicted), 2);
    return mx::astype(innovation * share + predicted, activated.dtype());
  }
  // The active stream as the layer's own input is mixed into.
  Array output(const Array& corrected) const {
    return correct_scale_ ? active(corrected) * output_scale_ : active(corrected);
  }

 private:
  static Array coefficients(const Config& c, const Weights& w, int rows) {
    const Array weight = mx::astype(w.take("weight", {rows, c.altup_num_inputs}), mx::Type::f32);
    return c.altup_coef_clip > 0 ? mx::clip(weight, -c.altup_coef_clip, c.altup_coef_clip) : weight;
  }
  Array route(const Array& x) const {
    return mx::tanh(mx::astype(router_(router_norm_(x) * router_scale_), mx::Type::f32));
  }

  int streams_, active_;
  bool correct_scale_;
  float router_scale_;
  RMSNorm router_norm_;
  Linear router_;
  Array prediction_, correction_, output_scale_;
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : altup_(c, w["altup"]),
        input_layernorm_(c.norm(w["input_layernorm"])),
        laurel_left_(w["laurel"]["linear_left"], c.hidden_size, c.laurel_rank),
        laurel_right_(w["laurel"]["linear_right"], c.laurel_rank, c.hidden_size),
        laurel_norm_(c.norm(w["laurel"]["post_laurel_norm"])),
        self_attn_(c.attention(w["self_attn"], layer)),
        post_attention_layernorm_(c.norm(w["post_attention_layernorm"])),
        pre_feedforward_layernorm_(c.norm(w["pre_feedforward_layernorm"])),
        mlp_(c, w["mlp"], layer),
        post_feedforward_layernorm_(c.norm(w["post_feedforward_layernorm"])),
        input_gate_(w["per_layer_input_gate"], c.hidden_size, c.hidden_size_per_layer_input),
        input_projection_(w["per_layer_projection"], c.hidden_size_per_layer_input, c.hidden_size),
        input_norm_(c.norm(w["post_per_layer_input_norm"])),
        gate_(Activation::gelu_tanh) {}

  // Streams [B, L, N, D]; `input` [B, L, P]: this layer's embedding of the tokens.
  Array operator()(const Array& streams, const LayerCache& cache, const Array& input = {}) const {
    const Array predicted = altup_.predict(streams);
    const Array x = altup_.active(predicted);
    const Array normed = input_layernorm_(x);
    const Array laurel = normed + laurel_norm_(laurel_right_(laurel_left_(normed)));
    const Array attended = x + post_attention_layernorm_(self_attn_(normed, cache));
    const Array h = (attended + laurel) * std::sqrt(0.5f);
    const Array activated = h + post_feedforward_layernorm_(mlp_(pre_feedforward_layernorm_(h)));

    const Array corrected = altup_.correct(predicted, activated);
    const Array own = input_norm_(input_projection_(gate_(input_gate_(altup_.output(corrected)), input)));
    const int count = corrected.dim(2);
    if (count == 1) return corrected;
    const Array rest = mx::slice(corrected, 2, 1, count) + mx::expand_dims(own, 2);
    return mx::concatenate({mx::slice(corrected, 2, 0, 1), rest}, 2);
  }

 private:
  AltUp altup_;
  RMSNorm input_layernorm_;
  Linear laurel_left_, laurel_right_;
  RMSNorm laurel_norm_;
  SelfAttention self_attn_;
  RMSNorm post_attention_layernorm_, pre_feedforward_layernorm_;
  SparseMLP mlp_;
  RMSNorm post_feedforward_layernorm_;
  Linear input_gate_, input_projection_;
  RMSNorm input_norm_;
  Gate gate_;
};

// x of the magnitude that `like` has, vector by vector.
Array rescaled(const Array& x, const Array& like) {
  const auto power = [](const Array& a) { return mx::mean(mx::square(mx::astype(a, mx::Type::f32)), -1, true); };
  const Array target = power(like);
  return x * mx::astype(target * mx::rsqrt(target) * mx::rsqrt(power(x)), x.dtype());
}

class Gemma3n final : public Decoder<Config, Block> {
 public:
  Gemma3n(const ConfigReader& reader, const Weights& w) : Gemma3n(Config(text_config(reader)), language_tower(w)) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    const Array h = embed(ids, batch) * std::sqrt(static_cast<float>(config().hidden_size));
    const std::vector<Array> inputs = layer_inputs(ids, h);
    std::vector<Array> parts{h};
    for (const Linear& projection : projections_) parts.push_back(rescaled(projection(h), h));
    Array streams = mx::stack(parts, 2);
    for (size_t i = 0; i < inputs.size(); ++i) streams = blocks()[i](streams, {batch, static_cast<int>(i)}, inputs[i]);
    batch.advance();
    return normalized(merged(streams));
  }

  Array logits(const Array& hidden) const override {
    return soft_cap(Decoder::logits(hidden), config().final_logit_softcapping);
  }

 private:
  Gemma3n(Config c, const Weights& w)
      : Decoder(std::move(c), w),
        layer_table_(w["model"]["embed_tokens_per_layer"], config().vocab_size_per_layer_input, layer_width()),
        layer_projection_(w["model"]["per_layer_model_projection"], config().hidden_size, layer_width()),
        layer_norm_(w["model"]["per_layer_projection_norm"], config().hidden_size_per_layer_input,
                    config().rms_norm_eps) {
    const int hidden_size = config().hidden_size;
    for (int i = 0; i + 1 < config().altup_num_inputs; ++i) {
      projections_.emplace_back(w["model"]["altup_projections"][i], hidden_size, hidden_size);
      unembed_projections_.emplace_back(w["model"]["altup_unembed_projections"][i], hidden_size, hidden_size);
    }
  }

  int layer_width() const { return config().num_hidden_layers * config().hidden_size_per_layer_input; }

  // For each layer [B, L, P]: half from a table, half from what the model embeds.
  std::vector<Array> layer_inputs(const Array& ids, const Array& h) const {
    const int layers = config().num_hidden_layers, width = config().hidden_size_per_layer_input;
    const auto rows = static_cast<uint32_t>(config().vocab_size_per_layer_input);
    const Array end = mx::astype(mx::from_ids({&rows, 1}, {1}), ids.dtype());
    const Array known = ids * mx::astype(mx::less(ids, end), ids.dtype());  // ids beyond the table are 0 there
    const mx::Shape shape{ids.dim(0), ids.dim(1), layers, width};
    const Array looked_up = mx::reshape(layer_table_(known), shape) * std::sqrt(static_cast<float>(width));
    const Array projected = layer_norm_(
        mx::reshape(layer_projection_(h) * (1 / std::sqrt(static_cast<float>(config().hidden_size))), shape));
    std::vector<Array> inputs = mx::split((projected + looked_up) * std::sqrt(0.5f), layers, 2);
    for (Array& input : inputs) input = mx::reshape(input, {ids.dim(0), ids.dim(1), width});
    return inputs;
  }

  // The mean of the streams, brought back to the space and the magnitude of the first.
  Array merged(const Array& streams) const {
    std::vector<Array> parts = mx::split(streams, streams.dim(2), 2);
    for (size_t i = 1; i < parts.size(); ++i) parts[i] = rescaled(unembed_projections_[i - 1](parts[i]), parts[0]);
    return mx::mean(mx::concatenate(parts, 2), 2, false);
  }

  Embedding layer_table_;
  Linear layer_projection_;
  RMSNorm layer_norm_;
  std::vector<Linear> projections_, unembed_projections_;
};

}  // namespace

MLXK_MODEL(Gemma3n, "gemma3n");

}  // namespace mlxk
