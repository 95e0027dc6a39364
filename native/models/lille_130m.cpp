// Lille 130M: dense decoder. Reference: mlx-lm, models/lille-130m.py.
// Against Llama: neighbouring pairs are rotated; q, k and v are one matrix; the width of the feed-forward follows from
// that of the model; always tied.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true,
                          .hidden_size = "n_embd",
                          .num_hidden_layers = "n_layer",
                          .intermediate_size = nullptr,
                          .num_attention_heads = "n_head",
                          .norm_eps = "layer_norm_eps"}) {
    split_heads(c, "n_head");
    num_key_value_heads = c.count("n_kv_heads");
    c.require(num_attention_heads % num_key_value_heads == 0, "n_kv_heads", "must divide n_head");
    constexpr int kMultiple = 256;
    intermediate_size = kMultiple * static_cast<int>(std::nearbyint((8.0 * hidden_size / 3) / kMultiple));
    c.require(intermediate_size > 0, "n_embd", "must leave a feed-forward of at least one unit");
    tie_word_embeddings = true;
    names = {.embed_tokens = "transformer.tok_embeddings",
             .layers = "transformer.layers",
             .norm = "transformer.norm",
             .mixer_norm = "attention.norm",
             .feed_forward_norm = "feed_forward.norm"};
    rope = Rope(c, head_dim, 10000.0f, true);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attention"];
    const int keys = num_key_value_heads * head_dim;
    w.split("qkv_proj", {{"q_proj", hidden_size}, {"k_proj", keys}, {"v_proj", keys}});
    auto shape = AttentionShape::of(*this);
    shape.o_proj = "out_proj";
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<GatedMLP>(w["feed_forward"], hidden_size, intermediate_size);
  }
};

using Lille = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Lille, "lille-130m");

}  // namespace mlxk
