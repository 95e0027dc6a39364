// The gated delta net of Qwen3-Next and Qwen3.5 (arXiv 2412.06464). Reference: mlx-lm 0.32.2, models/qwen3_next.py and
// models/qwen3_5.py. Thread: engine thread only.

#pragma once

#include "recurrence.h"
#include "transformer.h"

namespace mlxk {

// q and k [.., Dk] as these nets give them to the delta rule: of length one, q times Dk^-1/2.
std::pair<Array, Array> unit_query_key(const Array& q, const Array& k);

// silu(gate) * x, computed in float32.
Array gated_in_f32(const Array& x, const Array& gate);

struct GatedDeltaShape {
  int hidden_size;
  int key_heads, value_heads, key_dim, value_dim;  // key_heads divides value_heads; the dims are of one head
  int kernel;
  float norm_eps;

  // Reads linear_num_key_heads, linear_num_value_heads, linear_key_head_dim, linear_value_head_dim and
  // linear_conv_kernel_dim.
  static GatedDeltaShape read(const ConfigReader& c, int hidden_size, float norm_eps);

  int keys() const { return key_heads * key_dim; }
  int values() const { return value_heads * value_dim; }
};

// Tensors: in_proj_qkvz and in_proj_ba, in which every key head's parts lie together, or in_proj_qkv, in_proj_z,
// in_proj_b and in_proj_a; conv1d, A_log, dt_bias, norm, out_proj. Its state is a RecurrentState of kSlots.
class GatedDeltaNet : public Mixer {
 public:
  static constexpr int kSlots = 2;  // the convolution's inputs, the recurrence

  GatedDeltaNet(const Weights& w, const GatedDeltaShape& shape);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 private:
  struct Projected {
    Array qkv;   // [B, L, 2 keys + values]
    Array z;     // [B, L, value_heads, value_dim]
    Array b, a;  // [B, L, value_heads]
  };
  Projected project(const Array& x) const;

  GatedDeltaShape shape_;
  std::optional<Linear> in_proj_qkvz_, in_proj_ba_, in_proj_qkv_, in_proj_z_, in_proj_b_, in_proj_a_;
  ShortConvolution conv1d_;
  Array decay_rate_;  // exp(A_log), float32
  Array dt_bias_;
  RMSNorm norm_;
  Linear out_proj_;
};

// Queries, keys and values by matrices of their own, each through a filter of its own and silu; q and k as
// unit_query_key gives them. Tensors: q_proj, k_proj, v_proj, q_conv1d, k_conv1d, v_conv1d. Remembers the filters'
// inputs in the first kSlots slots.
class FilteredProjections {
 public:
  static constexpr int kSlots = 3;
  struct Projected {
    Array q, k, v;  // [B, L, heads, dim], of GatedDeltaShape
  };

  FilteredProjections(const Weights& w, const GatedDeltaShape& shape);
  Projected operator()(const Array& x, const LayerCache& cache) const;

 private:
  GatedDeltaShape shape_;
  Linear q_proj_, k_proj_, v_proj_;
  ShortConvolution q_conv1d_, k_conv1d_, v_conv1d_;
};

}  // namespace mlxk
