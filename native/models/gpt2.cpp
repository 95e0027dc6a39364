// GPT-2: dense decoder. Reference: mlx-lm, models/gpt2.py.
// The original checkpoints hold their matrices transposed and without the prefix `model.`.

#include <string>

#include "gpt.h"

namespace mlxk {
namespace {

struct Config : GptConfig {
  explicit Config(const ConfigReader& c)
      : GptConfig(c, "model.wpe", {.embed_tokens = "model.wte", .layers = "model.h", .norm = "model.ln_f"}) {
    tie_word_embeddings = true;
  }
};

// The layout of the original checkpoints, where there is one.
Config prepared(Config c, const Weights& w) {
  if (!w.has("wte.weight")) return c;
  for (const char* name : {"wte", "wpe", "h", "ln_f"}) w.rename(name, std::string("model.") + name);
  for (int i = 0; i < c.num_hidden_layers; ++i) {
    const Weights layer = w[c.names.layers][i];
    for (const char* name : {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}) {
      if (layer[name].has("weight") && !layer[name].has("scales")) {
        layer[name].put("weight", mx::contiguous(mx::transpose(layer[name].peek("weight"))));
      }
    }
  }
  return c;
}

class Gpt2 final : public GptDecoder<Config> {
 public:
  Gpt2(const ConfigReader& reader, const Weights& w) : GptDecoder(prepared(Config(reader), w), w) {}
};

}  // namespace

MLXK_MODEL(Gpt2, "gpt2");

}  // namespace mlxk
