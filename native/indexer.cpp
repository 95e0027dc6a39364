// See indexer.h.

#include "indexer.h"

#include <cmath>
#include <limits>

#include "transformer.h"

namespace mlxk {

IndexerShape IndexerShape::read(const ConfigReader& c, int hidden_size, int q_lora_rank, int rotated,
                                const Rope& rope) {
  IndexerShape s{.hidden_size = hidden_size,
                 .q_lora_rank = q_lora_rank,
                 .heads = c.count("index_n_heads", 64),
                 .head_dim = c.dim("index_head_dim", 128),
                 .top_k = c.dim("index_topk", 2048),
                 .rope = rope};
  c.require(q_lora_rank > 0, "q_lora_rank", "must be given: the indexer reads the latent queries");
  c.require(s.head_dim >= rotated, "index_head_dim", "must be at least qk_rope_head_dim");
  return s;
}

Indexer::Indexer(const Weights& w, const IndexerShape& s)
    : shape_(s),
      wq_b_(w["wq_b"], s.q_lora_rank, heads_width(s.heads, s.head_dim)),
      wk_(w["wk"], s.hidden_size, s.head_dim),
      k_norm_(w["k_norm"], s.head_dim, 1e-5f),
      weights_proj_(w["weights_proj"], s.hidden_size, s.heads) {}

std::vector<Array> Indexer::project(const Array& x, const Array& q_latent, const LayerCache& cache) const {
  const Array q = mx::reshape(wq_b_(q_latent), {x.dim(0), x.dim(1), shape_.heads, shape_.head_dim});
  const Array k = mx::expand_dims(k_norm_(wk_(x)), 1);
  const float scale = 1 / std::sqrt(static_cast<float>(shape_.heads) * static_cast<float>(shape_.head_dim));
  const Array weights = mx::expand_dims(mx::swapaxes(weights_proj_(x) * scale, 1, 2), -1);
  return {shape_.rope(mx::swapaxes(q, 1, 2), cache), shape_.rope(k, cache), weights};
}

Array Indexer::choose(const std::vector<Array>& projected, const LayerCache& cache, int row) const {
  const Array &q = projected[0], &new_keys = projected[1], &weights = projected[2];
  const int length = q.dim(2);
  const LayerCache own{cache.batch, cache.layer + 1};
  const Array nothing = mx::zeros({1, 1, length, 0}, new_keys.dtype());
  const Array keys = own.state<KVCache>(row).update(new_keys, nothing).first;
  const int seen = keys.dim(2);
  if (seen <= shape_.top_k) return {};

  const Array match = mx::matmul(q, mx::swapaxes(keys, -1, -2));  // [1, H, L, T]
  Array scores = mx::sum(mx::maximum(match, mx::scalar(0, match.dtype())) * weights, 1, true);
  if (length > 1) {
    const Array never = mx::scalar(-std::numeric_limits<float>::infinity(), scores.dtype());
    scores = mx::where(cache.batch.window_mask(seen, seen), scores, never);
  }
  const int from = seen - shape_.top_k;
  return mx::slice(mx::argpartition(scores, from, -1), -1, from, seen);
}

}  // namespace mlxk
