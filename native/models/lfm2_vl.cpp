// LFM2-VL: hybrid of attention and short convolutions, the text tower of the multimodal checkpoints. Reference: mlx-lm,
// models/lfm2-vl.py.
// Against LFM2: the settings stand in text_config.

#include "text_tower.h"

namespace mlxk {
namespace {

struct Lfm2Vl {
  static std::unique_ptr<Model> make(const ConfigReader& c, const Weights& w) {
    return text_tower("lfm2", text_config(c), w);
  }
};

}  // namespace

MLXK_MODEL(Lfm2Vl, "lfm2-vl");

}  // namespace mlxk
