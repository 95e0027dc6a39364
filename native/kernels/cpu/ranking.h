// The larger ones of many numbers, in order, without sorting them all.

#pragma once

#include <span>

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

// Works on one row; none of it is NaN. Its memory is kept from one use to the next.
class Ranking {
 public:
  // All of x that are at least `bound`, from the largest down, as long as the next use is away. `largest`: of x.
  std::span<const float> descending(std::span<const float> x, float largest, float bound);

 private:
  Scratch keys_, others_, values_;
};

// A number that at least k of x are not below, and not many more of them, as long as x is in no order; k <= x.size().
float bound_of_largest(std::span<const float> x, size_t k);

}  // namespace mlxk::kernels
