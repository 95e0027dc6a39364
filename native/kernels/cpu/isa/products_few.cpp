// A matrix times few rows, as in decoding: bound by reading the matrix, so each code is read once and unpacked in
// registers. A lane takes a 32-bit word of codes and shifts one after the other to its low end; x is brought into that
// order beforehand. Codes of 3, 5 and 6 bits do not divide words and are unpacked in their own order.
//
// Where x was of 16 bits its rows are rounded to integers of 16 bits, with a scale for each group: two products are
// then one operation, and what is lost, 2^-16 of the largest of a group, is far below what x itself resolves.

#include "kernels/cpu/isa/products.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

// Codes in a word of one lane; 1 where codes keep their order.
int per_word(const Matrix& w) { return w.group == 0 || 32 % w.bits != 0 ? 1 : 32 / w.bits; }

int64_t padded_inputs(const Matrix& w) { return round_up(w.inputs, int64_t{per_word(w)} * kLanes); }
int64_t padded_groups(const Matrix& w) { return round_up(w.groups, kLanes); }

// What every output of a matrix has in common.
struct Plan {
  explicit Plan(const Matrix& matrix, const float* x)
      : w(matrix),
        prepared(x),
        x_stride(few_size(matrix)),
        x_sums(prepared + padded_inputs(matrix)),
        x_scales(x_sums + padded_groups(matrix)),
        groups(padded_groups(matrix)) {}
  const Matrix& w;
  const float* prepared;
  int64_t x_stride;                // from one prepared row to the next
  const float *x_sums, *x_scales;  // by groups; scales of rounded rows alone
  int64_t groups;                  // padded
};

// The matrix is asked for so many bytes before it is used: rows are short for the processor to notice where they lead.
// Into the second-level cache, since the first waits for few lines at a time: that made reading 1.4 times as fast.
constexpr int64_t kAhead = 8192;

// Outputs of one product call, gathered and written a vector at a time.
class Writer {
 public:
  Writer(const Results& y, int rows) : y_(y), rows_(rows) {}
  ~Writer() { flush(); }

  void add(const float* sums, int output) {  // sums [rows]
    if (count_ == 0) first_ = output;
    for (int r = 0; r < rows_; ++r) buffer_[r][count_] = sums[r];
    if (++count_ == kLanes) flush();
  }

 private:
  void flush() {
    if (count_ == 0) return;
    for (int r = 0; r < rows_; ++r) put(y_, r, first_, load(buffer_[r]), count_);
    count_ = 0;
  }

  const Results& y_;
  int rows_, first_ = 0, count_ = 0;
  float buffer_[4][kLanes] = {};
};

template <int kRows, int kOutputs>
inline void add_biases(const Plan& p, const float* biases, F (&totals)[kOutputs][kRows]) {
  const int64_t x_stride = p.x_stride, groups = p.groups;
  const float* x_sums = p.x_sums;
  for (int64_t g = 0; g < groups; g += kLanes) {
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      const F bias = load(biases + o * groups + g);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) totals[o][r] += bias * load(x_sums + r * x_stride + g);
    }
  }
}

// Rows of codes that words divide into.
template <class Code, int kPerWord, int kRows, int kOutputs>
void words(const Plan& p, int output, const float* scales, const float* biases, F (&sums)[kOutputs][kRows]) {
  const Matrix& w = p.w;
  const float* prepared = p.prepared;
  const int64_t x_stride = p.x_stride, groups = p.groups, row_bytes = w.row_bytes;
  constexpr int kBits = 32 / kPerWord, kBlock = kPerWord * kLanes;
  const int run = w.group / kPerWord;  // lanes of one group
  const int count = w.inputs / kPerWord;
  const uint8_t* rows = w.data + output * row_bytes;
  F totals[kOutputs][kRows] = {};
  int64_t group = 0;
  for (int word = 0, in_group = 0; word < count; word += kLanes) {
    U codes[kOutputs];
    if (word + kLanes <= count) {
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        const uint8_t* from = rows + o * row_bytes + 4 * word;
        codes[o] = read_vector<U>(from);
        __builtin_prefetch(from + kAhead, 0, 2);
      }
    } else {
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        uint32_t rest[kLanes] = {};
        __builtin_memcpy(rest, rows + o * row_bytes + 4 * word, static_cast<size_t>(4 * (count - word)));
        codes[o] = read_vector<U>(rest);
      }
    }
    F part[kOutputs][kRows] = {};
    const float* x = prepared + static_cast<int64_t>(word) * kPerWord;
