// LFM2: hybrid of attention and short convolutions. Reference: mlx-lm, models/lfm2.py.
// Against Llama: most layers mix positions by a gated convolution; q and k are normalized per head.

#include <algorithm>

#include "decoder.h"
#include "recurrence.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int conv_L_cache;
  bool conv_bias;
  std::vector<int> full_attn_idxs;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true, .intermediate_size = nullptr, .norm_eps = "norm_eps"}),
        conv_L_cache(c.integer("conv_L_cache", 3, 1, 1024)),
        conv_bias(c.flag("conv_bias", false)) {
    tie_word_embeddings = true;
    c.require(hidden_size % num_attention_heads == 0, "num_attention_heads", "must divide hidden_size");
    head_dim = hidden_size / num_attention_heads;
    names.norm = "model.embedding_norm";
    names.mixer_norm = "operator_norm";
    names.feed_forward_norm = "ffn_norm";
    intermediate_size = feed_forward_size(c);
    rope = Rope(c, head_dim, 1000000.0f);
    if (c.has("full_attn_idxs")) {
      full_attn_idxs = c.ints("full_attn_idxs", 0, num_hidden_layers - 1);
    } else {
      const auto types = c.texts("layer_types");
      c.require(types.size() == static_cast<size_t>(num_hidden_layers), "layer_types",
                "must have one entry for each of num_hidden_layers");
      for (int i = 0; i < num_hidden_layers; ++i) {
        if (types[static_cast<size_t>(i)] == "full_attention") full_attn_idxs.push_back(i);
      }
    }
  }

  bool attends(int layer) const { return std::ranges::find(full_attn_idxs, layer) != full_attn_idxs.end(); }

  std::unique_ptr<LayerState> new_state(int layer) const {
    if (attends(layer)) return std::make_unique<KVCache>();
    return std::make_unique<RecurrentState>(1);
  }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<GatedMLP>(w["feed_forward"], FeedForwardShape{hidden_size, intermediate_size},
                                      GatedMLP::Names{"w1", "w3", "w2"});
  }

 private:
  static int feed_forward_size(const ConfigReader& c) {
    const int stated = c.dim(c.has("block_ff_dim") ? "block_ff_dim" : "intermediate_size");
    if (!c.flag("block_auto_adjust_ff_dim", true)) return stated;
    const float multiplier = c.positive("block_ffn_dim_multiplier", 1.0f);
    const int multiple = c.dim("block_multiple_of", 256);
    const int scaled = static_cast<int>(multiplier * static_cast<float>(2 * stated / 3));
    c.require(scaled > 0, "block_ffn_dim_multiplier", "must leave a feed-forward of at least one unit");
    return multiple * ((scaled + multiple - 1) / multiple);
  }
};

// out(c * conv(b * x)). Tensors: in_proj (b, c and x one below the other), conv, out_proj.
class GatedConvolution final : public Mixer {
 public:
  GatedConvolution(const Config& c, const Weights& w)
      : in_proj_(w["in_proj"], c.hidden_size, 3 * c.hidden_size, c.conv_bias),
        conv_(w["conv"], c.hidden_size, c.conv_L_cache, c.conv_bias),
        out_proj_(w["out_proj"], c.hidden_size, c.hidden_size, c.conv_bias) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const auto parts = mx::split(in_proj_(x), 3, -1);
    return out_proj_(parts[1] * conv_(parts[0] * parts[2], cache, 0));
  }

 private:
  Linear in_proj_;
  ShortConvolution conv_;
  Linear out_proj_;
};

std::unique_ptr<Mixer> Config::mixer(const Weights& w, int layer) const {
  if (!attends(layer)) return std::make_unique<GatedConvolution>(*this, w["conv"]);
  auto shape = AttentionShape::of(*this, layer);
  shape.qk_norm = QKNorm::per_head;
  shape.q_norm = "q_layernorm";
  shape.k_norm = "k_layernorm";
  shape.o_proj = "out_proj";
  return std::make_unique<SelfAttention>(w["self_attn"], shape, rope);
}

using Lfm2 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Lfm2, "lfm2");

}  // namespace mlxk
