// One head of a linear recurrence. Rows of the state do not depend on each other, so each is taken through all
// positions while it is in the first-level cache.

#include "kernels/cpu/isa/recurrence.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

// The number that `body(load, store)` adds up over vectors of `count` numbers.
template <class Body>
inline float total_of(int count, Body body) {
  F total = {};
  for_vectors(count, [&](auto get, auto put) { total += body(get, put); });
  return sum(total);
}

}  // namespace

// S = g S + beta (v - S k) k^T; y = S q.
void gated_delta(const DeltaHead& h, float* state, float* y) {
  for (int row = 0; row < h.value_width; ++row) {
    float* s = state + int64_t{row} * h.key_width;
    for (int t = 0; t < h.length; ++t) {
      const float *q = h.q + t * h.key_step, *k = h.k + t * h.key_step, *g = h.g + t * h.gate_step;
      const bool each = h.gates > 1;
      const float known = total_of(h.key_width, [&](auto get, auto put) {
        const F decayed = get(s) * (each ? get(g) : splat(*g));
        put(s, decayed);
        return decayed * get(k);
      });
      const float change = (h.v[t * h.value_step + row] - known) * h.beta[t * h.beta_step];
      y[t * h.value_step + row] = total_of(h.key_width, [&](auto get, auto put) {
        const F next = get(s) + change * get(k);
        put(s, next);
        return next * get(q);
      });
    }
  }
}

// S = exp(a dt) S + dt x b^T; y = S c + d x.
void state_space(const StateSpaceHead& h, float* state, float* y) {
  for (int row = 0; row < h.width; ++row) {
    float* s = state + int64_t{row} * h.states;
    for (int t = 0; t < h.length; ++t) {
      const float *b = h.b + t * h.group_step, *c = h.c + t * h.group_step;
      const float dt = h.dt[t * h.dt_step], x = h.x[t * h.x_step + row];
      const F decay = exp(splat(h.a * dt)), added = splat(dt * x);
      const float seen = total_of(h.states, [&](auto get, auto put) {
        const F next = get(s) * decay + get(b) * added;
        put(s, next);
        return next * get(c);
      });
      y[t * h.x_step + row] = seen + h.d * x;
    }
  }
}

// s = exp(a dt) s + dt x b; y = s c + d x.
void selective_scan(const ScanChannel& h, float* s, float* y) {
  for (int t = 0; t < h.length; ++t) {
    const float *b = h.b + t * h.group_step, *c = h.c + t * h.group_step;
    const float dt = h.dt[t * h.x_step], x = h.x[t * h.x_step];
    const F step = splat(dt), added = splat(dt * x);
    const float seen = total_of(h.states, [&](auto get, auto put) {
      const F next = get(s) * exp(get(h.a) * step) + get(b) * added;
      put(s, next);
      return next * get(c);
    });
    y[t * h.x_step] = seen + h.d * x;
  }
}

// S = S diag(w) + (S a) b^T + v k^T; y = S r.
void wkv7(const WkvHead& h, float* state, float* y) {
  for (int row = 0; row < h.width; ++row) {
    float* s = state + int64_t{row} * h.width;
    for (int t = 0; t < h.length; ++t) {
      const int64_t at = t * h.step;
      const float recalled = total_of(h.width, [&](auto get, auto) { return get(s) * get(h.a + at); });
      y[at + row] = total_of(h.width, [&](auto get, auto put) {
        const F next = get(s) * get(h.w + at) + recalled * get(h.b + at) + h.v[at + row] * get(h.k + at);
        put(s, next);
        return next * get(h.r + at);
      });
    }
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
