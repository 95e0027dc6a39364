// gpt-oss: mixture of experts. Reference: mlx-lm, models/gpt_oss.py.
// Against Llama: a sink joins every head's softmax; every other layer slides; the experts have biases and a gate of
// their own, and come interleaved in the original checkpoints.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int num_local_experts, num_experts_per_tok;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 8}, {"head_dim", 64}}),
                      DecoderFields{.default_norm_eps = 1e-5f}),
        num_local_experts(c.count("num_local_experts", 128)),
        num_experts_per_tok(c.count("num_experts_per_tok", 4)) {
    tie_word_embeddings = false;
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    rope = Rope(c, head_dim, 150000.0f);
    windows = layer_windows(c, num_hidden_layers, [](int layer) { return layer % 2 == 0; }, 128);
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qkv_bias = shape.o_bias = true;
    shape.sinks = true;
    return shape;
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const;
};

// (clip(up) + 1) * gate * sigmoid(1.702 gate), the gate held below 7 and up within it.
Array gate_function(const Array& gate, const Array& up) {
  if (Array y = mx::fused_clipped_silu(gate, up)) return y;
  constexpr float kAlpha = 1.702f, kLimit = 7.0f;
  const Array held = mx::minimum(gate, mx::scalar(kLimit, gate.dtype()));
  return (mx::clip(up, -kLimit, kLimit) + 1.0f) * (held * mx::sigmoid(held * kAlpha));
}

// The layout of the original checkpoints: gate and up row by row in one tensor, MXFP4 as blocks of bytes.
void split_original(const Weights& w, int intermediate_size) {
  const auto packed = [](const Array& blocks) {  // uint8 [.., groups, 16] to uint32 [.., groups * 4]
    mx::Shape shape = blocks.shape();
    shape.pop_back();
    shape.back() = -1;
    return mx::reshape(mx::view(blocks, mx::Type::u32), shape);
  };
  for (const char* name : {"gate_up_proj", "down_proj"}) {
    const std::string base = name;
    if (w.has(base + "_blocks")) {
      w[base].put("weight", packed(w.peek(base + "_blocks")));
      w[base + "_blocks"].discard();
    }
    w.rename(base + "_scales", base + ".scales");
    w.rename(base + "_bias", base + ".bias");
    if (w.has(base)) {  // dense, [experts, in, out]
      w[base].put("weight", mx::contiguous(mx::swapaxes(w.peek(base), -1, -2)));
      w.drop(base);
    }
  }
  const Weights both = w["gate_up_proj"];
  for (const char* leaf : {"weight", "scales", "bias"}) {
    if (!both.has(leaf)) continue;
    const Array rows = both.peek(leaf);
    const int axis = 1;
    if (rows.ndim() <= axis || rows.dim(axis) != 2 * intermediate_size) continue;  // named by `finish`
    mx::Shape pairs = rows.shape();
    pairs[axis] = intermediate_size;
    pairs.insert(pairs.begin() + axis + 1, 2);
    const auto parts = mx::split(mx::reshape(rows, pairs), 2, axis + 1);
    mx::Shape half = rows.shape();
    half[axis] = intermediate_size;
    w["gate_proj"].put(leaf, mx::reshape(parts[0], half));
    w["up_proj"].put(leaf, mx::reshape(parts[1], half));
    both.drop(leaf);
  }
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int) const {
  const Weights w = layer["mlp"];
  split_original(w["experts"], intermediate_size);
  return std::make_unique<SparseMoE>(
      std::make_unique<TopKRouter>(w["router"], hidden_size, num_local_experts, num_experts_per_tok, true),
      GatedExperts(w["experts"], {hidden_size, intermediate_size, num_local_experts, true}, Gate(gate_function)));
}

using GptOss = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(GptOss, "gpt_oss");

}  // namespace mlxk
