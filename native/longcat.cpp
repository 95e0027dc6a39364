// See longcat.h.

#include "longcat.h"

#include <cmath>
#include <string>

namespace mlxk {
namespace {

// Softmax scores over the experts and over those that return what they are given, which count from `experts` on.
class Mixture final : public FeedForward {
 public:
  Mixture(const LongcatConfig& c, const Weights& w)
      : experts_count_(c.n_routed_experts),
        classifier_(w["router"]["classifier"], c.hidden_size, c.n_routed_experts + c.zero_expert_num, c.router_bias),
        correction_(mx::astype(w["router"].take("e_score_correction_bias", {c.n_routed_experts + c.zero_expert_num}),
                               mx::Type::f32)),
        routing_{.k = c.moe_topk,
                 .normalize = c.norm_topk_prob,
                 .normalize_one = true,
                 .scale = c.routed_scaling_factor,
                 .epsilon = 1e-20f,
                 .softmax = true},
        experts_(w["switch_mlp"], {c.hidden_size, c.expert_ffn_hidden_size, c.n_routed_experts}) {}

  Array operator()(const Array& x) const override {
    const auto [indices, wide] = grouped_top_k(mx::astype(classifier_(x), mx::Type::f32), correction_, routing_);
    const Array weights = mx::astype(wide, x.dtype()), none = mx::scalar(0, x.dtype());
    const auto count = static_cast<uint32_t>(experts_count_);
    const Array passes = mx::greater_equal(indices, mx::from_ids({&count, 1}, {1}));
    const uint32_t any = 0;
    const Array routed =
        experts_(x, {mx::where(passes, mx::from_ids({&any, 1}, {1}), indices), mx::where(passes, none, weights)});
    return routed + x * mx::sum(mx::where(passes, weights, none), -1, true);
  }

 private:
  int experts_count_;
  Linear classifier_;
  Array correction_;
  GroupedTopK routing_;
  GatedExperts experts_;
};

}  // namespace

LongcatConfig::LongcatConfig(const ConfigReader& c)
    : DecoderConfig(c, {.num_hidden_layers = "num_layers", .intermediate_size = "ffn_hidden_size"}),
      expert_ffn_hidden_size(c.dim("expert_ffn_hidden_size")),
      n_routed_experts(c.count("n_routed_experts")),
      zero_expert_num(c.count_or_zero("zero_expert_num", 0)),
      moe_topk(c.count("moe_topk")),
      norm_topk_prob(c.flag("norm_topk_prob", false)),
      router_bias(c.flag("router_bias", false)),
      routed_scaling_factor(c.positive("routed_scaling_factor", 1.0f)),
      latent(LatentShape::read(c, hidden_size, num_attention_heads)) {
  require_top_k(c, moe_topk, "moe_topk", n_routed_experts + zero_expert_num);
  const std::string zero = c.text("zero_expert_type", "identity");
  c.require(zero == "identity", "zero_expert_type", "must be identity, got " + quoted(zero));
  tie_word_embeddings = false;
  latent.norm_eps = 1e-5f;
  const auto scale = [&](int rank) { return std::sqrt(static_cast<float>(hidden_size) / static_cast<float>(rank)); };
  if (c.flag("mla_scale_q_lora", false)) {
    c.require(latent.q_lora_rank > 0, "q_lora_rank", "must be given with mla_scale_q_lora");
    latent.q_lora_scale = scale(latent.q_lora_rank);
  }
  if (c.flag("mla_scale_kv_lora", false)) latent.kv_lora_scale = scale(latent.kv_lora_rank);
  rope = Rope(c, latent.qk_rope_head_dim, 10000.0f, true);
}

LongcatBlock::Half LongcatBlock::half(const LongcatConfig& c, const Weights& w, int index) const {
  return {c.norm(w["input_layernorm"][index]),
          std::make_unique<LatentAttention>(w["self_attn"][index], c.latent, c.rope),
          c.norm(w["post_attention_layernorm"][index]),
          std::make_unique<GatedMLP>(w["mlps"][index], c.hidden_size, c.intermediate_size)};
}

LongcatBlock::LongcatBlock(const LongcatConfig& c, const Weights& w, int)
    : first_(half(c, w, 0)), second_(half(c, w, 1)) {
  stack_experts(w["mlp"], c.n_routed_experts);
  mixture_ = std::make_unique<Mixture>(c, w["mlp"]);
}

Array LongcatBlock::operator()(const Array& x, const LayerCache& cache) const {
  Array h = x + (*first_.self_attn)(first_.input_layernorm(x), cache);
  Array inner = first_.post_attention_layernorm(h);
  const Array short_cut = (*mixture_)(inner);
  h = h + (*first_.mlp)(inner);
  h = h + (*second_.self_attn)(second_.input_layernorm(h), LayerCache{cache.batch, cache.layer + 1});
  inner = second_.post_attention_layernorm(h);
  return h + (*second_.mlp)(inner) + short_cut;
}

}  // namespace mlxk
