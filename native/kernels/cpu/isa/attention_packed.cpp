// Attention over keys and values in affine codes, a block of them at a time. Few rows multiply codes as they are
// unpacked: a lane takes a 32-bit word and shifts one code after the other to its low end; queries are brought into
// that order before, sums out of it after. Scale and bias of a group are applied to the sums of its codes. Many rows,
// and codes that do not divide words, expand a block to float32 and go on as with plain keys.

#include "kernels/cpu/isa/attention_packed.h"

#include "kernels/cpu/isa/attention_exponentials.h"
#include "kernels/cpu/isa/attention_floats.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

constexpr int kFewRows = 8;   // above it panels pay
constexpr int kMostRows = 4;  // above it expanding is cheaper than unpacking for every few rows

// Whether vectors of words make up a row.
bool in_words(const Matrix& m, int rows) {
  return (m.bits == 4 || m.bits == 8) && m.inputs % (32 / m.bits * kLanes) == 0 && rows <= kMostRows;
}

// Scales and biases of the positions of one block in float32, [count, groups].
struct Groups {
  float *scales, *biases;

  Groups(const Matrix& m, float* at) : scales(at), biases(at + size(m) / 2) {}
  static int64_t size(const Matrix& m) { return int64_t{2} * kBlock * m.groups + 2 * kLanes; }

  void widen(const Matrix& m, int first, int count) const {
    by_type(m.type, [&]<class T>(T*) {
      const T* from_scales = reinterpret_cast<const T*>(m.scales) + int64_t{first} * m.groups;
      const T* from_biases = reinterpret_cast<const T*>(m.biases) + int64_t{first} * m.groups;
      for_vectors(int64_t{count} * m.groups, [&](auto get, auto put) {
        put(scales, get(from_scales));
        put(biases, get(from_biases));
      });
    });
  }
};

// --- words of codes --------------------------------------------------------------------------------------------------

template <int kBits>
struct Words {
  static constexpr int kPerWord = 32 / kBits, kCodes = kPerWord * kLanes;  // of one vector

  explicit Words(const Matrix& m)
      : vectors(m.inputs / kCodes), m_(m), run_(m.group / kPerWord), step_(kCodes / m.group) {}

  // Numbers of a row in the order in which they are unpacked, [vector, code of the word, lane], and back.
  void order(const float* from, float* to, bool back) const {
    for (int v = 0; v < vectors; ++v) {
      for (int j = 0; j < kPerWord; ++j) {
        for (int lane = 0; lane < kLanes; ++lane) {
          const int plain = v * kCodes + lane * kPerWord + j, ordered = v * kCodes + j * kLanes + lane;
          back ? to[plain] = from[ordered] : to[ordered] = from[plain];
        }
      }
    }
  }

  U load_words(int position, int vector) const {
    return read_vector<U>(m_.data + position * m_.row_bytes + vector * kVectorBytes);
  }
  // Of every lane its group's number.
  F spread(const float* groups, int vector) const {
    return run_ >= kLanes ? splat(groups[vector * kLanes / run_]) : repeat_each(groups + vector * step_, run_);
  }
  static F code(U words, int j) { return AffineCode<kBits>::value(words >> static_cast<uint32_t>(j * kBits)); }

  int vectors;  // of a row

 private:
  const Matrix& m_;
  int run_, step_;  // words of a group; groups of a vector
};

// queries: ordered, each followed by its sums over the codes of every word.
template <int kBits, int kRows>
void score_words(const Matrix& m, const float* queries, int64_t query_step, const Groups& groups, int first, int count,
                 float* scores) {
  using W = Words<kBits>;
  const W w(m);
  for (int k = 0; k < count; ++k) {
    F totals[kRows] = {};
    for (int v = 0; v < w.vectors; ++v) {
      const U words = w.load_words(first + k, v);
      F dots[kRows] = {};
#pragma GCC unroll 8
      for (int j = 0; j < W::kPerWord; ++j) {
        const F codes = W::code(words, j);
        for (int r = 0; r < kRows; ++r) {
          dots[r] += codes * load(queries + r * query_step + (v * W::kPerWord + j) * kLanes);
        }
      }
      const F scale = w.spread(groups.scales + k * m.groups, v), bias = w.spread(groups.biases + k * m.groups, v);
      for (int r = 0; r < kRows; ++r) {
        totals[r] += dots[r] * scale + bias * load(queries + r * query_step + m.inputs + v * kLanes);
      }
    }
    for (int r = 0; r < kRows; ++r) scores[r * kBlock + k] = sum(totals[r]);
  }
}

