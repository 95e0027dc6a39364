// OpenELM: dense decoder. Reference: mlx-lm, models/openelm.py.
// Against Qwen3: every layer has its own number of heads and width of feed-forward; q, k and v are one matrix, and so
// are gate and up.

#include <algorithm>
#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool normalize_qk_projections;
  std::vector<int> num_query_heads, num_kv_heads, widths;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.hidden_size = "model_dim",
                          .num_hidden_layers = "num_transformer_layers",
                          .intermediate_size = nullptr,
                          .num_attention_heads = nullptr,
                          .default_norm_eps = 1e-6f}),
        normalize_qk_projections(c.flag("normalize_qk_projections", true)) {
    head_dim = c.dim("head_dim");
    num_query_heads = c.ints("num_query_heads", 1, kMostHeads);
    num_kv_heads = c.ints("num_kv_heads", 1, kMostHeads);
    widths = read_widths(c);
    for (const auto& [field, list] : {std::pair{"num_query_heads", &num_query_heads},
                                      {"num_kv_heads", &num_kv_heads},
                                      {"ffn_multipliers", &widths}}) {
      c.require(list->size() == static_cast<size_t>(num_hidden_layers), field,
                "must have one entry for each of num_transformer_layers");
    }
    for (size_t i = 0; i < num_query_heads.size(); ++i) {
      c.require(num_query_heads[i] % num_kv_heads[i] == 0, "num_kv_heads", "must divide num_query_heads");
    }
    num_attention_heads = *std::ranges::max_element(num_query_heads);
    tie_word_embeddings = c.flag("share_input_output_layers", true);
    names = {.embed_tokens = "transformer.token_embeddings",
             .layers = "transformer.layers",
             .norm = "transformer.norm",
             .mixer_norm = "attn_norm",
             .feed_forward_norm = "ffn_norm"};
    const float theta = c.positive("rope_freq_constant", 10000.0f);
    c.require(head_dim % 2 == 0, "head_dim", "must be even to be rotated");
    c.require(theta > 1, "rope_freq_constant", "must be above 1");
    rope = Rope(head_dim, theta);
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["attn"];
    auto shape = AttentionShape::of(*this);
    shape.heads = num_query_heads[static_cast<size_t>(index)];
    shape.kv_heads = num_kv_heads[static_cast<size_t>(index)];
    shape.qk_norm = normalize_qk_projections ? QKNorm::per_head : QKNorm::none;
    shape.o_proj = "out_proj";
    const int keys = heads_width(shape.kv_heads, head_dim);
    w.split("qkv_proj", {{"q_proj", heads_width(shape.heads, head_dim)}, {"k_proj", keys}, {"v_proj", keys}});
    return std::make_unique<SelfAttention>(w, shape, rope);
  }
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const {
    const Weights w = layer["ffn"];
    w.rename("proj_1", "gate_up_proj");
    w.rename("proj_2", "down_proj");
    return std::make_unique<FusedGatedMLP>(w, hidden_size, widths[static_cast<size_t>(index)]);
  }

 private:
  static constexpr int kMostHeads = 65536;

  // Each multiple of model_dim rounded to one of ffn_dim_divisor, never by more than a tenth downwards.
  std::vector<int> read_widths(const ConfigReader& c) const {
    constexpr double kMost = 1 << 24;
    const int divisor = c.dim("ffn_dim_divisor");
    std::vector<int> out;
    for (const float multiplier : c.floats("ffn_multipliers")) {
      const double wanted = static_cast<double>(multiplier) * hidden_size;
      c.require(wanted >= 1 && wanted <= kMost, "ffn_multipliers", "must leave from 1 to 16777216 units");
      const int rounded = std::max(divisor, static_cast<int>(wanted + divisor / 2.0) / divisor * divisor);
      out.push_back(rounded < 0.9 * wanted ? rounded + divisor : rounded);
    }
    return out;
  }
};

using OpenElm = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(OpenElm, "openelm");

}  // namespace mlxk
