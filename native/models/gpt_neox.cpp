// GPT-NeoX and Pythia: dense decoder. Reference: mlx-lm, models/gpt_neox.py.
// Against Llama: LayerNorm; attention and feed-forward stand side by side, each with a norm of its own; part of each
// head is rotated; a plain feed-forward, biases everywhere; q, k and v are one matrix, each head's rows together.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  bool use_parallel_residual;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.intermediate_size = nullptr, .norm_eps = "layer_norm_eps"}),
        use_parallel_residual(c.flag("use_parallel_residual", true)) {
    split_heads(c);
    num_key_value_heads = num_attention_heads;
    intermediate_size = c.dim("intermediate_size", 4 * hidden_size);
    tie_word_embeddings = false;
    names.embed_tokens = "model.embed_in";
    names.layers = "model.h";
    names.norm = "model.final_layer_norm";
    names.lm_head = "model.embed_out";
    const float theta = c.positive(c.has("rotary_emb_base") ? "rotary_emb_base" : "rope_theta", 10000.0f);
    const int dims = rotary_dims(c, head_dim, "rotary_pct", 0.25f);
    c.require(dims > 0 && dims % 2 == 0, "rotary_pct", "must leave an even number of dimensions to be rotated");
    rope = Rope(dims, theta);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attention"];
    w.drop("bias");  // the causal mask
    w.drop("masked_bias");
    w.split("query_key_value", {{"q_proj", head_dim}, {"k_proj", head_dim}, {"v_proj", head_dim}}, num_attention_heads);
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = true;
    shape.o_proj = "dense";
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, true, Activation::gelu_tanh};
    return std::make_unique<PlainMLP>(layer["mlp"], shape, "dense_h_to_4h", "dense_4h_to_h");
  }
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int layer)
      : parallel_(c.use_parallel_residual),
        mixer_norm_(c.norm(w[c.names.mixer_norm])),
        mixer_(c.mixer(w, layer)),
        feed_forward_norm_(c.norm(w[c.names.feed_forward_norm])),
        feed_forward_(c.feed_forward(w, layer)) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    const Array h = x + (*mixer_)(mixer_norm_(x), cache);
    return h + (*feed_forward_)(feed_forward_norm_(parallel_ ? x : h));
  }

 private:
  bool parallel_;
  LayerNorm mixer_norm_;
  std::unique_ptr<Mixer> mixer_;
  LayerNorm feed_forward_norm_;
  std::unique_ptr<FeedForward> feed_forward_;
};

// The names of the original checkpoints.
const Weights& renamed(const Weights& w) {
  w.rename("gpt_neox.layers", "model.h");
  w.rename("gpt_neox", "model");
  w.rename("embed_out", "model.embed_out");
  return w;
}

class GptNeoX final : public Decoder<Config, Block> {
 public:
  GptNeoX(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), renamed(w)) {}
};

}  // namespace

MLXK_MODEL(GptNeoX, "gpt_neox");

}  // namespace mlxk
