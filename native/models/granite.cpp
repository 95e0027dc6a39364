// Granite: dense decoder. Reference: mlx-lm, models/granite.py.
// Against Llama: the multipliers of granite.h.

#include "granite.h"

namespace mlxk {
namespace {

struct Config : GraniteConfig {
  explicit Config(const ConfigReader& c) : GraniteConfig(c) {
    rope = Rope(c, head_dim, 10000.0f);
    mlp_bias = c.flag("mlp_bias", false);
  }
};

using Granite = GraniteDecoder<Config>;

}  // namespace

MLXK_MODEL(Granite, "granite");

}  // namespace mlxk
