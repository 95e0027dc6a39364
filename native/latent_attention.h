// Multi-head latent attention, DeepSeek-V2's (arXiv 2405.04434 section 2.1): keys and values are kept as one small
// latent vector a position and a rotated part that all heads share. Reference: mlx-lm 0.32.2, models/deepseek_v3.py.
// Thread: engine thread only.

#pragma once

#include <memory>
#include <optional>

#include "indexer.h"
#include "transformer.h"

namespace mlxk {

struct LatentShape {
  int hidden_size, heads;
  int q_lora_rank;  // 0: queries come from one matrix
  int kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim, v_head_dim;
  bool bias;    // of the matrices into the latent spaces and of the output
  float scale;  // of the scores
  float norm_eps = 1e-6f;
  float q_lora_scale = 1, kv_lora_scale = 1;  // of the normalized latent vectors
  OutputGate output_gate = OutputGate::none;  // by g_proj
  std::optional<IndexerShape> indexer{};      // queries attend to the positions it chooses; two states a layer

  // Reads the fields of the same names; `scale` follows from them and from YaRN's.
  static LatentShape read(const ConfigReader& c, int hidden_size, int heads);
};

// Tensors: q_proj, or q_a_proj, q_a_layernorm and q_b_proj; kv_a_proj_with_mqa, kv_a_layernorm, embed_q and unembed_out
// (or kv_b_proj, which holds both), o_proj; g_proj with output_gate. Its state is a KVCache of one head: the latent
// vectors as keys, the rotated parts as values.
class LatentAttention : public Mixer {
 public:
  LatentAttention(const Weights& w, const LatentShape& shape, const Rope& rope);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 protected:
  // q [B, H, L, D] before it is rotated; what an architecture scales queries by depends on their positions.
  virtual Array prepared(const Array& q, const LayerCache&) const { return q; }

 private:
  // `q_latent` is what q_b_proj reads.
  Array query(const Array& x, const Array& q_latent) const;  // [B, L, H * (nope + rope)]
  // row: q_nope, q_pe, new latent vectors, their rotated parts, then what the indexer projected.
  Array attend(const std::vector<Array>& row, const LayerCache& cache, int index) const;

  LatentShape shape_;
  Rope rope_;
  std::optional<Linear> q_proj_, q_a_proj_, q_b_proj_;
  std::optional<RMSNorm> q_a_layernorm_;
  Linear kv_a_proj_;
  RMSNorm kv_a_layernorm_;
  StackedMatrix embed_q_, unembed_out_;
  Linear o_proj_;
  std::optional<Linear> g_proj_;
  std::optional<Indexer> indexer_;
};

}  // namespace mlxk
