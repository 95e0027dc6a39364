// Apertus: dense decoder. Reference: mlx-lm, models/apertus.py.
// Against Qwen3: a plain feed-forward with xIELU, whose parameters each layer learns.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  explicit Config(const ConfigReader& c) : DecoderConfig(c, false) {
    mlp_bias = c.flag("mlp_bias", false);
    split_heads(c);
    names.mixer_norm = "attention_layernorm";
    names.feed_forward_norm = "feedforward_layernorm";
    rope = Rope(c, head_dim, 12000000.0f, c.flag("rope_traditional", false));
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const;
};

// xIELU, arXiv 2411.13010: a parabola above zero, an integrated ELU below. Tensors: alpha_p and alpha_n before their
// softplus; beta and eps where a checkpoint has them.
class XieLU {
 public:
  explicit XieLU(const Weights& w)
      : alpha_p_(mx::softplus(scalar(w, "alpha_p"))),
        beta_(w.has("beta") ? scalar(w, "beta") : mx::scalar(0.5f, mx::Type::f32)),
        eps_(w.has("eps") ? scalar(w, "eps") : mx::scalar(-1e-6f, mx::Type::f32)),
        alpha_n_(beta_ + mx::softplus(scalar(w, "alpha_n"))) {}

  Array operator()(const Array& x) const {
    const Array wide = mx::astype(x, mx::Type::f32);
    const Array linear = wide * beta_;
    const Array above = alpha_p_ * mx::square(wide) + linear;
    const Array below = (mx::expm1(mx::minimum(wide, eps_)) - wide) * alpha_n_ + linear;
    return mx::astype(mx::where(mx::less(mx::scalar(0, mx::Type::f32), wide), above, below), x.dtype());
  }

 private:
  static Array scalar(const Weights& w, const char* name) {
    const bool one = w.has(name) && w.peek(name).ndim() == 1;  // [1] in the original checkpoints
    return mx::reshape(mx::astype(w.take(name, one ? mx::Shape{1} : mx::Shape{}), mx::Type::f32), {});
  }

  Array alpha_p_, beta_, eps_, alpha_n_;
};

class MLP final : public FeedForward {
 public:
  MLP(const Config& c, const Weights& w)
      : up_proj_(w["up_proj"], c.hidden_size, c.intermediate_size, c.mlp_bias),
        down_proj_(w["down_proj"], c.intermediate_size, c.hidden_size, c.mlp_bias),
        act_fn_(w["act_fn"]) {}
  Array operator()(const Array& x) const override { return down_proj_(act_fn_(up_proj_(x))); }

 private:
  Linear up_proj_, down_proj_;
  XieLU act_fn_;
};

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int) const {
  return std::make_unique<MLP>(*this, layer["mlp"]);
}

using Apertus = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Apertus, "apertus");

}  // namespace mlxk
