// MiniCPM 3: dense decoder. Reference: mlx-lm, models/minicpm3.py.
// Against MiniCPM: queries, keys and values come from small latent vectors, and only a part of each head, the same for
// all keys, is rotated; unlike DeepSeek's, the keys and values themselves are remembered.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  float scale_emb;
  int dim_model_base, q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim;
  bool attention_bias;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        scale_emb(c.positive("scale_emb")),
        dim_model_base(c.dim("dim_model_base")),
        q_lora_rank(c.dim("q_lora_rank")),
        kv_lora_rank(c.dim("kv_lora_rank")),
        qk_nope_head_dim(c.dim("qk_nope_head_dim")),
        qk_rope_head_dim(c.dim("qk_rope_head_dim")),
        attention_bias(c.flag("attention_bias", false)) {
    split_heads(c);  // the width of the values
    residual_multiplier = c.positive("scale_depth") / std::sqrt(static_cast<float>(num_hidden_layers));
    rope = Rope(c, qk_rope_head_dim, 1000000.0f, false, "longrope");
  }

  int query_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

// Tensors: q_a_proj, q_a_layernorm, q_b_proj, kv_a_proj_with_mqa, kv_a_layernorm, kv_b_proj, o_proj.
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w)
      : config_(c),
        q_a_proj_(w["q_a_proj"], c.hidden_size, c.q_lora_rank, c.attention_bias),
        q_a_layernorm_(w["q_a_layernorm"], c.q_lora_rank, kNormEps),
        q_b_proj_(w["q_b_proj"], c.q_lora_rank, heads_width(c.num_attention_heads, c.query_dim())),
        kv_a_proj_(w["kv_a_proj_with_mqa"], c.hidden_size, c.kv_lora_rank + c.qk_rope_head_dim, c.attention_bias),
        kv_a_layernorm_(w["kv_a_layernorm"], c.kv_lora_rank, kNormEps),
        kv_b_proj_(w["kv_b_proj"], c.kv_lora_rank, heads_width(c.num_attention_heads, c.qk_nope_head_dim + c.head_dim)),
        o_proj_(w["o_proj"], c.hidden_size, c.hidden_size, c.attention_bias),
        options_{.scale = 1 / std::sqrt(static_cast<float>(c.query_dim()))} {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1), heads = config_.num_attention_heads;
    // [B, H, L, first] and [B, H, L, rest].
    const auto parts = [&](const Array& projected, int count, int first) {
      const Array split = mx::swapaxes(mx::reshape(projected, {batch, length, count, -1}), 1, 2);
      return mx::split_at(split, std::vector<int>{first}, -1);
    };
    const auto q = parts(q_b_proj_(q_a_layernorm_(q_a_proj_(x))), heads, config_.qk_nope_head_dim);
    const auto latent = parts(kv_a_proj_(x), 1, config_.kv_lora_rank);
    const Array compressed = mx::reshape(latent[0], {batch, length, config_.kv_lora_rank});
    const auto kv = parts(kv_b_proj_(kv_a_layernorm_(compressed)), heads, config_.qk_nope_head_dim);

    const Array turned = config_.rope(latent[1], cache);
    const Array shared = mx::broadcast_to(turned, {batch, heads, length, config_.qk_rope_head_dim});
    const Array queries = mx::concatenate({q[0], config_.rope(q[1], cache)}, -1);
    const Array keys = mx::concatenate({kv[0], shared}, -1);
    const Array attended = attention(queries, keys, kv[1], cache, options_);
    return o_proj_(mx::reshape(mx::swapaxes(attended, 1, 2), {batch, length, config_.hidden_size}));
  }

 private:
  static constexpr float kNormEps = 1e-5f;

  Config config_;
  Linear q_a_proj_;
  RMSNorm q_a_layernorm_;
  Linear q_b_proj_, kv_a_proj_;
  RMSNorm kv_a_layernorm_;
  Linear kv_b_proj_, o_proj_;
  AttentionOptions options_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int) const {
  return std::make_unique<Attention>(*this, w["self_attn"]);
}

class MiniCpm3 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  using Decoder::Decoder;

  Array logits(const Array& hidden) const override {
    const float width = static_cast<float>(config().hidden_size) / static_cast<float>(config().dim_model_base);
    return Decoder::logits(config().tie_word_embeddings ? hidden : hidden * (1 / width));
  }

 protected:
  Array embed(const Array& ids, Batch& batch) const override { return Decoder::embed(ids, batch) * config().scale_emb; }
};

}  // namespace

MLXK_MODEL(MiniCpm3, "minicpm3");

}  // namespace mlxk
