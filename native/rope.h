// Rotary position embedding with the scalings that checkpoints name in `rope_scaling` or `rope_parameters`.
// Formulas: mlx-lm 0.32.2, models/rope_utils.py. Thread: engine thread only.

#pragma once

#include <optional>

#include "config.h"
#include "kv_cache.h"
#include "mx.h"

namespace mlxk {

class Rope {
 public:
  // Rotates nothing.
  Rope() = default;
  // The plain rotation with a base of its own.
  Rope(int dims, float theta, bool traditional = false);
  // Reads rope_theta and the scaling from `config`. `dims` of the head are rotated; `theta` is the architecture's
  // default base, `type` the kind of scaling where the config scales and names none. Throws config_invalid for a rope
  // type that is not known.
  Rope(const ConfigReader& config, int dims, float theta, bool traditional = false, const char* type = "default");

  // The same where `parameters` is the object of rope_theta, rope_type and the rest, as of one kind of layer.
  static Rope of_parameters(const ConfigReader& parameters, int dims, float theta, bool traditional = false);

  // The plain rotation the other way round.
  static Rope reversed(int dims, float theta);

  // The plain rotation with the base grown by `rope_scaling.alpha`, as Hunyuan has it (NTK-aware scaling).
  static Rope ntk_alpha(const ConfigReader& config, int dims, float theta);

  // x [B, H, L, D], rotated for the positions that the rows of `cache` have reached.
  Array operator()(const Array& x, const LayerCache& cache) const;
  // What it does, where that is no more than one operation of MLX.
  const mx::RopeParameters* plain() const { return magnitude_ == 1.0f ? &parameters_ : nullptr; }

 private:
  void scale(const ConfigReader& config, const std::optional<ConfigReader>& scaling, int dims, float base,
             bool traditional, const char* default_type);

  mx::RopeParameters parameters_;
  float magnitude_ = 1.0f;  // yarn and longrope scale what they rotate
};

// What YaRN multiplies the scale of the attention scores by, where a config states mscale_all_dim: the families with
// latent attention do so; the others leave it.
float yarn_attention_scale(const ConfigReader& config);

}  // namespace mlxk
