// Arrays that an operation of ours will compute but has not yet: what they are made into may take their work over and
// do it in its own region of the pool. They stay in the graph, and are computed only where somebody else reads them.
// Thread: engine thread.

#pragma once

#include <optional>
#include <utility>

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

// The primitive P that will compute `a`, or null.
template <class P>
P* pending(const array& a) {
  if (a.status() != array::Status::unscheduled || !a.has_primitive()) return nullptr;
  return dynamic_cast<P*>(&a.primitive());
}

// A root mean square norm along the last axis.
struct PendingNorm {
  array x;
  std::optional<array> weight;
  float eps;
};
std::optional<PendingNorm> pending_norm(const array& a);

// A new array in place of activation(gate) * up or of a + b, or null: where operands are products of few rows that
// nothing has computed.
void* gated_products(Activation activation, const array& gate, const array& up);
void* product_sum(const array& a, const array& b);
// The first for products of rows with the matrices that the same indices pick.
void* gated_gathers(Activation activation, const array& gate, const array& up);

}  // namespace mlxk::kernels
