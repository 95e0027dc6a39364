// InternLM 2: dense decoder. Reference: mlx-lm, models/internlm2.py.
// Against Llama: q, k and v are one matrix, each key head's rows together; names of its own.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), bias(c.flag("bias", true)) {
    split_heads(c);
    names.embed_tokens = "model.tok_embeddings";
    names.lm_head = "output";
    names.mixer_norm = "attention_norm";
    names.feed_forward_norm = "ffn_norm";
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int) const {
    const Weights w = layer["attention"];
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = bias;
    shape.o_proj = "wo";
    const int queries = num_attention_heads / num_key_value_heads * head_dim;
    w.split("wqkv", {{"q_proj", queries}, {"k_proj", head_dim}, {"v_proj", head_dim}}, num_key_value_heads);
    w["rope"].discard();
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<GatedMLP>(w["feed_forward"], FeedForwardShape{hidden_size, intermediate_size},
                                      GatedMLP::Names{"w1", "w3", "w2"});
  }
};

using InternLM2 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(InternLM2, "internlm2");

}  // namespace mlxk