// sums, ordered, [rows][stride] += weights [rows][count] times values.
template <int kBits, int kRows>
void add_words(const Matrix& m, const float* weights, const Groups& groups, int first, int count, float* sums,
               int64_t stride) {
  using W = Words<kBits>;
  const W w(m);
  for (int v = 0; v < w.vectors; ++v) {
    F totals[kRows][W::kPerWord] = {}, biases[kRows] = {};
    for (int k = 0; k < count; ++k) {
      const U words = w.load_words(first + k, v);
      const F scale = w.spread(groups.scales + k * m.groups, v), bias = w.spread(groups.biases + k * m.groups, v);
      F scaled[kRows];
      for (int r = 0; r < kRows; ++r) {
        const float weight = weights[r * kBlock + k];
        scaled[r] = scale * weight;
        biases[r] += bias * weight;
      }
#pragma GCC unroll 8
      for (int j = 0; j < W::kPerWord; ++j) {
        const F codes = W::code(words, j);
        for (int r = 0; r < kRows; ++r) totals[r][j] += codes * scaled[r];
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int j = 0; j < W::kPerWord; ++j) {
        float* to = sums + r * stride + (v * W::kPerWord + j) * kLanes;
        store(to, load(to) + totals[r][j] + biases[r]);
      }
    }
  }
}

// As many rows at once as have room in registers beside their sums.
template <int kBits, class Body>
void by_sums(int rows, Body body) {
  constexpr int kMost = kVectorBytes == 64 ? (kBits == 8 ? 4 : 2) : (kBits == 8 ? 2 : 1);
  int row = 0;
  if constexpr (kMost == 4) {
    for (; row + 4 <= rows; row += 4) body.template operator()<4>(row);
  }
  if constexpr (kMost >= 2) {
    for (; row + 2 <= rows; row += 2) body.template operator()<2>(row);
  }
  for (; row < rows; ++row) body.template operator()<1>(row);
}

// --- rows in float32 -------------------------------------------------------------------------------------------------

template <int kBits>
void expand(const Matrix& m, const Groups& groups, int first, int count, float* to) {
  // Codes are fetched by more bytes than they take, and the rows that follow may be read as well.
  const int64_t end = (m.outputs - first) * m.row_bytes;
  for (int row = 0; row < count; ++row) {
    const uint8_t* codes = m.data + (first + row) * m.row_bytes;
    const int64_t readable = end - row * m.row_bytes;
    for (int g = 0; g < m.groups; ++g) {
      const F scale = splat(groups.scales[row * m.groups + g]), bias = splat(groups.biases[row * m.groups + g]);
      for (int at = g * m.group; at < (g + 1) * m.group; at += kLanes) {
        store(to + at, AffineCode<kBits>::value(codes_at<kBits>(codes, readable, at)) * scale + bias);
      }
    }
    to += m.inputs;
  }
}

void expand(const Matrix& m, const Groups& groups, int first, int count, float* to) {
  switch (m.bits) {
    case 2: return expand<2>(m, groups, first, count, to);
    case 3: return expand<3>(m, groups, first, count, to);
    case 4: return expand<4>(m, groups, first, count, to);
    case 5: return expand<5>(m, groups, first, count, to);
    case 6: return expand<6>(m, groups, first, count, to);
    case 8: return expand<8>(m, groups, first, count, to);
  }
}

// --- a block of either -----------------------------------------------------------------------------------------------

// Rows of queries for words, each followed by its sums over the codes of every word; the others are `width` apart.
int64_t query_step(const Matrix& k, int rows) {
  return in_words(k, rows) ? k.inputs + k.inputs * k.bits / 32 : k.inputs;
}

template <int kBits>
void order_query(const Matrix& k, const float* from, float scale, float* to) {
  const Words<kBits> w(k);
  w.order(from, to, false);
  for (int v = 0; v < w.vectors; ++v) {
    F total = {};
    for (int j = 0; j < w.kPerWord; ++j) {
      float* at = to + (v * w.kPerWord + j) * kLanes;
      const F scaled = load(at) * scale;
      store(at, scaled);
      total += scaled;
    }
    store(to + k.inputs + v * kLanes, total);
  }
}

void prepare_query(const Matrix& k, int rows, const float* from, float scale, float* to) {
  if (!in_words(k, rows)) {
    return for_vectors(k.inputs, [&](auto get, auto put) { put(to, get(from) * scale); });
  }
  k.bits == 4 ? order_query<4>(k, from, scale, to) : order_query<8>(k, from, scale, to);
}