#pragma GCC unroll 16
    for (int j = 0; j < kPerWord; ++j) {
      F values[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) values[r] = load(x + r * x_stride + j * kLanes);
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        const F number = Code::value(codes[o] >> (kBits * j));
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) part[o][r] += number * values[r];
      }
    }
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      const F scale = repeat_each(scales + o * groups + group, run);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) totals[o][r] += part[o][r] * scale;
    }
    if (w.group <= kBlock) {
      group += kBlock / w.group;
    } else if ((in_group += kBlock) == w.group) {
      in_group = 0;
      ++group;
    }
  }
  if (biases) add_biases(p, biases, totals);
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[o][r] = totals[o][r];
  }
}

// Two codes of a word, `shift` bits up in each of its halves, as 16-bit numbers.
template <int kBits, bool kE2M1>
inline U pair_of(U word, int shift) {
  constexpr uint32_t kMask = 0x00010001u * ((1u << kBits) - 1);
  const U codes = word >> shift & kMask;
  if constexpr (kE2M1) return look_up(kE2M1FromZero, codes | 0x80008000u);  // the upper bytes become zero
  return codes;
}

// `words` for rounded rows.
template <int kBits, bool kE2M1, int kRows, int kOutputs>
void rounded_words(const Plan& p, int output, const float* scales, const float* biases, F (&sums)[kOutputs][kRows]) {
  const Matrix& w = p.w;
  const int64_t x_stride = p.x_stride, groups = p.groups, row_bytes = w.row_bytes;
  constexpr int kPerWord = 32 / kBits, kBlock = kPerWord * kLanes, kPairs = kPerWord / 2;
  const int run = w.group / kPerWord;  // lanes of one group
  const int count = w.inputs / kPerWord;
  const uint8_t* rows = w.data + output * row_bytes;
  F totals[kOutputs][kRows] = {};
  int64_t group = 0;
  for (int word = 0, in_group = 0; word < count; word += kLanes) {
    U codes[kOutputs];
    if (word + kLanes <= count) {
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        const uint8_t* from = rows + o * row_bytes + 4 * word;
        codes[o] = read_vector<U>(from);
        __builtin_prefetch(from + kAhead, 0, 2);
      }
    } else {
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        uint32_t rest[kLanes] = {};
        __builtin_memcpy(rest, rows + o * row_bytes + 4 * word, static_cast<size_t>(4 * (count - word)));
        codes[o] = read_vector<U>(rest);
      }
    }
    I part[kOutputs][kRows] = {};
    const float* x = p.prepared + static_cast<int64_t>(word) * kPairs;
#pragma GCC unroll 8
    for (int j = 0; j < kPairs; ++j) {
      U values[kRows];
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) values[r] = read_vector<U>(x + r * x_stride + j * kLanes);
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        const U pair = pair_of<kBits, kE2M1>(codes[o], kBits * j);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) part[o][r] = add_products(part[o][r], pair, values[r]);
      }
    }
    F x_scale[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) x_scale[r] = repeat_each(p.x_scales + r * x_stride + group, run);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      const F scale = repeat_each(scales + o * groups + group, run);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        totals[o][r] += __builtin_convertvector(part[o][r], F) * (scale * x_scale[r]);
      }
    }
    if (w.group <= kBlock) {
      group += kBlock / w.group;
    } else if ((in_group += kBlock) == w.group) {
      in_group = 0;
      ++group;
    }
  }
  add_biases(p, biases, totals);
#pragma GCC unroll 4
  for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[o][r] = totals[o][r];
  }
}

// Rows of codes of 3, 5 and 6 bits.
template <int kBits, int kRows, int kOutputs>
void in_order(const Plan& p, int output, const float* scales, const float* biases, F (&sums)[kOutputs][kRows]) {
  const Matrix& w = p.w;
  const float* prepared = p.prepared;
  const int64_t x_stride = p.x_stride, groups = p.groups, row_bytes = w.row_bytes;
  const uint8_t* rows = w.data + output * row_bytes;
  F totals[kOutputs][kRows] = {};
  for (int g = 0; g < w.groups; ++g) {
    F part[kOutputs][kRows] = {};
    for (int at = g * w.group; at < (g + 1) * w.group; at += kLanes) {
#pragma GCC unroll 4
      for (int o = 0; o < kOutputs; ++o) {
        const uint8_t* row = rows + o * row_bytes;
        __builtin_prefetch(row + at * kBits / 8 + kAhead, 0, 2);
        const F number = AffineCode<kBits>::value(codes_at<kBits>(row, row_bytes, at));
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) part[o][r] += number * load(prepared + r * x_stride + at);
      }
    }
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) totals[o][r] += part[o][r] * scales[o * groups + g];
    }
  }
  add_biases(p, biases, totals);
  for (int o = 0; o < kOutputs; ++o) {
    for (int r = 0; r < kRows; ++r) sums[o][r] = totals[o][r];
  }
}

