// PLaMo 3: dense decoder. Reference: mlx-lm, models/plamo3.py.
// Against PLaMo 2: every layer attends, all but every few through a window and with a rotation of their own.

#include "plamo.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  int window_size, sliding_window_pattern;
  Rope local;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c.or_else({{"num_key_value_heads", 4}, {"head_dim", 128}}),
                      {.tied = true, .default_norm_eps = 1e-6f}),
        window_size(c.dim(c.has("sliding_window") ? "sliding_window" : "window_size", 2048)),
        sliding_window_pattern(c.count("sliding_window_pattern", 8)) {
    c.require(head_dim % 2 == 0, "head_dim", "must be even to be rotated");
    norm_offset = 1;
    rope = Rope(head_dim, c.positive("rope_theta", 1000000.0f));
    local = Rope(head_dim, c.positive("rope_local_theta", 10000.0f));
    names.layers = "model.layers.layers";
  }

  bool slides(int layer) const { return (layer + 1) % sliding_window_pattern != 0; }
  // A position sees the window before it, and itself.
  int window(int layer) const { return slides(layer) ? window_size + 1 : 0; }

  std::unique_ptr<LayerState> new_state(int layer) const { return std::make_unique<KVCache>(window(layer)); }

  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const {
    split_qkv(*this, w);
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    return std::make_unique<SelfAttention>(w, shape, slides(layer) ? local : rope);
  }
};

using Plamo3 = Decoder<Config, PlamoBlock<Config>>;

}  // namespace

MLXK_MODEL(Plamo3, "plamo3");

}  // namespace mlxk
