// What sampling needs to know of all scores of a row.

#pragma once

#include <cmath>
#include <limits>

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

struct Summary {
  float largest = -std::numeric_limits<float>::infinity();
  int64_t place = 0;  // of the largest, the first of equals; one that is not a number counts as largest
  float total = 0;    // of exponentials relative to it

  float log_sum() const { return largest + std::log(total); }
};

// In one pass on all threads.
Summary summary_of(Type type, const uint8_t* row, size_t count);

}  // namespace mlxk::kernels
