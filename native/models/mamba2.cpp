// Mamba-2: nothing but recurrences. Reference: mlx-lm, models/mamba2.py.
// Against Llama: a block is one norm and one mixer, Mamba-2's; no feed-forward.

#include <limits>

#include "decoder.h"
#include "mamba.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  Mamba2Shape mamba;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.intermediate_size = nullptr,
                          .num_attention_heads = nullptr,
                          .norm_eps = "layer_norm_epsilon",
                          .default_norm_eps = 1e-5f}),
        mamba{.hidden_size = hidden_size,
              .heads = c.count("num_heads"),
              .head_dim = c.dim("head_dim"),
              .groups = c.count("n_groups"),
              .state_size = c.dim(c.has("ssm_state_size") ? "ssm_state_size" : "state_size"),
              .kernel = c.integer("conv_kernel", 4, 1, 1024),
              .conv_bias = c.flag("use_conv_bias", true),
              .bias = c.flag("use_bias", false),
              .out_bias = c.flag("use_bias", false),
              .limit = TimeStepLimit::read(c, {0, std::numeric_limits<float>::infinity()}),
              .norm_eps = rms_norm_eps} {
    mamba.check(c, {"num_heads", "head_dim", "n_groups", "state_size"});
    names = {.embed_tokens = "backbone.embeddings", .layers = "backbone.layers", .norm = "backbone.norm_f"};
  }

  std::unique_ptr<LayerState> new_state(int) const { return std::make_unique<RecurrentState>(Mamba2Mixer::kSlots); }
  std::unique_ptr<Mixer> mixer(const Weights& w, int) const { return std::make_unique<Mamba2Mixer>(w, mamba); }
};

using Mamba2 = Decoder<Config, MixerBlock<Config>>;

}  // namespace

MLXK_MODEL(Mamba2, "mamba2");

}  // namespace mlxk
