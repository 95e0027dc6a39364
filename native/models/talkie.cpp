// Talkie: dense decoder. Reference: mlx-lm, models/talkie.py.
// Against Llama: no norm has a weight; learnt factors scale query heads, residual branches and the final scores; every
// block adds the embedding again; heads rotate the other way round and are normalized after it.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, {.default_norm_eps = 1.1920929e-7f}) {
    head_dim = c.dim("head_dim", 128);
    num_key_value_heads = num_attention_heads;
    tie_word_embeddings = false;
    names.embed_tokens = "model.embed";
    names.layers = "model.blocks";
    const float theta = c.positive("rope_theta", 1000000.0f);
    c.require(head_dim % 2 == 0, "head_dim", "must be even to be rotated");
    c.require(theta > 1, "rope_theta", "must be above 1");
    rope = Rope::reversed(head_dim, theta);
  }

  Norm norm(const Weights&) const { return Norm(rms_norm_eps); }
};

class Attention final : public SelfAttention {
 public:
  Attention(const Config& c, const Weights& w)
      : SelfAttention(renamed(w), shape(c), c.rope), gain_(w["head_gain"].take("head_g", {c.num_attention_heads})) {}

 protected:
  Array prepared(const Array& q, const LayerCache&) const override {
    return q * mx::astype(mx::reshape(gain_, {q.dim(1), 1, 1}), q.dtype());
  }

 private:
  static AttentionShape shape(const Config& c) {
    auto shape = AttentionShape::of(c);
    shape.qk_norm = QKNorm::per_head;
    shape.norm_weights = false;
    shape.norm_after_rope = true;
    return shape;
  }
  static const Weights& renamed(const Weights& w) {
    w.rename("attn_query", "q_proj");
    w.rename("attn_key", "k_proj");
    w.rename("attn_value", "v_proj");
    w.rename("attn_resid", "o_proj");
    return w;
  }

  Array gain_;
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int)
      : norm_(c.rms_norm_eps),
        attn_(c, w["attn"]),
        mlp_(w["mlp"], {c.hidden_size, c.intermediate_size}, {"mlp_gate", "mlp_linear", "mlp_resid"}),
        attn_gain_(w["attn_gain"].take("a_g", {1})),
        mlp_gain_(w["mlp_gain"].take("a_g", {1})),
        embed_skip_(w["embed_skip"].take("a_g", {1})) {}

  // `embedding` is what the first block received.
  Array operator()(const Array& x, const LayerCache& cache, const Array& embedding = {}) const {
    const auto scaled = [](const Array& branch, const Array& gain) {
      return branch * mx::astype(gain, branch.dtype());
    };
    const Array h = x + scaled(attn_(norm_(x), cache), attn_gain_);
    return h + scaled(mlp_(norm_(h)), mlp_gain_) + scaled(embedding, embed_skip_);
  }

 private:
  RMSNorm norm_;
  Attention attn_;
  GatedMLP mlp_;
  Array attn_gain_, mlp_gain_, embed_skip_;
};

// The head is a bare tensor in the checkpoint; buffers of the rotation may be there.
const Weights& cleaned(const Weights& w) {
  if (w.has("lm_head")) w.rename("lm_head", "lm_head.weight");
  for (const char* buffer : {".cos", ".sin"}) w.discard_suffix(buffer);
  return w;
}

class Talkie final : public Decoder<Config, Block> {
 public:
  Talkie(const ConfigReader& reader, const Weights& w)
      : Decoder(Config(reader), cleaned(w)), lm_head_gain_(w["lm_head_gain"].take("w_g", {1})) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    const Array embedding = normalized(embed(ids, batch));
    Array h = embedding;
    for (size_t i = 0; i < blocks().size(); ++i) h = blocks()[i](h, {batch, static_cast<int>(i)}, embedding);
    batch.advance();
    return normalized(h);
  }

  Array logits(const Array& hidden) const override {
    const Array scores = Decoder::logits(hidden);
    return scores * mx::astype(lm_head_gain_, scores.dtype());
  }

 private:
  Array lm_head_gain_;
};

}  // namespace

MLXK_MODEL(Talkie, "talkie");

}  // namespace mlxk
