// The delta rules of recurrence.h, gated and RWKV-7's, composed of MLX's operations by chunks of positions.
//
// Within a chunk the state after position i is what is left of the one before the chunk and of what positions j <= i
// wrote. What position i writes depends on what it reads of the writes before it: a triangular system of equations for
// all writes of the chunk, solved by the inverse of its matrix (arXiv 2412.06464 section 3.3, after 2406.06484). A
// decay over several positions is the exponential of the sum of their logarithms, which is never above zero. All in
// float32.

#include <algorithm>
#include <functional>

#include "recurrence.h"

namespace mlxk {
namespace {

// Fewer positions than this are worked on one by one: that takes fewer operations then.
constexpr int kFewest = 4;
constexpr int kChunk = 32;
constexpr int kRun = 8;  // divides kChunk
// As good as nothing is left, and sums of logarithms stay small enough to be exact.
constexpr float kStrongestDecay = -16;

Array at(const Array& a, int t) {  // [B, L, ..] to [B, ..]
  mx::Shape shape = a.shape();
  shape.erase(shape.begin() + 1);
  return mx::reshape(mx::slice(a, 1, t, t + 1), shape);
}

Array transposed(const Array& a) { return mx::swapaxes(a, -1, -2); }

// [B, L, H, D] to [B, H, l, D], float32, L filled up with `rest` to whole runs.
Array by_head(const Array& a, float rest = 0) {
  const Array heads = mx::astype(mx::swapaxes(a, 1, 2), mx::Type::f32);
  const int over = heads.dim(2) % kRun;
  if (over == 0) return heads;
  const mx::Shape missing{heads.dim(0), heads.dim(1), kRun - over, heads.dim(3)};
  return mx::concatenate({heads, mx::broadcast_to(mx::scalar(rest, mx::Type::f32), missing)}, 2);
}

// Ones where set(row, column), else zeros.
template <class Set>
Array mask(int size, const Set& set) {
  std::vector<float> values;
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) values.push_back(set(i, j) ? 1 : 0);
  }
  return mx::from_floats(values, {size, size});
}

// The sums of logs [B, H, n, d] over j < k <= i, or j < k < i, [B, H, n, n, d]; zero for j >= i.
Array sums_between(const Array& logs, bool inclusive) {
  const int n = logs.dim(2);
  const Array later = mx::reshape(mask(n, [](int k, int j) { return k > j; }), {n, n, 1});
  return mx::cumsum(mx::expand_dims(logs, 3) * later, 2, false, inclusive);
}

// What is left of a state over the positions of a chunk. Arrays of the chunk are [B, H, l, D], l a multiple of kRun.
class Decay {
 public:
  enum class Seen { before, after };  // the state that position i reads: before its own decay, or after

  // factors [B, H, l, D or 1], from 0 to 1
  explicit Decay(const Array& factors)
      : logs_(mx::maximum(mx::log(factors), mx::scalar(kStrongestDecay, mx::Type::f32))),
        whole_(mx::exp(mx::sum(logs_, 2, true))) {}

  // x as it reads the state before the chunk.
  Array reading(const Array& x, Seen seen) const { return x * mx::exp(mx::cumsum(logs_, 2, false, after(seen))); }
  // x as it is written, seen from the chunk's end.
  Array writing(const Array& x) const { return x * mx::exp(mx::cumsum(logs_, 2, true, false)); }
  // The state before the chunk, [B, H, Dv, D], as its end has it.
  Array end(const Array& state) const { return state * whole_; }
  // For positions i and j what x_i reads of a y_j that was written at j, [B, H, l, l]: for j <= i + diagonal, else 0.
  Array products(const Array& x, const Array& y, Seen seen, int diagonal) const {
    if (logs_.dim(-1) > 1) return mx::tril(products_by_channel(x, y, seen), diagonal);
    const int length = logs_.dim(2);
    const Array left = mx::exp(sums_between(logs_, after(seen)));
    const Array pairs = mx::matmul(x, transposed(y));
    return mx::tril(pairs * mx::reshape(left, {x.dim(0), x.dim(1), length, length}), diagonal);
  }

 private:
  static bool after(Seen seen) { return seen == Seen::after; }

