// DBRX: mixture of experts. Reference: mlx-lm, models/dbrx.py.
// Against Llama: LayerNorm; one matrix for queries, keys and values, whose outputs are clipped; every feed-forward is a
// mixture, whose original checkpoints hold all experts one below the other.

#include <cmath>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  float clip_qkv;
  int ffn_hidden_size, moe_num_experts, moe_top_k;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.hidden_size = "d_model",
                            .num_hidden_layers = "n_layers",
                            .intermediate_size = nullptr,
                            .num_attention_heads = "n_heads",
                            .norm_eps = "layer_norm_epsilon",
                            .default_norm_eps = 1e-5f}) {
    const ConfigReader attention = c.child("attn_config"), ffn = c.child("ffn_config");
    c.require(hidden_size % num_attention_heads == 0, "n_heads", "must divide d_model");
    head_dim = hidden_size / num_attention_heads;
    num_key_value_heads = attention.count("kv_n_heads");
    attention.require(num_attention_heads % num_key_value_heads == 0, "kv_n_heads", "must divide n_heads");
    clip_qkv = attention.positive("clip_qkv");
    ffn_hidden_size = ffn.dim("ffn_hidden_size");
    moe_num_experts = ffn.count("moe_num_experts");
    moe_top_k = ffn.count("moe_top_k");
    require_top_k(ffn, moe_top_k, "moe_top_k", moe_num_experts);
    tie_word_embeddings = false;
    norm_bias = false;
    rope = Rope(attention, head_dim, 10000.0f);
    names = {.embed_tokens = "transformer.wte",
             .layers = "transformer.blocks",
             .norm = "transformer.norm_f",
             .mixer_norm = "norm_attn_norm.norm_1",
             .feed_forward_norm = "norm_attn_norm.norm_2"};
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const;
};

// Tensors: Wqkv, out_proj.
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w)
      : config_(c),
        qkv_(w["Wqkv"], c.hidden_size, heads_width(c.num_attention_heads + 2 * c.num_key_value_heads, c.head_dim)),
        out_proj_(w["out_proj"], c.hidden_size, c.hidden_size) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1), queries = config_.hidden_size;
    const int at[] = {queries, queries + config_.num_key_value_heads * config_.head_dim};
    const auto parts = mx::split_at(mx::clip(qkv_(x), -config_.clip_qkv, config_.clip_qkv), at, -1);
    const auto heads = [&](const Array& a) {
      return mx::swapaxes(mx::reshape(a, {batch, length, -1, config_.head_dim}), 1, 2);
    };
    const Array q = config_.rope(heads(parts[0]), cache), k = config_.rope(heads(parts[1]), cache);
    const float scale = 1 / std::sqrt(static_cast<float>(config_.head_dim));
    const Array out = attention(q, k, heads(parts[2]), cache, {.scale = scale});
    return out_proj_(mx::reshape(mx::swapaxes(out, 1, 2), {batch, length, -1}));
  }

 private:
  Config config_;
  Linear qkv_, out_proj_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int) const {
  return std::make_unique<Attention>(*this, w["norm_attn_norm"]["attn"]);
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int) const {
  const Weights w = layer["ffn"];
  const struct {
    const char *name, *to;
  } projections[] = {{"w1", "gate_proj"}, {"v1", "up_proj"}, {"w2", "down_proj"}};
  for (const auto& [name, to] : projections) {
    const std::string original = std::string("experts.mlp.") + name, target = std::string("switch_mlp.") + to;
    if (w.has(original)) {  // [experts * ffn_hidden_size, d_model], the last projection transposed
      const Array& rows = w.peek(original);
      if (rows.shape() ==
          mx::Shape{heads_width(moe_num_experts, ffn_hidden_size, "moe_num_experts * ffn_hidden_size"), hidden_size}) {
        const Array stacked = mx::reshape(rows, {moe_num_experts, ffn_hidden_size, hidden_size});
        const bool last = target.ends_with("down_proj");
        w.put(target + ".weight", last ? mx::contiguous(mx::swapaxes(stacked, 1, 2)) : stacked);
        w.drop(original);
      }
    }
    w.stack("experts", moe_num_experts, name, target);
  }
  return std::make_unique<SparseMoE>(
      std::make_unique<SoftmaxRouter>(w["router"]["layer"], hidden_size, moe_num_experts, moe_top_k, true),
      GatedExperts(w["switch_mlp"], {hidden_size, ffn_hidden_size, moe_num_experts}));
}

using Dbrx = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Dbrx, "dbrx");

}  // namespace mlxk
