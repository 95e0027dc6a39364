// Lightning attention (arXiv 2401.04658): linear attention whose state decays by a constant of every head. Reference:
// mlx-lm 0.32.2, models/bailing_moe_linear.py. Thread: engine thread only.

#pragma once

#include "recurrence.h"
#include "rope.h"
#include "transformer.h"

namespace mlxk {

struct LightningShape {
  int hidden_size, heads, head_dim;
  bool qkv_bias, bias, qk_norm;
  int norm_groups;  // of what the recurrence gives
  float norm_eps;
  float depth;  // how far the state's decay is slowed, from 1 in the first layer to 0 in the last
};

// Tensors: query_key_value, dense, g_proj, g_norm; query_layernorm and key_layernorm with qk_norm. Its state is a
// RecurrentState of one slot.
class LightningAttention : public Mixer {
 public:
  LightningAttention(const Weights& w, const LightningShape& shape, const Rope& rope);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 private:
  LightningShape shape_;
  Rope rope_;
  Linear query_key_value_, dense_, g_proj_;
  GroupRMSNorm g_norm_;
  std::optional<RMSNorm> query_layernorm_, key_layernorm_;
  Array decay_;        // its logarithm, [heads]
  Array no_residual_;  // zeros [heads]
};

}  // namespace mlxk
