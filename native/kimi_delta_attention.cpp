// See kimi_delta_attention.h.

#include "kimi_delta_attention.h"

namespace mlxk {
namespace {

// Checkpoints give these tensors axes of length one, or rows, that say nothing more.
Array flat(const Weights& w, const char* name, int size) {
  if (w.has(name) && w.peek(name).size() == static_cast<size_t>(size)) w.put(name, mx::reshape(w.peek(name), {size}));
  return w.take(name, {size});
}

}  // namespace

MaybeLowRank::MaybeLowRank(const Weights& w, const char* whole, const char* first, const char* second, int in, int rank,
                           int out)
    : first_(w[rank > 0 ? first : whole], in, rank > 0 ? rank : out) {
  if (rank > 0) second_.emplace(w[second], rank, out);
}

KimiDeltaAttention::KimiDeltaAttention(const Weights& w, const KimiDeltaShape& s)
    : shape_(s),
      projections_(w, s.filters()),
      f_proj_(w, "f_proj", "f_a_proj", "f_b_proj", s.hidden_size, s.low_rank_decay ? s.head_dim : 0,
              heads_width(s.heads, s.head_dim)),
      g_proj_(w, "g_proj", "g_a_proj", "g_b_proj", s.hidden_size, s.low_rank_gate ? s.head_dim : 0,
              s.heads * s.head_dim),
      b_proj_(w["b_proj"], s.hidden_size, s.heads),
      rate_(mx::reshape(mx::exp(mx::astype(flat(w, "A_log", s.heads), mx::Type::f32)), {s.heads, 1})),
      dt_bias_(mx::reshape(flat(w, "dt_bias", s.heads * s.head_dim), {s.heads, s.head_dim})),
      o_norm_(w["o_norm"], s.head_dim, s.norm_eps),
      o_proj_(w["o_proj"], s.heads * s.head_dim, s.hidden_size) {}

Array KimiDeltaAttention::decay(const Array& x) const {
  const Array step = mx::reshape(f_proj_(x), {x.dim(0), x.dim(1), shape_.heads, shape_.head_dim});
  if (!shape_.lower_bound) return mx::exp(-(rate_ * mx::softplus(step + dt_bias_)));
  return mx::exp(mx::sigmoid(rate_ * (mx::astype(step, mx::Type::f32) + dt_bias_)) * *shape_.lower_bound);
}

Array KimiDeltaAttention::operator()(const Array& x, const LayerCache& cache) const {
  const auto [q, k, v] = projections_(x, cache);
  const int slot = FilteredProjections::kSlots;
  const Array before = recall(cache, slot, {shape_.heads, shape_.head_dim, shape_.head_dim}, mx::Type::f32);
  const auto [y, state] = gated_delta(q, k, v, decay(x), mx::sigmoid(b_proj_(x)), before);
  remember(cache, slot, state);
  const Array gate = mx::reshape(g_proj_(x), y.shape());
  return o_proj_(mx::reshape(o_norm_(y) * mx::sigmoid(gate), {x.dim(0), x.dim(1), -1}));
}

}  // namespace mlxk
