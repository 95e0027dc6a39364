// Hunyuan-Large and Hunyuan-A13B: mixture of experts. Reference: mlx-lm, models/hunyuan.py.
// Against Hunyuan dense: every feed-forward is a mixture; layers may take the keys and values of an earlier one, before
// they are rotated (cross-layer attention).

#include <cmath>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

// One number for all layers, or a list of one each.
std::vector<int> by_layer(const ConfigReader& c, const char* field, int layers, int fallback, int min, int max) {
  const auto count = static_cast<size_t>(layers);
  const Json* value = c.find(field);
  if (!value || !value->is_array()) return std::vector<int>(count, c.integer(field, fallback, min, max));
  const auto list = c.ints(field, min, max);
  c.require(list.size() >= count, field, "must have one entry for each of num_hidden_layers");
  return list;
}

struct Config : DecoderConfig {
  bool attention_bias, use_qk_norm, use_mixed_mlp_moe;
  int num_experts, share;  // layers that share one layer's keys and values
  std::vector<int> moe_topk, num_shared_expert, moe_intermediate_size;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, true),
        attention_bias(c.flag("attention_bias", false)),
        use_qk_norm(c.flag("use_qk_norm", false)),
        use_mixed_mlp_moe(c.flag("use_mixed_mlp_moe", false)),
        num_experts(c.count("num_experts", 1)),
        share(c.flag("use_cla", false) ? c.count("cla_share_factor", 2) : 1),
        moe_topk(by_layer(c, "moe_topk", num_hidden_layers, 1, 1, num_experts)),
        num_shared_expert(by_layer(c, "num_shared_expert", num_hidden_layers, 0, 0, 65'536)),
        moe_intermediate_size(by_layer(c, "moe_intermediate_size", num_hidden_layers, intermediate_size, 1, 1 << 20)) {
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    tie_word_embeddings = true;
    rope = Rope::ntk_alpha(c, head_dim, 10000.0f);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["mlp"];
    const auto at = static_cast<size_t>(index);
    if (num_experts == 1) {
      // Original checkpoints hold both in one matrix, up first.
      w.split("gate_and_up_proj", {{"up_proj", intermediate_size}, {"gate_proj", intermediate_size}});
      return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    }
    stack_experts(w, num_experts);
    const int shared = use_mixed_mlp_moe ? num_shared_expert[at] : 0;
    return std::make_unique<SparseMoE>(
        std::make_unique<SoftmaxRouter>(w["gate"]["wg"], hidden_size, num_experts, moe_topk[at], false),
        GatedExperts(w["switch_mlp"], {hidden_size, moe_intermediate_size[at], num_experts}),
        shared_experts(w["shared_mlp"], shared, {hidden_size, intermediate_size}));
  }
};

// Tensors: q_proj, o_proj; k_proj and v_proj where the layer has keys and values of its own; query_layernorm and
// key_layernorm with use_qk_norm.
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w, int layer)
      : config_(c),
        q_proj_(w["q_proj"], c.hidden_size, c.hidden_size, c.attention_bias),
        o_proj_(w["o_proj"], c.hidden_size, c.hidden_size, c.attention_bias) {
    const int width = c.num_key_value_heads * c.head_dim;
    if (layer % c.share == 0) {
      k_proj_.emplace(w["k_proj"], c.hidden_size, width, c.attention_bias);
      v_proj_.emplace(w["v_proj"], c.hidden_size, width, c.attention_bias);
    }
    if (c.use_qk_norm) {
      query_layernorm_.emplace(w["query_layernorm"], c.head_dim, c.rms_norm_eps);
      key_layernorm_.emplace(w["key_layernorm"], c.head_dim, c.rms_norm_eps);
    }
  }

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const int batch = x.dim(0), length = x.dim(1);
    const auto heads = [&](const Array& a, int count) {
      return mx::swapaxes(mx::reshape(a, {batch, length, count, -1}), 1, 2);
    };
    std::vector<Array>& handed = cache.batch.handed();
    if (k_proj_) handed = {(*k_proj_)(x), (*v_proj_)(x)};
    Array q = config_.rope(heads(q_proj_(x), config_.num_attention_heads), cache);
    Array k = config_.rope(heads(handed[0], config_.num_key_value_heads), cache);
    if (query_layernorm_) {
      q = (*query_layernorm_)(q);
      k = (*key_layernorm_)(k);
    }
    const Array v = heads(handed[1], config_.num_key_value_heads);
    const float scale = 1 / std::sqrt(static_cast<float>(config_.head_dim));
    const Array out = attention(q, k, v, cache, {.scale = scale});
    return o_proj_(mx::reshape(mx::swapaxes(out, 1, 2), {batch, length, -1}));
  }

 private:
  Config config_;
  Linear q_proj_, o_proj_;
  std::optional<Linear> k_proj_, v_proj_;
  std::optional<RMSNorm> query_layernorm_, key_layernorm_;
};

// Original checkpoints hold the three projections in one matrix, a key head with its queries after the other.
void split_qkv(const Config& c, const Weights& w) {
  const Weights all = w["qkv_proj"];
  const int queries = c.num_attention_heads / c.num_key_value_heads;
  const int rows = (c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim;
  if (!all.has("weight") || all.peek("weight").shape() != mx::Shape{rows, c.hidden_size}) return;
  const Array grouped =
      mx::reshape(all.peek("weight"), {c.num_key_value_heads, queries + 2, c.head_dim, c.hidden_size});
  const int at[] = {queries, queries + 1};
  const auto parts = mx::split_at(grouped, at, 1);
  const char* names[] = {"q_proj", "k_proj", "v_proj"};
  for (size_t i = 0; i < parts.size(); ++i) {
    w[names[i]].put("weight", mx::contiguous(mx::reshape(parts[i], {-1, c.hidden_size})));
  }
  all.drop("weight");
}

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int index) const {
  const Weights w = layer["self_attn"];
  split_qkv(*this, w);
  return std::make_unique<Attention>(*this, w, index);
}

using Hunyuan = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Hunyuan, "hunyuan");

}  // namespace mlxk
