// Gemma 4, text: dense decoder or mixture of experts. Reference: mlx-lm, models/gemma4_text.py.
// Against Gemma 3, text: norm weights are stored as they are; values are normalized, scores are not scaled; layers that
// attend to everything have wider heads, whose keys may serve as values; the last layers look at the keys and values of
// earlier ones; each layer receives an embedding of the token of its own; a feed-forward may stand beside experts.

#include <cmath>
#include <string>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

constexpr const char* kRope = R"({
  "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
  "sliding_attention": {"rope_theta": 10000.0}
})";

struct Config : DecoderConfig {
  int global_head_dim, num_global_key_value_heads, num_kv_shared_layers;
  int hidden_size_per_layer_input, vocab_size_per_layer_input;
  float final_logit_softcapping;
  bool attention_k_eq_v, use_double_wide_mlp, enable_moe_block;
  int num_experts = 0, top_k_experts = 0, moe_intermediate_size = 0;
  Rope global, local;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true, .default_norm_eps = 1e-6f}),
        num_kv_shared_layers(c.integer("num_kv_shared_layers", 20, 0, num_hidden_layers - 1)),
        hidden_size_per_layer_input(
            c.count_or_zero("hidden_size_per_layer_input", c.is_null("hidden_size_per_layer_input") ? 0 : 256)),
        vocab_size_per_layer_input(c.dim("vocab_size_per_layer_input", 262144)),
        final_logit_softcapping(c.is_null("final_logit_softcapping") ? 0
                                                                     : c.positive("final_logit_softcapping", 30.0f)),
        attention_k_eq_v(c.flag("attention_k_eq_v", false)),
        use_double_wide_mlp(c.flag("use_double_wide_mlp", true)),
        enable_moe_block(c.flag("enable_moe_block", false)) {
    head_dim = c.dim("head_dim", 256);
    global_head_dim = c.dim("global_head_dim", 512);
    num_key_value_heads = c.count("num_key_value_heads", 1);
    num_global_key_value_heads = c.count("num_global_key_value_heads", num_key_value_heads);
    for (const char* field : {"num_key_value_heads", "num_global_key_value_heads"}) {
      c.require(num_attention_heads % c.count(field, num_key_value_heads) == 0, field,
                "must divide num_attention_heads");
    }
    c.require(hidden_size_per_layer_input == 0 || vocab_size_per_layer_input >= vocab_size,
              "vocab_size_per_layer_input", "must be at least vocab_size");
    activation = Activation::gelu_tanh;
    read_layers(c);
    if (enable_moe_block) {
      num_experts = c.count("num_experts");
      top_k_experts = c.count("top_k_experts");
      moe_intermediate_size = c.dim("moe_intermediate_size");
      require_top_k(c, top_k_experts, "top_k_experts", num_experts);
    }
    const bool traditional = c.flag("rope_traditional", false);
    const ConfigReader ropes = c.has("rope_parameters")
                                   ? c.child("rope_parameters")
                                   : ConfigReader(std::make_shared<const Json>(Json::parse(kRope)), "rope_parameters");
    const auto rope_of = [&](const char* kind, int dims) {
      const auto parameters = ropes.maybe(kind);
      return parameters ? Rope::of_parameters(*parameters, dims, 10000.0f, traditional)
                        : Rope(dims, 10000.0f, traditional);
    };
    global = rope_of("full_attention", global_head_dim);
    local = rope_of("sliding_attention", head_dim);
  }

  bool slides(int layer) const { return window(layer) > 0; }
  int first_shared() const { return num_hidden_layers - num_kv_shared_layers; }

  // The layer whose keys and values this one looks at: itself, or the last of its kind that has its own.
  int key_layer(int layer) const {
    if (layer < first_shared()) return layer;
    int owner = first_shared() - 1;
    while (owner >= 0 && slides(owner) != slides(layer)) --owner;
    return owner;
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["self_attn"];
    auto shape = AttentionShape::of(*this, index);
    shape.qk_norm = QKNorm::per_head;
    shape.value_norm = true;
    shape.scale = 1.0f;
    if (!slides(index)) {
      shape.head_dim = global_head_dim;
      shape.keys_as_values = attention_k_eq_v;
      if (attention_k_eq_v) shape.kv_heads = num_global_key_value_heads;
    }
    if (const int owner = key_layer(index); owner != index) {
      shape.shared = owner;
      for (const char* unused : {"k_proj", "v_proj", "k_norm"}) w[unused].discard();
    }
    return std::make_unique<SelfAttention>(w, shape, slides(index) ? local : global);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const bool wide = use_double_wide_mlp && index >= first_shared();
    return std::make_unique<GatedMLP>(layer["mlp"], hidden_size, intermediate_size * (wide ? 2 : 1), false, activation);
  }

 private:
  void read_layers(const ConfigReader& c) {
    const int sliding_window = c.dim("sliding_window", 512);
    if (c.has("layer_types")) {
      windows = layer_windows(c.with("sliding_window", Json(int64_t{sliding_window})), num_hidden_layers,
                              [](int) { return false; });
    } else {
      const int pattern = c.count("sliding_window_pattern", 5);
      for (int i = 0; i < num_hidden_layers; ++i) windows.push_back((i + 1) % pattern == 0 ? 0 : sliding_window);
    }
    for (int i = first_shared(); i < num_hidden_layers; ++i) {
      c.require(key_layer(i) >= 0, "num_kv_shared_layers", "must leave a layer of every kind that shares keys");
    }
  }
};

