// MiMo: dense decoder. Reference: mlx-lm, models/mimo.py.
// Against Qwen2: not tied unless the config says so; heads that predict further tokens are dropped.

#include "model.h"

namespace mlxk {
namespace {

struct MiMo {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    w["model"]["mtp_layers"].discard();
    const ConfigReader tied = c.with("tie_word_embeddings", Json(c.flag("tie_word_embeddings", false)));
    return find_model("qwen2")(tied.with("rope_theta", Json(double{c.positive("rope_theta", 10000.0f)})), w);
  }
};

}  // namespace

MLXK_MODEL(MiMo, "mimo");

}  // namespace mlxk
