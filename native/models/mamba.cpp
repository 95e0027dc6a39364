// Mamba and Falcon-Mamba: nothing but recurrences. Reference: mlx-lm, models/mamba.py.
// Against Mamba-2: every channel has time steps of its own; Falcon normalizes what the recurrence reads.

#include "mamba.h"
#include "decoder.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  MambaShape mamba;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, {.tied = true,
                          .hidden_size = either(c, "hidden_size", {"d_model"}),
                          .num_hidden_layers = either(c, "num_hidden_layers", {"n_layer", "n_layers"}),
                          .intermediate_size = either(c, "intermediate_size", {"d_inner"}),
                          .num_attention_heads = nullptr,
                          .norm_eps = "layer_norm_epsilon",
                          .default_norm_eps = 1e-5f}),
        mamba{.hidden_size = hidden_size,
              .inner = intermediate_size,
              .state_size = c.dim(either(c, "state_size", {"d_state"})),
              .kernel = c.integer(either(c, "conv_kernel", {"d_conv"}), 4, 1, 1024),
              .time_step_rank = read_time_step_rank(c, "time_step_rank", hidden_size),
              .conv_bias = c.flag(either(c, "use_conv_bias", {"conv_bias"}), true),
              .bias = c.flag(either(c, "use_bias", {"bias"}), false),
              .norm_eps = c.positive("mixer_rms_eps", 1e-6f)} {
    const bool normed = c.flag("use_bcdt_rms", false) || c.text("model_type") == "falcon_mamba";
    if (normed) mamba.norm = MambaShape::Norm::plain;
    names = {.embed_tokens = "backbone.embeddings", .layers = "backbone.layers", .norm = "backbone.norm_f"};
  }

  std::unique_ptr<LayerState> new_state(int) const { return std::make_unique<RecurrentState>(MambaMixer::kSlots); }
  std::unique_ptr<Mixer> mixer(const Weights& w, int) const { return std::make_unique<MambaMixer>(w, mamba); }

 private:
  // The first of the names that the config has: Mamba's own repositories spell them otherwise than transformers.
  static const char* either(const ConfigReader& c, const char* usual, std::initializer_list<const char*> others) {
    if (c.has(usual)) return usual;
    for (const char* other : others) {
      if (c.has(other)) return other;
    }
    return usual;
  }
};

using Mamba = Decoder<Config, MixerBlock<Config>>;

}  // namespace

MLXK_MODEL(Mamba, "mamba", "falcon_mamba");

}  // namespace mlxk
