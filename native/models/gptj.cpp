// GPT-J: dense decoder. Reference: mlx-lm, models/gptj.py.
// Against Llama: LayerNorm; attention and feed-forward stand side by side; neighbouring pairs are rotated, in part of
// each head; a plain feed-forward with biases; the head has one too.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.hidden_size = "n_embd",
                            .num_hidden_layers = "n_layer",
                            .intermediate_size = nullptr,
                            .num_attention_heads = "n_head",
                            .norm_eps = "layer_norm_epsilon",
                            .default_norm_eps = 1e-5f}) {
    split_heads(c, "n_head");
    num_key_value_heads = num_attention_heads;
    intermediate_size = 4 * hidden_size;
    tie_word_embeddings = false;
    lm_head_bias = true;
    names = {.embed_tokens = "model.wte", .layers = "model.h", .norm = "model.ln_f", .mixer_norm = "ln_1"};
    const int rotary_dim = c.dim("rotary_dim", head_dim);
    c.require(rotary_dim <= head_dim && rotary_dim % 2 == 0, "rotary_dim", "must be even and at most the head width");
    rope = Rope(rotary_dim, 10000.0f, true);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attn"];
    w.drop("bias");  // the causal mask
    w.drop("masked_bias");
    auto shape = AttentionShape::of(*this);
    shape.o_proj = "out_proj";
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const FeedForwardShape shape{hidden_size, intermediate_size, true, Activation::gelu_tanh};
    return std::make_unique<PlainMLP>(layer["mlp"], shape, "fc_in", "fc_out");
  }
};

// The names of the original checkpoints.
const Weights& renamed(const Weights& w) {
  w.rename("transformer", "model");
  return w;
}

class GptJ final : public Decoder<Config, ParallelBlock<Config>> {
 public:
  GptJ(const ConfigReader& reader, const Weights& w) : Decoder(Config(reader), renamed(w)) {}
};

}  // namespace

MLXK_MODEL(GptJ, "gptj");

}  // namespace mlxk
