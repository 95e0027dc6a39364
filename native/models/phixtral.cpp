// Phixtral: mixture of experts. Reference: mlx-lm, models/phixtral.py.
// Against Phi-2: every feed-forward is a mixture of plain ones; one matrix for queries, keys and values; other names
// throughout.

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct Config : LayerNormConfig {
  int num_local_experts, num_experts_per_tok;

  explicit Config(const ConfigReader& c)
      : LayerNormConfig(c, {.hidden_size = "model_dim",
                            .num_hidden_layers = "num_layers",
                            .intermediate_size = nullptr,
                            .num_attention_heads = "num_heads",
                            .default_norm_eps = 1e-5f,
                            .vocab_size = "num_vocab"}),
        num_local_experts(c.count("num_local_experts", 4)),
        num_experts_per_tok(c.count("num_experts_per_tok", 2)) {
    require_top_k(c, num_experts_per_tok, "num_experts_per_tok", num_local_experts);
    c.require(hidden_size % num_attention_heads == 0, "num_heads", "must divide model_dim");
    head_dim = hidden_size / num_attention_heads;
    num_key_value_heads = num_attention_heads;
    intermediate_size = 4 * hidden_size;
    rms_norm_eps = 1e-5f;
    tie_word_embeddings = false;
    lm_head_bias = true;
    const int rotary_dim = c.integer("rotary_dim", 32, 1, head_dim);
    c.require(rotary_dim % 2 == 0, "rotary_dim", "must be even");
    rope = Rope(rotary_dim, 10000.0f);
    names = {.embed_tokens = "transformer.embd.wte",
             .layers = "transformer.h",
             .norm = "lm_head.ln",
             .lm_head = "lm_head.linear",
             .mixer_norm = "ln"};
  }

  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const {
    const Weights w = layer["mixer"];
    w.split("Wqkv", {{"q_proj", hidden_size}, {"k_proj", hidden_size}, {"v_proj", hidden_size}});
    auto shape = AttentionShape::of(*this, index);
    shape.qkv_bias = shape.o_bias = true;
    shape.o_proj = "out_proj";
    return std::make_unique<SelfAttention>(w, shape, rope);
  }

  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int) const {
    const Weights w = layer["moe"];
    w.stack("mlp", num_local_experts, "fc1", "switch_mlp.fc1");
    w.stack("mlp", num_local_experts, "fc2", "switch_mlp.fc2");
    const ExpertsShape shape{hidden_size, intermediate_size, num_local_experts, true};
    return std::make_unique<SparseMoE>(
        std::make_unique<TopKRouter>(w["gate"], hidden_size, num_local_experts, num_experts_per_tok),
        std::make_unique<PlainExperts>(w["switch_mlp"], shape, Activation::gelu_tanh));
  }
};

using Phixtral = Decoder<Config, ParallelBlock<Config>>;

}  // namespace

MLXK_MODEL(Phixtral, "phixtral", "phi-msft");

}  // namespace mlxk