// Chooses by the scores of the normalized residual; each expert's weight has a factor of its own. Tensors: scale, proj,
// per_expert_scale.
class ScaledRouter final : public Router {
 public:
  ScaledRouter(const Config& c, const Weights& w)
      : scale_(w.take("scale", {c.hidden_size}) * (1 / std::sqrt(static_cast<float>(c.hidden_size)))),
        per_expert_scale_(w.take("per_expert_scale", {c.num_experts})),
        eps_(c.rms_norm_eps),
        choose_(w["proj"], c.hidden_size, c.num_experts, c.top_k_experts) {}

  Routing operator()(const Array& x) const override {
    const Routing routing = choose_(mx::rms_norm(x, scale_, eps_));
    return {routing.indices, routing.weights * mx::take(per_expert_scale_, routing.indices, 0)};
  }

 private:
  Array scale_, per_expert_scale_;
  float eps_;
  TopKRouter choose_;
};

// The original checkpoints hold gate and up of all experts in one tensor.
const Weights& separated(const Weights& experts, int intermediate_size) {
  experts.rename("gate_up_proj", "gate_up_proj.weight");
  experts.rename("down_proj", "switch_glu.down_proj.weight");
  experts.split("gate_up_proj",
                {{"switch_glu.gate_proj", intermediate_size}, {"switch_glu.up_proj", intermediate_size}});
  return experts;
}

// The experts that stand beside the feed-forward, with the norms of both.
class ExpertBranch {
 public:
  ExpertBranch(const Config& c, const Weights& w)
      : router_(c, w["router"]),
        dense_norm_(c.norm(w["post_feedforward_layernorm_1"])),
        in_norm_(c.norm(w["pre_feedforward_layernorm_2"])),
        out_norm_(c.norm(w["post_feedforward_layernorm_2"])),
        experts_(separated(w["experts"], c.moe_intermediate_size)["switch_glu"],
                 {c.hidden_size, c.moe_intermediate_size, c.num_experts}, c.activation) {}

  Array operator()(const Array& h, const Array& dense) const {
    return dense_norm_(dense) + out_norm_(experts_(in_norm_(h), router_(h)));
  }

 private:
  ScaledRouter router_;
  RMSNorm dense_norm_, in_norm_, out_norm_;
  GatedExperts experts_;
};

// Adds what the layer's own embedding of the token says, gated by the residual.
class LayerInput {
 public:
  LayerInput(const Config& c, const Weights& w)
      : gate_(w["per_layer_input_gate"], c.hidden_size, c.hidden_size_per_layer_input),
        projection_(w["per_layer_projection"], c.hidden_size_per_layer_input, c.hidden_size),
        norm_(c.norm(w["post_per_layer_input_norm"])),
        times_(Activation::gelu_tanh) {}

  Array operator()(const Array& h, const Array& input) const { return h + norm_(projection_(times_(gate_(h), input))); }

