// The loop of a product with a transposed matrix, whatever the matrix is stored as.

#pragma once

#include <algorithm>

#include "kernels/cpu/vector.h"

namespace mlxk::kernels {

// y [R, O] = x [R, I] times the transpose of w [O, I]. `row_of(o, buffer)` gives row o of w as float32, in `buffer` or
// elsewhere; it is called once for each block of kBlock rows of x, which stay in the cache meanwhile.
template <class T, class RowOf>
void rows_times_matrix(const Rows& rows, const T* x, int outputs, T* y, RowOf row_of) {
  constexpr size_t kBlock = 32;
  const auto width = static_cast<size_t>(rows.width), stride = static_cast<size_t>(outputs);
  std::vector<float> block(std::min(kBlock, rows.count) * width), buffer, scratch;
  for (size_t first = 0; first < rows.count; first += kBlock) {
    const size_t count = std::min(kBlock, rows.count - first);
    for (size_t row = 0; row < count; ++row) {
      const float* from = rows.read(x, first + row, scratch);
      std::copy_n(from, width, block.data() + row * width);
    }
    T* to = y + first * stride;
    for (int o = 0; o < outputs; ++o) {
      const float* weights = row_of(o, buffer);
      size_t row = 0;
      for (; row + 4 <= count; row += 4) {
        float sums[4];
        dot4(block.data() + row * width, rows.width, weights, rows.width, sums);
        for (size_t i = 0; i < 4; ++i) to[(row + i) * stride + static_cast<size_t>(o)] = static_cast<T>(sums[i]);
      }
      for (; row < count; ++row) {
        to[row * stride + static_cast<size_t>(o)] =
            static_cast<T>(dot(block.data() + row * width, weights, rows.width));
      }
    }
  }
}

}  // namespace mlxk::kernels