// Where a block is worked on.
struct Scratch {
  Scratch(const Attention& a, const Matrix& k, const Matrix& v, int rows, float* at)
      : queries(at),
        scores(queries + rows * query_step(k, rows)),
        ordered(scores + int64_t{rows} * kBlock),
        groups(ordered + v.inputs),
        expanded(groups + groups_size(k, v)),
        panel(expanded + int64_t{kBlock} * widest(a)) {}
  static int64_t size(const Attention& a, const Matrix& k, const Matrix& v, int rows) {
    return rows * (query_step(k, rows) + kBlock) + v.inputs + groups_size(k, v) +
           kBlock * (widest(a) + round_up(widest(a), kPanel));
  }
  static int64_t widest(const Attention& a) { return a.width > a.value_width ? a.width : a.value_width; }
  static int64_t groups_size(const Matrix& k, const Matrix& v) {
    return Groups::size(k) > Groups::size(v) ? Groups::size(k) : Groups::size(v);
  }
  float *queries, *scores, *ordered, *groups, *expanded, *panel;
};

void score(const Attention& a, const Matrix& k, int rows, int first, int count, const Scratch& s) {
  const Groups groups(k, s.groups);
  groups.widen(k, first, count);
  const int64_t step = query_step(k, rows);
  if (in_words(k, rows)) {
    return by_rows(rows, [&]<int kRows>(int row) {
      const auto run = k.bits == 4 ? score_words<4, kRows> : score_words<8, kRows>;
      run(k, s.queries + row * step, step, groups, first, count, s.scores + row * kBlock);
    });
  }
  expand(k, groups, first, count, s.expanded);
  if (rows > kFewRows) {
    return score_many<float>(a, s.queries, rows, s.expanded, a.width, count, s.panel, s.scores);
  }
  by_rows(rows, [&]<int kRows>(int row) {
    score_few<float, kRows>(a, s.queries + row * step, s.expanded, a.width, count, s.scores + row * kBlock);
  });
}

void add(const Attention& a, const Matrix& v, int rows, int first, int count, const Scratch& s, float* sums) {
  const int64_t stride = attention_stride(a.value_width);
  const Groups groups(v, s.groups);
  groups.widen(v, first, count);
  if (in_words(v, rows)) {
    const auto by_bits = [&]<int kBits>() {
      by_sums<kBits>(rows, [&]<int kRows>(int row) {
        add_words<kBits, kRows>(v, s.scores + row * kBlock, groups, first, count, sums + row * stride, stride);
      });
    };
    return v.bits == 4 ? by_bits.template operator()<4>() : by_bits.template operator()<8>();
  }
  expand(v, groups, first, count, s.expanded);
  if (rows > kFewRows) {
    return add_many<float>(a, s.scores, rows, s.expanded, a.value_width, count, s.panel, sums, stride);
  }
  by_rows(rows, [&]<int kRows>(int row) {
    add_few<float, kRows>(a, s.scores + row * kBlock, s.expanded, a.value_width, count, sums + row * stride, stride);
  });
}

}  // namespace

int64_t attend_packed_scratch(const Attention& a, const Matrix& k, const Matrix& v, int rows) {
  return Scratch::size(a, k, v, rows);
}

void attend_packed(const Attention& a, const Matrix& k, const Matrix& v, const float* q, int first_key, int last_key,
                   float* sums, float* largest_scores, float* totals, float* memory) {
  const int rows = a.queries * a.group;
  const int64_t stride = attention_stride(a.value_width);
  const Scratch scratch(a, k, v, rows, memory);
  for (int r = 0; r < rows; ++r) {
    prepare_query(k, rows, q + int64_t{r} * a.width, a.scale, scratch.queries + r * query_step(k, rows));
    for (int64_t at = 0; at < stride; ++at) sums[r * stride + at] = 0;
    largest_scores[r] = -__builtin_inff();
    totals[r] = 0;
  }
  for (int from = first_key; from < last_key; from += kBlock) {
    const int count = last_key - from < kBlock ? last_key - from : kBlock;
    score(a, k, rows, from, count, scratch);
    for (int r = 0; r < rows; ++r) {
      to_exponentials(a, r / a.group, from, count, scratch.scores + r * kBlock, nullptr, sums + r * stride, stride,
                      largest_scores[r], totals[r]);
    }
    add(a, v, rows, from, count, scratch, sums);
  }
  if (!in_words(v, rows)) return;
  for (int r = 0; r < rows; ++r) {
    float* row = sums + r * stride;
    __builtin_memcpy(scratch.ordered, row, static_cast<size_t>(v.inputs) * sizeof(float));
    v.bits == 4 ? Words<4>(v).order(scratch.ordered, row, true) : Words<8>(v).order(scratch.ordered, row, true);
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
