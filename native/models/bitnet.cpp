// BitNet b1.58: dense decoder. Reference: mlx-lm, models/bitnet.py.
// Against Llama: norms before the output matrices of attention and feed-forward; squared ReLU gates; the matrices are
// ternary with one scale each, which are run as MLX's 2-bit ones.

#include <cmath>

#include "decoder.h"
#include "foreign_storage.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;

  explicit Config(const ConfigReader& c) : DecoderConfig(c, true), attention_bias(c.flag("attention_bias", false)) {
    mlp_bias = c.flag("mlp_bias", false);
    c.require(int64_t{num_attention_heads} * head_dim == hidden_size, "head_dim",
              "must be the heads' share of hidden_size");
    rope = Rope(c, head_dim, 10000.0f, c.flag("rope_traditional", false));
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int layer) const;
};

// A layer whose weights may be ternary: uint8 [out / 4, in] and weight_scale [1].
Linear ternary(const Weights& w, int in, int out, bool bias) {
  const bool packed = w.has("weight") && w.peek("weight").dtype() == mx::Type::u8;
  if (packed && out % 4 == 0 && in % 32 == 0) {
    const Array bytes = w.take("weight", {out / 4, in}, mx::Type::u8);
    const PackedMatrix made = pack_ternary(bytes, w.take("weight_scale", {1}), false);
    w.put("weight", made.weight);
    w.put("scales", made.scales);
    w.put("biases", made.biases);
  }
  return {w, in, out, bias};
}

class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w)
      : head_dim_(c.head_dim),
        rope_(c.rope),
        q_proj_(ternary(w["q_proj"], c.hidden_size, c.hidden_size, c.attention_bias)),
        k_proj_(ternary(w["k_proj"], c.hidden_size, c.num_key_value_heads * c.head_dim, c.attention_bias)),
        v_proj_(ternary(w["v_proj"], c.hidden_size, c.num_key_value_heads * c.head_dim, c.attention_bias)),
        attn_sub_norm_(c.norm(w["attn_sub_norm"])),
        o_proj_(ternary(w["o_proj"], c.hidden_size, c.hidden_size, c.attention_bias)),
        options_{.scale = 1 / std::sqrt(static_cast<float>(c.head_dim))} {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const auto heads = [&](const Array& projected) {
      return mx::swapaxes(mx::reshape(projected, {x.dim(0), x.dim(1), -1, head_dim_}), 1, 2);
    };
    const Array attended =
        attention(rope_(heads(q_proj_(x)), cache), rope_(heads(k_proj_(x)), cache), heads(v_proj_(x)), cache, options_);
    return o_proj_(attn_sub_norm_(mx::reshape(mx::swapaxes(attended, 1, 2), x.shape())));
  }

 private:
  int head_dim_;
  Rope rope_;
  Linear q_proj_, k_proj_, v_proj_;
  RMSNorm attn_sub_norm_;
  Linear o_proj_;
  AttentionOptions options_;
};

class MLP final : public FeedForward {
 public:
  MLP(const Config& c, const Weights& w)
      : gate_proj_(ternary(w["gate_proj"], c.hidden_size, c.intermediate_size, c.mlp_bias)),
        up_proj_(ternary(w["up_proj"], c.hidden_size, c.intermediate_size, c.mlp_bias)),
        ffn_sub_norm_(w["ffn_sub_norm"], c.intermediate_size, c.rms_norm_eps),
        down_proj_(ternary(w["down_proj"], c.intermediate_size, c.hidden_size, c.mlp_bias)),
        gate_(Activation::relu2) {}

  Array operator()(const Array& x) const override {
    return down_proj_(ffn_sub_norm_(gate_(gate_proj_(x), up_proj_(x))));
  }

 private:
  Linear gate_proj_, up_proj_;
  RMSNorm ffn_sub_norm_;
  Linear down_proj_;
  Gate gate_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int) const {
  return std::make_unique<Attention>(*this, w["self_attn"]);
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& w, int) const {
  return std::make_unique<MLP>(*this, w["mlp"]);
}

using BitNet = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(BitNet, "bitnet");

}  // namespace mlxk
