// nanochat: dense decoder. Reference: mlx-lm, models/nanochat.py.
// Against Llama: no norm has a weight, and one follows the embedding; heads rotate the other way round and are
// normalized after it; a plain feed-forward with squared ReLU; final scores are capped.

#include <string>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 10}}), {.default_norm_eps = 1e-5f}) {
    split_heads(c);
    rms_norm_eps = 1e-5f;
    tie_word_embeddings = false;
    names.embed_tokens = "transformer.wte";
    names.layers = "transformer.h";
    const float theta = c.positive("rope_theta", 10000.0f);
    c.require(head_dim % 2 == 0, "num_attention_heads", "must leave heads of even width, to be rotated");
    c.require(theta > 1, "rope_theta", "must be above 1");
    rope = Rope::reversed(head_dim, theta);
  }

  Norm norm(const Weights&) const { return Norm(rms_norm_eps); }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attn"];
    auto shape = AttentionShape::of(*this);
    shape.qk_norm = QKNorm::per_head;
    shape.norm_weights = false;
    shape.norm_after_rope = true;
    shape.o_proj = "c_proj";
    for (const char* part : {"q", "k", "v"}) w.rename(std::string("c_") + part, std::string(part) + "_proj");
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, false, Activation::relu2};
    return std::make_unique<PlainMLP>(layer["mlp"], shape, "c_fc", "c_proj");
  }
};

class NanoChat final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  using Decoder::Decoder;
  Array logits(const Array& hidden) const override {
    constexpr float kCap = 15.0f;
    return soft_cap(Decoder::logits(hidden), kCap);
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override { return normalized(Decoder::embed(ids, batch)); }
};

}  // namespace

MLXK_MODEL(NanoChat, "nanochat");

}  // namespace mlxk