 private:
  Linear gate_, projection_;
  RMSNorm norm_;
  Gate times_;
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : input_layernorm_(c.norm(w["input_layernorm"])),
        mixer_(c.mixer(w, layer)),
        post_attention_layernorm_(c.norm(w["post_attention_layernorm"])),
        pre_feedforward_layernorm_(c.norm(w["pre_feedforward_layernorm"])),
        feed_forward_(c.feed_forward(w, layer)),
        post_feedforward_layernorm_(c.norm(w["post_feedforward_layernorm"])),
        layer_scalar_(w.take("layer_scalar", {1})) {
    if (c.enable_moe_block) experts_.emplace(c, w);
    if (c.hidden_size_per_layer_input > 0) layer_input_.emplace(c, w);
  }

  // `input` [B, L, P]: this layer's embedding of the tokens.
  Array operator()(const Array& x, const LayerCache& cache, const Array& input = {}) const {
    Array h = x + post_attention_layernorm_((*mixer_)(input_layernorm_(x), cache));
    Array branch = (*feed_forward_)(pre_feedforward_layernorm_(h));
    if (experts_) branch = (*experts_)(h, branch);
    h = h + post_feedforward_layernorm_(branch);
    if (layer_input_) h = (*layer_input_)(h, input);
    return h * layer_scalar_;
  }

 private:
  RMSNorm input_layernorm_;
  std::unique_ptr<Mixer> mixer_;
  RMSNorm post_attention_layernorm_, pre_feedforward_layernorm_;
  std::unique_ptr<FeedForward> feed_forward_;
  RMSNorm post_feedforward_layernorm_;
  std::optional<ExpertBranch> experts_;
  std::optional<LayerInput> layer_input_;
  Array layer_scalar_;
};

// Every layer's embedding of the tokens: half from a table, half from what the model embeds.
class LayerEmbedding {
 public:
  LayerEmbedding(const Config& c, const Weights& w)
      : layers_(c.num_hidden_layers),
        width_(c.hidden_size_per_layer_input),
        projection_scale_(1 / std::sqrt(static_cast<float>(c.hidden_size))),
        table_(w["embed_tokens_per_layer"], c.vocab_size_per_layer_input, layers_ * width_),
        projection_(w["per_layer_model_projection"], c.hidden_size, layers_ * width_),
        norm_(w["per_layer_projection_norm"], width_, c.rms_norm_eps) {}

  // ids [B, L], h their embedding: for each layer [B, L, P].
  std::vector<Array> operator()(const Array& ids, const Array& h) const {
    const mx::Shape shape{ids.dim(0), ids.dim(1), layers_, width_};
    const Array looked_up = mx::reshape(table_(ids), shape) * std::sqrt(static_cast<float>(width_));
    const Array projected = norm_(mx::reshape(projection_(h) * projection_scale_, shape));
    std::vector<Array> inputs = mx::split((projected + looked_up) * std::sqrt(0.5f), layers_, 2);
    for (Array& input : inputs) input = mx::reshape(input, {ids.dim(0), ids.dim(1), width_});
    return inputs;
  }

 private:
  int layers_, width_;
  float projection_scale_;
  Embedding table_;
  Linear projection_;
  RMSNorm norm_;
};

// Buffers of the original checkpoints that the model does not use.
const Weights& cleaned(const Weights& w) {
  for (const char* buffer : {"input_max", "input_min", "output_max", "output_min"}) w.discard_suffix(buffer);
  return w;
}

class Gemma4Text final : public Decoder<Config, Block> {
 public:
  Gemma4Text(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), cleaned(w)) {
    if (config().hidden_size_per_layer_input > 0) layer_embedding_.emplace(config(), w["model"]);
  }

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed(ids, batch) * std::sqrt(static_cast<float>(config().hidden_size));
    std::vector<Array> inputs(blocks().size());
    if (layer_embedding_) inputs = (*layer_embedding_)(ids, h);
    for (size_t i = 0; i < inputs.size(); ++i) h = blocks()[i](h, {batch, static_cast<int>(i)}, inputs[i]);
    batch.advance();
    return normalized(h);
  }

  Array logits(const Array& hidden) const override {
    const float cap = config().final_logit_softcapping;
    return cap > 0 ? soft_cap(Decoder::logits(hidden), cap) : Decoder::logits(hidden);
  }

 private:
  std::optional<LayerEmbedding> layer_embedding_;
};

}  // namespace

MLXK_MODEL(Gemma4Text, "gemma4_text");

}  // namespace mlxk
