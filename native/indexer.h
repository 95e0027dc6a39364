// DeepSeek-V3.2's lightning indexer (arXiv 2512.02556 section 2.1): small heads of its own score all positions, and the
// layer attends to the best few. Reference: mlx-lm 0.32.2, models/deepseek_v32.py. Thread: engine thread only.

#pragma once

#include <vector>

#include "layers.h"
#include "rope.h"

namespace mlxk {

struct IndexerShape {
  int hidden_size, q_lora_rank;
  int heads, head_dim;
  int top_k;  // positions each query attends to
  Rope rope;  // of the first part of a head

  // Reads index_n_heads, index_head_dim and index_topk.
  static IndexerShape read(const ConfigReader& c, int hidden_size, int q_lora_rank, int rotated, const Rope& rope);
};

// Tensors: wq_b, wk, k_norm, weights_proj. Its keys are in the layer's second state, a KVCache without values.
class Indexer {
 public:
  Indexer(const Weights& w, const IndexerShape& shape);

  // Of x [B, L, D] and the latent queries: queries [B, H, L, d], keys [B, 1, L, d], weights of the heads [B, H, L, 1].
  std::vector<Array> project(const Array& x, const Array& q_latent, const LayerCache& cache) const;
  // Takes these of one row, appends its keys, and returns the positions chosen for each query as indices into what the
  // row has seen, uint32 [1, 1, L, k] in no order, later positions possibly among them; empty where it has seen no more
  // than k.
  Array choose(const std::vector<Array>& projected, const LayerCache& cache, int row) const;

 private:
  IndexerShape shape_;
  Linear wq_b_, wk_;
  LayerNorm k_norm_;
  Linear weights_proj_;
};

}  // namespace mlxk
