// How mx.cpp and mx_kernels.cpp call mlx-c; for these two alone. Thread: one that holds an mx::Thread.

#pragma once

#include <mlx/c/mlx.h>

#include <cstdint>
#include <vector>

#include "error.h"
#include "mx.h"

// mlx-c includes <complex.h>, whose macro I would break any template parameter of that name.
#undef I

namespace mlxk::mx {

extern constinit thread_local mlx_stream stream;

// Throws internal_error / mlx_error with the text of the last failure on this thread.
[[noreturn]] void raise();

inline void check(int status) {
  if (status != 0) raise();
}

// Counts the result for take_work. `besides`: bytes of intermediate results that nobody sees.
Array counted(Array a, uint64_t besides = 0);

mlx_dtype to_c(Type type);

inline mlx_array raw(const Array& a) { return mlx_array{a.ctx()}; }

// Calls `op(&result, arguments…, stream)` and owns the result, which lies in the memory of an argument.
template <class Op, class... Args>
Array call_view(Op op, Args... args) {
  mlx_array result{nullptr};
  const int status = op(&result, args..., stream);
  Array owned = Array::adopt(result.ctx);
  check(status);
  return owned;
}

// The same with a result in memory of its own.
template <class Op, class... Args>
Array call(Op op, Args... args) {
  return counted(call_view(op, args...));
}

// What slices of one axis are called with.
struct Bounds {
  std::vector<int> start, stop, strides;
  Bounds(const Array& a, int axis, int from, int to) {
    stop = a.shape();
    start.assign(stop.size(), 0);
    strides.assign(stop.size(), 1);
    const size_t at = static_cast<size_t>(axis < 0 ? axis + static_cast<int>(stop.size()) : axis);
    if (at >= stop.size() || from < 0 || to < from || to > stop[at]) {
      throw EngineError("internal_error", "mlx_error", "slice outside its array");
    }
    start[at] = from;
    stop[at] = to;
  }
};

}  // namespace mlxk::mx
