// Qwen3.5: hybrid of attention and gated delta nets, dense or with a mixture of experts. Reference: mlx-lm,
// models/qwen3_5.py and models/qwen3_5_moe.py. Against Qwen3-Next: the projections of a delta net are apart; every
// feed-forward is a mixture or none is; checkpoints are of a multimodal model, whose text model this is.

#include "experts.h"
#include "qwen_next.h"

namespace mlxk {
namespace {

struct Config : QwenNextConfig {
  int num_experts, num_experts_per_tok, moe_intermediate_size, shared_expert_intermediate_size;
  bool norm_topk_prob;

  explicit Config(const ConfigReader& c)
      : Config(c.maybe("text_config").value_or(c), c.flag("tie_word_embeddings", false)) {}

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["mlp"];
    if (num_experts == 0) return std::make_unique<GatedMLP>(w, hidden_size, intermediate_size);
    split_fused_experts(w, {hidden_size, moe_intermediate_size, num_experts}, false);
    return shared_expert_moe(w, {hidden_size, moe_intermediate_size, num_experts}, num_experts_per_tok, norm_topk_prob,
                             shared_expert_intermediate_size);
  }

 private:
  Config(const ConfigReader& c, bool tied)
      : QwenNextConfig(c, DecoderConfig(c.or_else({{"num_key_value_heads", 8}}),
                                        {.tied = tied, .intermediate_size = nullptr, .default_norm_eps = 1e-6f})),
        num_experts(c.count_or_zero("num_experts", 0)),
        num_experts_per_tok(num_experts > 0 ? c.count("num_experts_per_tok") : 0),
        moe_intermediate_size(num_experts > 0 ? c.dim("moe_intermediate_size") : 0),
        shared_expert_intermediate_size(num_experts > 0 ? c.dim("shared_expert_intermediate_size") : 0),
        norm_topk_prob(c.flag("norm_topk_prob", true)) {
    if (num_experts > 0) {
      require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_experts);
    } else {
      intermediate_size = c.dim("intermediate_size");
    }
    const ConfigReader rotation = c.maybe("rope_parameters").value_or(c);
    rope = Rope(c, rotary_dims(rotation, head_dim, "partial_rotary_factor", 0.25f), 100000.0f);
  }
};

// Whether the filters of the delta nets lie as PyTorch has them.
bool is_original(const Config& c, const Weights& w) {
  if (c.linear.kernel == 1) return false;
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    const Weights conv = w[c.names.layers][i]["linear_attn.conv1d"];
    if (conv.has("weight") && conv.peek("weight").shape().back() != 1) return true;
  }
  return false;
}

// The original checkpoints hold the norms less one.
Config prepared(Config c, const Weights& w) {
  if (is_original(c, w)) c.norm_offset = 1;
  return c;
}

// The language model, whichever prefix a checkpoint gives it; layers that predict ahead are discarded.
Weights text_model(const Weights& w) {
  const Weights tower = language_tower(w);
  w["mtp"].discard();
  tower["mtp"].discard();
  tower["model.mtp"].discard();
  return tower;
}

class Qwen35 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  Qwen35(const ConfigReader& reader, const Weights& w) : Qwen35(Config(reader), text_model(w)) {}

 private:
  Qwen35(const Config& c, const Weights& w) : Decoder(prepared(c, w), w) {}
};

}  // namespace

MLXK_MODEL(Qwen35, "qwen3_5", "qwen3_5_moe");

}  // namespace mlxk