template <class T, int kRows, int kOutputs>
void dense(const Plan& p, int output, F (&sums)[kOutputs][kRows]) {
  const Matrix& w = p.w;
  const float* prepared = p.prepared;
  const int64_t x_stride = p.x_stride;
  const int64_t step = w.row_bytes / static_cast<int64_t>(sizeof(T));
  const T* rows = reinterpret_cast<const T*>(w.data + output * w.row_bytes);
  F totals[kOutputs][kRows] = {};
  int at = 0;
  const auto add = [&](auto read) {
    F values[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) values[r] = load(prepared + r * x_stride + at);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) {
      const F number = read(rows + o * step + at);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) totals[o][r] += number * values[r];
    }
  };
  for (; at + kLanes <= w.inputs; at += kLanes) {
    add([](const T* from) {
      __builtin_prefetch(reinterpret_cast<const uint8_t*>(from) + kAhead, 0, 2);
      return load(from);
    });
  }
  if (at < w.inputs) add([&](const T* from) { return load_some(from, w.inputs - at); });
  for (int o = 0; o < kOutputs; ++o) {
    for (int r = 0; r < kRows; ++r) sums[o][r] = totals[o][r];
  }
}

template <int kRows, int kOutputs>
void multiply_rounded(const Plan& p, int output, float* scratch, F (&sums)[kOutputs][kRows]) {
  const Matrix& w = p.w;
  const int64_t groups = p.groups;
  float *scales = scratch, *biases = scratch + kOutputs * groups;
  for (int o = 0; o < kOutputs; ++o) {
    widen_scales(w, w.scales, output + o, scales + o * groups);
    if (w.format == Format::affine) widen_scales(w, w.biases, output + o, biases + o * groups);
  }
  if (w.format != Format::affine) {
    for (int64_t i = 0; i < kOutputs * groups; ++i) {  // see pair_of
      scales[i] *= 0.5f;
      biases[i] = -12.0f * scales[i];
    }
    return rounded_words<4, true>(p, output, scales, biases, sums);
  }
  switch (w.bits) {
    case 2: return rounded_words<2, false>(p, output, scales, biases, sums);
    case 4: return rounded_words<4, false>(p, output, scales, biases, sums);
    default: return rounded_words<8, false>(p, output, scales, biases, sums);
  }
}

template <int kRows, int kOutputs>
void multiply(const Plan& p, int output, float* scratch, F (&sums)[kOutputs][kRows]) {
  const Matrix& w = p.w;
  if (w.format == Format::dense) {
    return by_type(w.type, [&]<class T>(T*) { dense<T>(p, output, sums); });
  }
  const int64_t groups = p.groups;
  float *scales = scratch, *biases = w.biases ? scratch + kOutputs * groups : nullptr;
  for (int o = 0; o < kOutputs; ++o) {
    widen_scales(w, w.scales, output + o, scales + o * groups);
    if (biases) widen_scales(w, w.biases, output + o, biases + o * groups);
  }
  if (w.format == Format::mxfp8) return words<E4M3Code, 4>(p, output, scales, biases, sums);
  if (w.format != Format::affine) return words<E2M1Code, 8>(p, output, scales, biases, sums);
  switch (w.bits) {
    case 2: return words<AffineCode<2>, 16>(p, output, scales, biases, sums);
    case 4: return words<AffineCode<4>, 8>(p, output, scales, biases, sums);
    case 8: return words<AffineCode<8>, 4>(p, output, scales, biases, sums);
    case 3: return in_order<3>(p, output, scales, biases, sums);
    case 5: return in_order<5>(p, output, scales, biases, sums);
    case 6: return in_order<6>(p, output, scales, biases, sums);
  }
}

template <bool kRounded, int kRows, int kOutputs>
void some_outputs(const Plan& p, int output, float* scratch, Writer& writer) {
  F sums[kOutputs][kRows];
  if constexpr (kRounded) {
    multiply_rounded(p, output, scratch, sums);
  } else {
    multiply(p, output, scratch, sums);
  }
  for (int o = 0; o < kOutputs; ++o) {
    float totals[kRows];
    for (int r = 0; r < kRows; ++r) totals[r] = sum(sums[o][r]);
    writer.add(totals, output + o);
  }
}

template <bool kRounded, int kRows, int kOutputs>
void few_rows(const Matrix& w, const float* prepared, int first, int last, const Results& y, float* scratch) {
  Writer writer(y, kRows);
  const Plan plan(w, prepared);
  int o = first;
  for (; o + kOutputs <= last; o += kOutputs) some_outputs<kRounded, kRows, kOutputs>(plan, o, scratch, writer);
  for (; o < last; ++o) some_outputs<kRounded, kRows, 1>(plan, o, scratch, writer);
}

