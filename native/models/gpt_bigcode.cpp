// StarCoder and SantaCoder: dense decoder. Reference: mlx-lm, models/gpt_bigcode.py.
// Against GPT-2: all heads look at one key and value; the exact gelu.

#include "gpt.h"

namespace mlxk {
namespace {

struct Config : GptConfig {
  explicit Config(const ConfigReader& c)
      : GptConfig(c, "transformer.wpe",
                  {.embed_tokens = "transformer.wte", .layers = "transformer.h", .norm = "transformer.ln_f"}) {
    if (c.flag("multi_query", true)) num_key_value_heads = 1;
    intermediate_size = c.dim("n_inner", intermediate_size);
    attention_bias = c.flag("attention_bias", true);
    mlp_bias = c.flag("mlp_bias", true);
    activation = Activation::gelu;
  }
};

using GptBigCode = GptDecoder<Config>;

}  // namespace

MLXK_MODEL(GptBigCode, "gpt_bigcode");

}  // namespace mlxk
