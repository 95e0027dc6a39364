// Layers that remember a state of fixed size instead of keys and values: short convolutions and linear recurrences.
// Thread: engine thread only.

#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "layers.h"

namespace mlxk {

// The arrays that one recurrent layer remembers of one sequence, each [1, ..].
class RecurrentState final : public LayerState {
 public:
  explicit RecurrentState(int slots) : slots_(static_cast<size_t>(slots)) {}

  Array& slot(int index) { return slots_[static_cast<size_t>(index)]; }

  void collect(std::vector<Array>& arrays) const override;
  size_t bytes() const override;
  // What a position added cannot be told from what was there before.
  bool can_trim(int count) const override { return count == 0 || slots_.empty(); }
  void trim(int) override {}
  std::unique_ptr<LayerState> copy(int) const override { return std::make_unique<RecurrentState>(*this); }

 private:
  std::vector<Array> slots_;
};

// What the rows of a batch remember in `slot`, joined along the first axis, [rows, shape..]; zeros for rows that have
// not begun. The layer's states must be RecurrentStates.
Array recall(const LayerCache& cache, int slot, const mx::Shape& shape, mx::Type type);
// Gives every row its part of `values` [rows, ..] to remember.
void remember(const LayerCache& cache, int slot, const Array& values);

// A causal convolution with a filter of its own for every channel. Tensors: weight [C, K, 1], or [C, 1, K] as PyTorch
// has it; bias [C] where the architecture has one.
class ShortConvolution {
 public:
  ShortConvolution(const Weights& w, int channels, int kernel, bool bias);
  // x [B, L, C] to [B, L, C]; the last K - 1 inputs are remembered in `slot`.
  Array operator()(const Array& x, const LayerCache& cache, int slot) const;

 private:
  int kernel_;
  Array weight_, bias_;
};

// The gated delta rule, arXiv 2412.06464: S <- g S (I - beta k k^T) + beta v k^T, y = S q, a state S [Dv, Dk] a head.
// q, k [B, L, Hk, Dk], v [B, L, Hv, Dv], g [B, L, Hv] or [B, L, Hv, Dk], beta [B, L, Hv], state [B, Hv, Dv, Dk]
// float32; Hk divides Hv. Returns y [B, L, Hv, Dv] in the type of q, and the new state.
std::pair<Array, Array> gated_delta(const Array& q, const Array& k, const Array& v, const Array& g, const Array& beta,
                                    const Array& state);

// Mamba-2's recurrence, arXiv 2405.21060: S <- exp(dt a) S + dt x B^T, y = S C + D x, a state S [P, N] a head.
// x [B, L, H, P], a [H] (below zero), B and C [B, L, G, N], D [H], dt [B, L, H] float32, state [B, H, P, N] float32; G
// divides H. Returns y [B, L, H, P] in the type of x, and the new state.
std::pair<Array, Array> state_space(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                    const Array& dt, const Array& state);

// Mamba's recurrence, arXiv 2312.00752 (algorithm 2): S <- exp(dt a) S + dt x B^T, y = S C + D x, a state S [N] and
// time steps of its own for every channel. x and dt [B, L, C], a [C, N] (below zero), b and c [B, L, N], d [C], state
// [B, C, N] float32. Returns y [B, L, C] in the type of x, and the new state.
std::pair<Array, Array> selective_scan(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                       const Array& dt, const Array& state);

// RWKV-7's recurrence, arXiv 2503.14456 equation 17: S <- S diag(w) + (S a) b^T + v k^T, y = S r, a state S [D, D] a
// head. All but the state [B, L, H, D]; state [B, H, D, D] float32. Returns y [B, L, H, D] in the type of r, and the
// new state.
std::pair<Array, Array> wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a,
                             const Array& b, const Array& state);

// The same composed of MLX's operations, for devices without a kernel of ours.
namespace composed {
std::pair<Array, Array> gated_delta(const Array& q, const Array& k, const Array& v, const Array& g, const Array& beta,
                                    const Array& state);
std::pair<Array, Array> state_space(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                    const Array& dt, const Array& state);
std::pair<Array, Array> selective_scan(const Array& x, const Array& a, const Array& b, const Array& c, const Array& d,
                                       const Array& dt, const Array& state);
std::pair<Array, Array> wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a,
                             const Array& b, const Array& state);
}  // namespace composed

// h <- a h + x for every channel: x and a [B, L, C], state [B, C], all of one type. Returns h [B, L, C].
Array linear_scan(const Array& x, const Array& a, const Array& state);

// softplus(dt + bias) held within [low, high], in float32: how Mamba-2 reads its time steps.
Array time_steps(const Array& dt, const Array& bias, float low, float high);

}  // namespace mlxk
