// Kimi delta attention (arXiv 2510.26692): the gated delta rule with a decay of its own for every channel of the keys.
// Reference: mlx-lm 0.32.2, models/kimi_linear.py, models/kimi_k3.py and models/bailing_moe_v3.py.
// Thread: engine thread only.

#pragma once

#include <optional>

#include "gated_delta_net.h"

namespace mlxk {

struct KimiDeltaShape {
  int hidden_size, heads, head_dim, kernel;
  float norm_eps;
  bool low_rank_decay = true, low_rank_gate = true;  // in two matrices, through head_dim units
  std::optional<float> lower_bound{};                // of the decay's logarithm, which a sigmoid then approaches

  // q, k and v of as many heads.
  GatedDeltaShape filters() const { return {hidden_size, heads, heads, head_dim, head_dim, kernel, norm_eps}; }
};

// A matrix, or the product of two. Tensors: `whole`; or `first` and `second`.
class MaybeLowRank {
 public:
  // rank 0: one matrix.
  MaybeLowRank(const Weights& w, const char* whole, const char* first, const char* second, int in, int rank, int out);
  Array operator()(const Array& x) const { return second_ ? (*second_)(first_(x)) : first_(x); }

 private:
  Linear first_;
  std::optional<Linear> second_;
};

// Tensors: those of FilteredProjections; f_proj, or f_a_proj and f_b_proj, of what decays; b_proj, of how strongly is
// written; g_proj, or g_a_proj and g_b_proj, of the output's gate; A_log, dt_bias, o_norm, o_proj. Its state is a
// RecurrentState of kSlots.
class KimiDeltaAttention : public Mixer {
 public:
  static constexpr int kSlots = FilteredProjections::kSlots + 1;  // and the recurrence

  KimiDeltaAttention(const Weights& w, const KimiDeltaShape& shape);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 private:
  Array decay(const Array& x) const;  // [B, L, heads, head_dim]

  KimiDeltaShape shape_;
  FilteredProjections projections_;
  MaybeLowRank f_proj_, g_proj_;
  Linear b_proj_;
  Array rate_;     // exp(A_log), [heads, 1], float32
  Array dt_bias_;  // [heads, head_dim]
  RMSNorm o_norm_;
  Linear o_proj_;
};

}  // namespace mlxk
