// The threads that CPU kernels split their work over. Work comes in numbered pieces that are the same for any number of
// threads, so results are too. The calling thread takes pieces as well, and waits only for pieces that others have
// begun. Thread: `run_pieces` on MLX's stream thread; the others anywhere.

#pragma once

#include <cstddef>

namespace mlxk::kernels {

// Threads that may take part, the caller included: what `set_threads` said last, else MLXK_THREADS, else
// usable_cores(). Throws EngineError `validation_error` / `threads_invalid` where MLXK_THREADS is no number from 1 to
// kMostThreads.
int threads();
constexpr int kMostThreads = 256;
void set_threads(int count);  // 1 to kMostThreads; takes effect with the next work

using PieceFunction = void (*)(const void* body, size_t piece);
void run_pieces(size_t pieces, PieceFunction function, const void* body);

// body(piece) for every piece of [0, pieces), on several threads at once where there is more than one.
template <class Body>
void for_pieces(size_t pieces, const Body& body) {
  if (pieces == 1) return body(size_t{0});
  run_pieces(pieces, [](const void* b, size_t piece) { (*static_cast<const Body*>(b))(piece); }, &body);
}

// body(first, last) over [0, count) in ranges of `grain`.
template <class Body>
void for_ranges(size_t count, size_t grain, const Body& body) {
  for_pieces((count + grain - 1) / grain, [&](size_t piece) {
    const size_t first = piece * grain;
    body(first, first + grain < count ? first + grain : count);
  });
}

}  // namespace mlxk::kernels
