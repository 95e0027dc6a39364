// PLaMo: dense decoder. Reference: mlx-lm, models/plamo.py.
// Against Llama: attention and feed-forward stand side by side; a query head looks at the key head that its number
// leaves as the remainder, not the quotient.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int n_shared_head;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), n_shared_head(c.count("n_shared_head", 8)) {
    split_heads(c);
    c.require(num_attention_heads % n_shared_head == 0, "n_shared_head", "must divide num_attention_heads");
    num_key_value_heads = num_attention_heads / n_shared_head;
    tie_word_embeddings = false;
    names.layers = "model.layers.layers";
    names.mixer_norm = "norm";
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w)
      : shared_(c.n_shared_head),
        kv_heads_(c.num_key_value_heads),
        rope_(c.rope),
        q_proj_(w["q_proj"], c.hidden_size, c.hidden_size),
        k_proj_(w["k_proj"], c.hidden_size, kv_heads_ * c.head_dim),
        v_proj_(w["v_proj"], c.hidden_size, kv_heads_ * c.head_dim),
        o_proj_(w["o_proj"], c.hidden_size, c.hidden_size),
        options_{.scale = 1 / std::sqrt(static_cast<float>(c.head_dim))} {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1), width = x.dim(2);
    // The query heads of one key head side by side, as `attention` wants them, [B, H, L, D].
    Array q = mx::reshape(q_proj_(x), {batch, length, shared_, kv_heads_, -1});
    q = mx::reshape(mx::transpose(q, {0, 3, 2, 1, 4}), {batch, kv_heads_ * shared_, length, -1});
    const auto keys = [&](const Array& projected) {
      return mx::swapaxes(mx::reshape(projected, {batch, length, kv_heads_, -1}), 1, 2);
    };
    const Array attended =
        attention(rope_(q, cache), rope_(keys(k_proj_(x)), cache), keys(v_proj_(x)), cache, options_);
    const Array grouped = mx::reshape(attended, {batch, kv_heads_, shared_, length, -1});
    return o_proj_(mx::reshape(mx::transpose(grouped, {0, 3, 2, 1, 4}), {batch, length, width}));
  }

 private:
  int shared_, kv_heads_;
  Rope rope_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  AttentionOptions options_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int) const {
  return std::make_unique<Attention>(*this, w["self_attn"]);
}

using Plamo = Decoder<Config, ParallelBlock<Config>>;

}  // namespace

MLXK_MODEL(Plamo, "plamo");

}  // namespace mlxk
