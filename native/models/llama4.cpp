// Llama 4 (Scout, Maverick): mixture of experts, the text tower of the multimodal checkpoints. Reference: mlx-lm,
// models/llama4.py.
// Against Llama: three layers in four attend within chunks, are rotated and normalize q and k after it; in the fourth,
// queries grow with their position; mixtures take one expert a position, and scale what goes into it.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, use_qk_norm;
  int attention_chunk_size, interleave_moe_layer_step, intermediate_size_mlp, num_local_experts;
  std::optional<PositionScale> growth;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        use_qk_norm(c.flag("use_qk_norm", true)),
        attention_chunk_size(c.dim("attention_chunk_size")),
        interleave_moe_layer_step(c.count("interleave_moe_layer_step")),
        intermediate_size_mlp(c.dim("intermediate_size_mlp")),
        num_local_experts(c.count("num_local_experts")) {
    tie_word_embeddings = false;
    const int k = c.count("num_experts_per_tok", 1);
    c.require(k == 1, "num_experts_per_tok", "must be 1, got " + std::to_string(k));
    // A number or a flag, of which only whether it is zero counts.
    const Json* tuning = c.find("attn_temperature_tuning");
    const bool tuned = !tuning             ? !c.is_null("attn_temperature_tuning")
                       : tuning->is_bool() ? tuning->as_bool()
                                           : c.number("attn_temperature_tuning") != 0;
    if (tuned) growth = {c.number("attn_scale", 0.1f), c.positive("floor_scale", 8192.0f), 1};
    rope = Rope(c, head_dim, 10000.0f, true);
  }

  static bool rotates(int layer) { return (layer + 1) % 4 != 0; }

  std::unique_ptr<LayerState> new_state(int layer) const {
    return std::make_unique<KVCache>(rotates(layer) ? attention_chunk_size : 0);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
};

class Attention final : public SelfAttention {
 public:
  Attention(const Weights& w, const AttentionShape& shape, const PositionScale& growth)
      : SelfAttention(w, shape, Rope()), growth_(growth) {}

 protected:
  Array prepared(const Array& q, const LayerCache& cache) const override { return growth_(q, cache); }
  bool prepares() const override { return true; }

 private:
  PositionScale growth_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["self_attn"];
  auto shape = AttentionShape::of(*this, index);
  shape.qkv_bias = shape.o_bias = attention_bias;
  if (!rotates(index)) {
    if (growth) return std::make_unique<Attention>(w, shape, *growth);
    return std::make_unique<SelfAttention>(w, shape, Rope());
  }
  shape.chunk = attention_chunk_size;
  if (use_qk_norm) {
    shape.qk_norm = QKNorm::per_head;
    shape.norm_after_rope = true;
    shape.norm_weights = false;
    shape.norm_eps = 1e-6f;
  }
  return std::make_unique<SelfAttention>(w, shape, rope);
}

// expert(sigmoid(score) x) + shared(x).
class InputScaledMoE final : public FeedForward {
 public:
  InputScaledMoE(const Config& c, const Weights& w)
      : router_(w["router"], c.hidden_size, c.num_local_experts),
        experts_(w["experts"], {c.hidden_size, c.intermediate_size, c.num_local_experts}),
        shared_(w["shared_expert"], c.hidden_size, c.intermediate_size) {}

  Array operator()(const Array& x) const override {
    const Array scores = router_(x);
    const Array best = mx::expand_dims(mx::argmax(scores, -1), -1);
    const Array score = mx::astype(mx::take_along(scores, best, -1), mx::Type::f32);
    const Array scaled = x * mx::astype(mx::sigmoid(score), x.dtype());
    const Array one = mx::broadcast_to(mx::scalar(1, x.dtype()), best.shape());
    return experts_(scaled, {best, one}) + shared_(x);
  }

 private:
  Linear router_;
  GatedExperts experts_;
  GatedMLP shared_;
};

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int index) const {
  const Weights w = layer["feed_forward"];
  if ((index + 1) % interleave_moe_layer_step != 0) {
    return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size_mlp);
  }
  split_fused_experts(w, {hidden_size, intermediate_size, num_local_experts}, true, "experts");
  return std::make_unique<InputScaledMoE>(*this, w);
}

class Llama4 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Llama4(const ConfigReader& reader, const Weights& w)
      : Decoder(Config(reader.child("text_config")), language_tower(w)) {}
};

}  // namespace

MLXK_MODEL(Llama4, "llama4");

}  // namespace mlxk