  // Within a run every pair of positions has decays of its own. Between runs the decay to the end of y's belongs to y,
  // that from the start of x's to x, and that of the runs between to y once more, for every run of x.
  Array products_by_channel(const Array& x, const Array& y, Seen seen) const {
    const int batch = x.dim(0), heads = x.dim(1), length = x.dim(2), dims = x.dim(3), runs = length / kRun;
    const auto by_run = [&](const Array& a) { return mx::reshape(a, {batch, heads, runs, kRun, dims}); };
    const Array logs = by_run(logs_), readers = by_run(x), written = by_run(y);
    const Array from_start = mx::cumsum(logs, 3, false, after(seen)), to_own = mx::cumsum(logs, 3, false, true);

    const Array spans = mx::expand_dims(from_start, 4) - mx::expand_dims(to_own, 3);  // [B, H, R, kRun, kRun, D]
    const Array left = mx::exp(mx::minimum(spans, mx::scalar(0, mx::Type::f32)));
    const Array near = mx::sum(mx::expand_dims(readers, 4) * left * mx::expand_dims(written, 3), -1, false);
    if (runs == 1) return mx::reshape(near, {batch, heads, length, length});

    const Array to_end = mx::expand_dims(mx::cumsum(logs, 3, true, false), 2);
    const Array between = mx::expand_dims(sums_between(mx::sum(logs, 3, false), false), 4);  // [B, H, R, R, 1, D]
    const Array passed =
        mx::reshape(mx::expand_dims(written, 2) * mx::exp(to_end + between), {batch, heads, runs, length, dims});
    const Array far = mx::matmul(readers * mx::exp(from_start), transposed(passed));  // [B, H, R, kRun, l]
    const auto runs_where = [runs](bool (*set)(int, int)) { return mx::reshape(mask(runs, set), {runs, 1, runs, 1}); };
    const Array earlier = runs_where([](int i, int j) { return j < i; });
    const Array same = runs_where([](int i, int j) { return j == i; });
    const Array all =
        mx::reshape(far, {batch, heads, runs, kRun, runs, kRun}) * earlier + mx::expand_dims(near, 4) * same;
    return mx::reshape(all, {batch, heads, length, length});
  }

  Array logs_, whole_;
};

// Inverts matrices of one size, [.., l, l], with ones on the diagonal and nothing above it. Blocks of the diagonal are
// inverted in pairs, each round those of twice the size; powers of the matrix, which could be had for as much, grow
// without bounds before they cancel.
class UnitLowerInverse {
 public:
  explicit UnitLowerInverse(int length) : identity_(mask(length, [](int i, int j) { return i == j; })) {
    for (int size = 1; size < length; size *= 2) {
      pairs_.push_back(mask(length, [size](int i, int j) { return i / size % 2 == 1 && j / size == i / size - 1; }));
    }
  }

  // `below`: what is below the diagonal.
  Array operator()(const Array& below) const {
    Array inverse = identity_;
    for (size_t round = 0; round < pairs_.size(); ++round) {
      const Array pair = below * pairs_[round];
      inverse = inverse - (round == 0 ? pair : mx::matmul(mx::matmul(inverse, pair), inverse));
    }
    return inverse;
  }

 private:
  Array identity_;
  std::vector<Array> pairs_;
};

using Result = std::pair<Array, Array>;  // y, state

// step(t, state) for every position; y [B, H, D] each.
template <class Step>
Result stepwise(int length, const Array& state, mx::Type type, const Step& step) {
  Array s = state;
  std::vector<Array> ys;
  for (int t = 0; t < length; ++t) ys.push_back(mx::astype(step(t, s), type));
  return {mx::stack(ys, 1), s};
}

// chunk(part, inverse, state) for every chunk of `filled` positions, of which y has `length`; `part` takes a chunk's
// positions out of an array [B, H, filled, ..]; y [B, H, l, D] each.
template <class Chunk>
Result chunkwise(int length, int filled, const Array& state, mx::Type type, const Chunk& chunk) {
  Array s = state;
  std::vector<Array> ys;
  const UnitLowerInverse whole(std::min(filled, kChunk)), rest(filled % kChunk);
  for (int start = 0; start < filled; start += kChunk) {
    const int stop = std::min(filled, start + kChunk);
    const auto part = [&](const Array& a) { return mx::slice(a, 2, start, stop); };
    ys.push_back(chunk(part, start == 0 || stop - start == kChunk ? whole : rest, s));
  }
  const Array y = mx::slice(mx::concatenate(ys, 2), 2, 0, length);
  return {mx::astype(mx::swapaxes(y, 1, 2), type), s};
}

}  // namespace

