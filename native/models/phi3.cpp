// Phi-3, Phi-3.5 and Phi-4-mini: dense decoder. Reference: mlx-lm, models/phi3.py.
// Against Llama: q, k and v share a matrix, gate and up another; part of each head may be rotated.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, false) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    const int dims = rotary_dims(c, head_dim, "partial_rotary_factor", 1.0f);
    rope = Rope(c, dims, 10000.0f, c.flag("rope_traditional", false));
  }

  int query_width() const { return num_attention_heads * head_dim; }
  int key_width() const { return num_key_value_heads * head_dim; }

  std::unique_ptr<Mixer> mixer(const Weights& w, int) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<FusedGatedMLP>(w["mlp"], hidden_size, intermediate_size);
  }
};

// Tensors: qkv_proj (q, k and v one below the other), o_proj.
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w)
      : config_(c),
        qkv_proj_(w["qkv_proj"], c.hidden_size, c.query_width() + 2 * c.key_width()),
        o_proj_(w["o_proj"], c.query_width(), c.hidden_size) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1);
    const int ends[] = {config_.query_width(), config_.query_width() + config_.key_width()};
    const auto parts = mx::split_at(qkv_proj_(x), ends, -1);
    const auto heads = [&](const Array& part, int count) {
      return mx::swapaxes(mx::reshape(part, {batch, length, count, config_.head_dim}), 1, 2);  // [B, H, L, D]
    };
    const Array q = config_.rope(heads(parts[0], config_.num_attention_heads), cache);
    const Array k = config_.rope(heads(parts[1], config_.num_key_value_heads), cache);
    const Array v = heads(parts[2], config_.num_key_value_heads);
    const Array out = attention(q, k, v, cache, {.scale = 1 / std::sqrt(static_cast<float>(config_.head_dim))});
    return o_proj_(mx::reshape(mx::swapaxes(out, 1, 2), {batch, length, config_.query_width()}));
  }

 private:
  Config config_;
  Linear qkv_proj_, o_proj_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int) const {
  return std::make_unique<Attention>(*this, w["self_attn"]);
}

using Phi3 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Phi3, "phi3");

}  // namespace mlxk