template <bool kRounded>
void few_of(const Matrix& w, const float* prepared, int rows, int first, int last, const Results& y, float* scratch) {
  switch (rows) {
    case 1: return few_rows<kRounded, 1, 4>(w, prepared, first, last, y, scratch);
    case 2: return few_rows<kRounded, 2, 4>(w, prepared, first, last, y, scratch);
    default: return few_rows<kRounded, 4, 2>(w, prepared, first, last, y, scratch);
  }
}

}  // namespace

int64_t few_size(const Matrix& w) { return padded_inputs(w) + 2 * padded_groups(w); }
int64_t few_scratch(const Matrix& w) { return 8 * padded_groups(w); }

bool can_round(const Matrix& w) {
  if (w.format == Format::affine) return 32 % w.bits == 0;
  return kLooksUp && (w.format == Format::mxfp4 || w.format == Format::nvfp4);
}

void prepare_few(const Matrix& w, const float* x, float* prepared) {
  const int words = per_word(w), block = words * kLanes;
  for (int first = 0; first < w.inputs; first += block) {
    for (int j = 0; j < words; ++j) {
      for (int lane = 0; lane < kLanes; ++lane) {
        const int at = first + lane * words + j;
        prepared[first + j * kLanes + lane] = at < w.inputs ? x[at] : 0.0f;
      }
    }
  }
  float* sums = prepared + padded_inputs(w);
  for (int64_t g = 0; g < padded_groups(w); ++g) {
    F total = {};
    if (g < w.groups) {
      for (int64_t at = g * w.group; at < (g + 1) * w.group; at += kLanes) total += load(x + at);
    }
    sums[g] = sum(total);
  }
}

namespace {

// Integers in the order of inputs to that of `rounded_words`: input i of a word is half i / kPairs of pair i % kPairs.
template <int kWords>
void pair_up(const uint16_t* ordered, int64_t count, float* to) {
  constexpr int kPairs = kWords / 2;
  for (int64_t first = 0; first < count; first += kWords * kLanes) {
    for (int j = 0; j < kPairs; ++j) {
      uint32_t pairs[kLanes];
      for (int lane = 0; lane < kLanes; ++lane) {
        const uint16_t* word = ordered + first + lane * kWords + j;
        pairs[lane] = word[0] | static_cast<uint32_t>(word[kPairs]) << 16;
      }
      __builtin_memcpy(to + first / 2 + j * kLanes, pairs, sizeof pairs);
    }
  }
}

}  // namespace

bool prepare_rounded(const Matrix& w, const float* x, float* prepared) {
  constexpr float kSteps = 32767;
  const int64_t inputs = padded_inputs(w);
  float* sums = prepared + inputs;
  float* scales = sums + padded_groups(w);
  auto* ordered = reinterpret_cast<uint16_t*>(prepared + inputs / 2);  // behind the pairs that they become
  __builtin_memset(ordered + w.inputs, 0, static_cast<size_t>(inputs - w.inputs) * sizeof *ordered);
  for (int64_t g = 0; g < padded_groups(w); ++g) {
    if (g >= w.groups) {
      sums[g] = scales[g] = 0;
      continue;
    }
    F most = {}, total = {};
    for (int64_t at = g * w.group; at < (g + 1) * w.group; at += kLanes) {
      const F v = load(x + at);
      most = most_of(most, absolute(v));
      total += v;
    }
    const float size = largest(most), inverse = size > 0 ? kSteps / size : 0;
    sums[g] = sum(total);
    scales[g] = size / kSteps;
    if (sums[g] - sums[g] != 0 || inverse - inverse != 0) return false;
    I whole_sum = {};
    for (int64_t at = g * w.group; at < (g + 1) * w.group; at += kLanes) {
      const I whole = to_integers(load(x + at) * inverse);
      whole_sum += whole;
      const Halves halves = __builtin_convertvector(reinterpret_cast<U>(whole), Halves);
      __builtin_memcpy(ordered + at, &halves, sizeof halves);
    }
    // What pair_of adds to e2m1 is taken away from the very integers it was multiplied with.
    if (w.format != Format::affine) sums[g] = sum(__builtin_convertvector(whole_sum, F)) * scales[g];
  }
  switch (per_word(w)) {
    case 16: pair_up<16>(ordered, inputs, prepared); break;
    case 8: pair_up<8>(ordered, inputs, prepared); break;
    default: pair_up<4>(ordered, inputs, prepared); break;
  }
  return true;
}

void few(const Matrix& w, const float* prepared, bool rounded, int rows, int first, int last, Results y,
         float* scratch) {
  rounded ? few_of<true>(w, prepared, rows, first, last, y, scratch)
          : few_of<false>(w, prepared, rows, first, last, y, scratch);
}

}  // namespace mlxk::kernels::MLXK_ISA
