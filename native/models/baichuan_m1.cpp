// Baichuan M1: dense decoder. Reference: mlx-lm, models/baichuan_m1.py.
// Against Llama: keys and values pass a convolution over two positions, a filter of its own for every head; layers that
// slide may have other numbers of heads; the rows of the head are normalized.

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "decoder.h"
#include "recurrence.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_swa_attention_heads, num_swa_key_value_heads;
  float rope_theta;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        num_swa_attention_heads(c.count("num_swa_attention_heads", num_attention_heads)),
        num_swa_key_value_heads(c.count("num_swa_key_value_heads", num_key_value_heads)),
        rope_theta(c.positive("rope_theta")) {
    split_heads(c);
    c.require(hidden_size % num_swa_attention_heads == 0, "num_swa_attention_heads", "must divide hidden_size");
    c.require(num_swa_attention_heads % num_swa_key_value_heads == 0, "num_swa_key_value_heads",
              "must divide num_swa_attention_heads");
    c.require(c.integer("conv_window", 2, 1, 1024) == 2, "conv_window", "must be 2");
    windows.assign(static_cast<size_t>(num_hidden_layers), 0);
    if (c.has("sliding_window_layers")) {
      for (const int layer : c.ints("sliding_window_layers", 0, num_hidden_layers - 1)) {
        windows[static_cast<size_t>(layer)] = c.dim("sliding_window");
      }
    }
    c.require(rope_theta > 1, "rope_theta", "must be above 1");
    for (const int heads : {num_attention_heads, num_swa_attention_heads}) {
      c.require(hidden_size / heads % 2 == 0, "num_attention_heads", "must leave heads of even width, to be rotated");
    }
  }

  // Of layer i: 2 i for the last key and value before the convolution, 2 i + 1 for all after it.
  static constexpr int kStatesPerLayer = 2;
  std::unique_ptr<LayerState> new_state(int index) const {
    if (index % 2 == 0) return std::make_unique<RecurrentState>(2);
    return std::make_unique<KVCache>(window(index / 2));
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

// Tensors: W_pack (q, k and v one below the other), o_proj, conv_k and conv_v [1, 1, H, 1, 2].
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w, int layer)
      : heads_(c.window(layer) > 0 ? c.num_swa_attention_heads : c.num_attention_heads),
        kv_heads_(c.window(layer) > 0 ? c.num_swa_key_value_heads : c.num_key_value_heads),
        head_dim_(c.hidden_size / heads_),
        rope_(head_dim_, c.rope_theta),
        w_pack_(w["W_pack"], c.hidden_size, c.hidden_size + 2 * kv_heads_ * head_dim_),
        o_proj_(w["o_proj"], c.hidden_size, c.hidden_size),
        conv_k_(w.take("conv_k", {1, 1, kv_heads_, 1, 2})),
        conv_v_(w.take("conv_v", {1, 1, kv_heads_, 1, 2})),
        options_{.scale = 1 / std::sqrt(static_cast<float>(head_dim_)), .window = c.window(layer)} {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1), width = x.dim(2), keys = kv_heads_ * head_dim_;
    const auto parts = mx::split_at(w_pack_(x), std::vector<int>{width, width + keys}, -1);
    const auto heads = [&](const Array& part, int count) {
      return mx::swapaxes(mx::reshape(part, {batch, length, count, head_dim_}), 1, 2);
    };
    const Array q = rope_(heads(parts[0], heads_), cache);
    const Array k = rope_(convolved(heads(parts[1], kv_heads_), conv_k_, cache, 0), cache);
    const Array v = convolved(heads(parts[2], kv_heads_), conv_v_, cache, 1);
    const Array attended = attention(q, k, v, {cache.batch, cache.layer + 1}, options_);
    return o_proj_(mx::reshape(mx::swapaxes(attended, 1, 2), {batch, length, width}));
  }

 private:
  // u [B, H, L, D]: each position and the one before it, by the filter's two taps.
  Array convolved(const Array& u, const Array& filter, const LayerCache& cache, int slot) const {
    const int length = u.dim(2);
    const Array last = recall(cache, slot, {kv_heads_, 1, head_dim_}, u.dtype());
    const Array before = length > 1 ? mx::concatenate({last, mx::slice(u, 2, 0, length - 1)}, 2) : last;
    remember(cache, slot, mx::slice(u, 2, length - 1, length));
    const auto taps = mx::split(mx::reshape(filter, {kv_heads_, 1, 2}), 2, -1);  // [H, 1, 1] each
    return before * taps[0] + u * taps[1];
  }

  int heads_, kv_heads_, head_dim_;
  Rope rope_;
  Linear w_pack_, o_proj_;
  Array conv_k_, conv_v_;
  AttentionOptions options_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  return std::make_unique<Attention>(*this, w["self_attn"], layer);
}

// The lengths of the rows of the head [vocabulary], float32; nothing where they are one, as in what mlx-lm has
// quantized. The head stays there for its layer to take.
Array row_lengths(const Config& c, const Weights& head) {
  if (c.tie_word_embeddings || !head.has("weight")) return {};
  const mx::Shape dense_shape{c.vocab_size, c.hidden_size};
  if (!head.has("scales") && head.peek("weight").shape() != dense_shape) return {};  // which its layer refuses
  if (head.has("scales") && (head.peek("scales").ndim() < 2 || c.hidden_size > 128 * head.peek("scales").dim(-1)))
    return {};
  std::vector<std::pair<const char*, Array>> kept;
  for (const char* leaf : {"weight", "scales", "biases"}) {
    if (head.has(leaf)) kept.emplace_back(leaf, head.peek(leaf));
  }
  const Array dense = mx::astype(Matrix(head, c.vocab_size, c.hidden_size).dense(), mx::Type::f32);
  for (const auto& [leaf, tensor] : kept) head.put(leaf, tensor);
  const Array lengths = mx::sqrt(mx::sum(mx::square(dense), -1, false)) + 1e-7f;
  const Array off = mx::mean(mx::abs(lengths + -1.0f), -1, false);
  mx::eval({lengths, off});  // frees the dense matrix
  constexpr float kOfRounding = 0.05f;
  return off.f32()[0] < kOfRounding ? Array() : lengths;
}

// The rows of the head count with length one.
class BaichuanM1 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  BaichuanM1(const ConfigReader& reader, const Weights& w) : BaichuanM1(Config(reader), w) {}

  Array logits(const Array& hidden) const override {
    const Array scores = Decoder::logits(hidden);
    return lengths_ ? mx::astype(mx::astype(scores, mx::Type::f32) / lengths_, scores.dtype()) : scores;
  }

 private:
  BaichuanM1(const Config& c, const Weights& w) : BaichuanM1(c, w, row_lengths(c, w["lm_head"])) {}
  BaichuanM1(const Config& c, const Weights& w, const Array& lengths) : Decoder(c, w), lengths_(lengths) {}

  Array lengths_;
};

}  // namespace

MLXK_MODEL(BaichuanM1, "baichuan_m1");

}  // namespace mlxk