Result composed::gated_delta(const Array& q, const Array& k, const Array& v, const Array& g, const Array& beta,
                             const Array& state) {
  const int length = q.dim(1), repeats = v.dim(2) / q.dim(2);
  const bool by_channel = g.ndim() == 4;
  const Array qs = repeats > 1 ? mx::repeat(q, repeats, 2) : q, ks = repeats > 1 ? mx::repeat(k, repeats, 2) : k;
  const Array factors = by_channel ? g : mx::expand_dims(g, -1), strengths = mx::expand_dims(beta, -1);
  if (length < kFewest) {
    return stepwise(length, state, q.dtype(), [&](int t, Array& s) {
      const Array key = mx::expand_dims(at(ks, t), -2);  // [B, Hv, 1, Dk]
      s = s * mx::expand_dims(at(factors, t), -2);
      const Array change = (at(v, t) - mx::sum(s * key, -1, false)) * at(strengths, t);
      s = s + key * mx::expand_dims(change, -1);
      return mx::sum(s * mx::expand_dims(at(qs, t), -2), -1, false);
    });
  }
  const Array queries = by_head(qs), keys = by_head(ks), values = by_head(v);
  const Array decays = by_head(factors, 1), rates = by_head(strengths);
  const auto chunk = [&](const auto& part, const UnitLowerInverse& inverse, Array& s) {
    const Decay decay(part(decays));
    const Array reader = part(queries), key = part(keys), rate = part(rates);
    const auto seen = Decay::Seen::after;
    const Array recalled = mx::matmul(decay.reading(key, seen), transposed(s));
    const Array changes =
        mx::matmul(inverse(rate * decay.products(key, key, seen, -1)), rate * (part(values) - recalled));
    const Array y = mx::matmul(decay.reading(reader, seen), transposed(s)) +
                    mx::matmul(decay.products(reader, key, seen, 0), changes);
    s = decay.end(s) + mx::matmul(transposed(changes), decay.writing(key));
    return y;
  };
  return chunkwise(length, queries.dim(2), state, q.dtype(), chunk);
}

Result composed::wkv7(const Array& r, const Array& w, const Array& k, const Array& v, const Array& a, const Array& b,
                      const Array& state) {
  const int length = r.dim(1);
  if (length < kFewest) {
    const auto row = [](const Array& x, int t) { return mx::expand_dims(at(x, t), -2); };     // [B, H, 1, D]
    const auto column = [](const Array& x, int t) { return mx::expand_dims(at(x, t), -1); };  // [B, H, D, 1]
    return stepwise(length, state, r.dtype(), [&](int t, Array& s) {
      const Array recalled = mx::sum(s * row(a, t), -1, true);
      s = s * row(w, t) + recalled * row(b, t) + column(v, t) * row(k, t);
      return mx::sum(s * row(r, t), -1, false);
    });
  }
  const Array readers = by_head(r), decays = by_head(w, 1), keys = by_head(k), values = by_head(v);
  const Array removed = by_head(a), replaced = by_head(b);
  const auto chunk = [&](const auto& part, const UnitLowerInverse& inverse, Array& s) {
    const Decay decay(part(decays));
    const Array reader = part(readers), key = part(keys), value = part(values);
    const Array from = part(removed), to = part(replaced);
    const auto before = Decay::Seen::before, after = Decay::Seen::after;
    const Array given = mx::matmul(decay.reading(from, before), transposed(s)) +
                        mx::matmul(decay.products(from, key, before, -1), value);
    const Array recalled = mx::matmul(inverse(-decay.products(from, to, before, -1)), given);
    const Array y = mx::matmul(decay.reading(reader, after), transposed(s)) +
                    mx::matmul(decay.products(reader, key, after, 0), value) +
                    mx::matmul(decay.products(reader, to, after, 0), recalled);
    s = decay.end(s) + mx::matmul(transposed(value), decay.writing(key)) +
        mx::matmul(transposed(recalled), decay.writing(to));
    return y;
  };
  return chunkwise(length, readers.dim(2), state, r.dtype(), chunk);
}

}  // namespace mlxk
