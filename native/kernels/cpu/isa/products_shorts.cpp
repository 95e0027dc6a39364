// A dense matrix of 16-bit numbers times many rows, in integers of 16 bits whose products one instruction sums two at a
// time in 32 bits (AVX-512 VNNI): twice the products of an instruction in float32. With normally distributed numbers
// the error is a thirtieth of that of rounding x to bfloat16.
//
// Numbers share a scale by groups of inputs. Those of the matrix are powers of two that leave the largest number of a
// group kMatrixBits, so bfloat16 is exact down to 2^-6 of it. Those of x make the sum of a group's sizes as large as
// sums of products with the matrix may grow in 32 bits: its largest number has 13 bits where all are of a size, and 15
// where it is far above the others.

#include "kernels/cpu/isa/products.h"
#include "kernels/cpu/isa/words.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

constexpr int kGroup = 32, kWords = kGroup / 2;
constexpr int kMatrixBits = 14;
// Rounding may add half a step for each number, and one in all where this sum itself is rounded.
constexpr float kMostSum = static_cast<float>(1 << (31 - kMatrixBits)) - kGroup / 2 - 1;
constexpr float kMostShort = 32767;

int64_t words_of_row(const Matrix& w) { return (int64_t{w.inputs} + 1) / 2; }
int64_t groups_of_row(const Matrix& w) { return (int64_t{w.inputs} + kGroup - 1) / kGroup; }

// kTileRows prepared rows side by side: the words of their numbers, and their scales by groups.
struct Prepared {
  Prepared(const Matrix& w, uint8_t* at)
      : words(reinterpret_cast<uint32_t*>(at)), scales(reinterpret_cast<float*>(words + kTileRows * words_of_row(w))) {}
  static int64_t size(const Matrix& w) { return 4 * kTileRows * (words_of_row(w) + groups_of_row(w)); }
  uint32_t* words;
  float* scales;
};

// kLanes outputs side by side, likewise.
struct Panel {
  Panel(const Matrix& w, uint8_t* scratch)
      : words(reinterpret_cast<uint32_t*>(scratch)),
        scales(reinterpret_cast<float*>(words + kLanes * round_up(words_of_row(w), kLanes))) {}
  static int64_t size(const Matrix& w) { return 4 * kLanes * (round_up(words_of_row(w), kLanes) + groups_of_row(w)); }
  uint32_t* words;
  float* scales;
};

// The integer that x is rounded to, in the low half of each lane. |x| < 2^15.
inline U to_shorts(F x) { return reinterpret_cast<U>(x + splat(0x1.8p23f)); }

// Numbers of T in words, outputs along lanes, become integers in their place.
template <class T>
void round_group(uint32_t* words, int64_t count, float* scales) {
  Shorts most = {};
  for (int64_t k = 0; k < count; ++k) {
    const Shorts sizes = read_vector<Shorts>(words + k * kLanes) & 0x7fff;
    most = sizes > most ? sizes : most;
  }
  const U both = reinterpret_cast<U>(most), low = both & 0xffff, high = both >> 16;
  const U exponent = reinterpret_cast<U>(widen_low(low > high ? low : high, static_cast<T*>(nullptr))) >> 23;
  // Below, the scale would be no normal number.
  const U at_least = exponent > kMatrixBits ? exponent : splat(uint32_t{kMatrixBits});
  const F inverse = reinterpret_cast<F>((253 + kMatrixBits - at_least) << 23);
  const F scale = reinterpret_cast<F>((at_least + 1 - kMatrixBits) << 23);
  // An output with a number that is not finite will be no number.
  store(scales, exponent == 255 ? splat(__builtin_nanf("")) : scale);
  for (int64_t k = 0; k < count; ++k, words += kLanes) {
    const U pair = read_vector<U>(words);
    const U first = to_shorts(widen_low(pair & 0xffff, static_cast<T*>(nullptr)) * inverse);
    const U second = to_shorts(widen_low(pair >> 16, static_cast<T*>(nullptr)) * inverse);
    const U rounded = (first & 0xffff) | second << 16;
    __builtin_memcpy(words, &rounded, sizeof rounded);
  }
}

void fill(const Matrix& w, int output, int count, const Panel& panel) {
  const uint8_t* rows[kLanes];
  for (int o = 0; o < kLanes; ++o) rows[o] = w.data + (output + (o < count ? o : count - 1)) * w.row_bytes;
  turn(rows, int64_t{w.inputs} * 2, panel.words);
  const int64_t words = words_of_row(w);
  float* scales = panel.scales;
  for (int64_t from = 0; from < words; from += kWords, scales += kLanes) {
    uint32_t* group = panel.words + from * kLanes;
    const int64_t here = words - from < kWords ? words - from : kWords;
    w.type == Type::bf16 ? round_group<Bf16>(group, here, scales) : round_group<F16>(group, here, scales);
  }
}

// The first kRows rows of a tile, `rows` of which are wanted.
template <int kRows>
void multiply(const Panel& panel, const Prepared& x, int64_t words, int rows, int64_t first_row, int64_t output,
              int count, const Results& y) {
  const uint32_t *w = panel.words, *pairs = x.words;
  const float *w_scales = panel.scales, *x_scales = x.scales;
  F sums[kRows] = {};
  for (; words > 0; words -= kWords, w_scales += kLanes, x_scales += kTileRows) {
    I products[kRows] = {};
    for (int64_t left = words < kWords ? words : kWords; left > 0; --left, w += kLanes, pairs += kTileRows) {
      const U word = read_vector<U>(w);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) products[r] = add_products(products[r], word, splat(pairs[r]));
    }
    const F scale = load(w_scales);
    // In this order, as the product of the scales alone may be too small a number.
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) sums[r] += __builtin_convertvector(products[r], F) * x_scales[r] * scale;
  }
  // Unrolled, so that sums are in registers alone.
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    if (r < rows) put(y, first_row + r, output, sums[r], count);
  }
}

}  // namespace

bool fits_shorts(const Matrix& w) { return kMultipliesShorts && w.format == Format::dense && w.type != Type::f32; }

int64_t shorts_size(const Matrix& w) { return Prepared::size(w); }
int64_t shorts_scratch(const Matrix& w) { return Panel::size(w); }

bool prepare_shorts(const Matrix& w, const float* x, int row, uint8_t* prepared) {
  const Prepared to(w, prepared + row / kTileRows * Prepared::size(w));
  uint32_t* words = to.words + row % kTileRows;
  float* scales = to.scales + row % kTileRows;
  for (int from = 0; from < w.inputs; from += kGroup, scales += kTileRows) {
    alignas(kVectorBytes) float group[kGroup] = {};
    const int count = w.inputs - from < kGroup ? w.inputs - from : kGroup;
    __builtin_memcpy(group, x + from, static_cast<size_t>(count) * sizeof(float));
    F most = {}, total = {};
    for (int i = 0; i < kGroup; i += kLanes) {
      const F size = absolute(load(group + i));
      most = most_of(most, size);
      total += size;
    }
    const float size = largest(most), all = sum(total);
    float inverse = 0;
    if (!(all == 0)) {
      const float by_size = kMostShort / size, by_sum = kMostSum / all;
      inverse = by_size < by_sum ? by_size : by_sum;
      // Not finite, or too small or large for the inverse to be a normal number.
      if (!(inverse >= 0x1p-126f && inverse <= 0x1p126f)) return false;
    }
    *scales = all == 0 ? 0 : 1 / inverse;
    alignas(kVectorBytes) uint32_t shorts[kGroup];
    for (int i = 0; i < kGroup; i += kLanes) {
      const U rounded = to_shorts(load(group + i) * inverse);
      __builtin_memcpy(shorts + i, &rounded, sizeof rounded);
    }
    for (int i = 0; i < count; i += 2, words += kTileRows) *words = (shorts[i] & 0xffff) | shorts[i + 1] << 16;
  }
  return true;
}

void shorts(const Matrix& w, uint8_t* prepared, int rows, int first, int last, const Results& y, uint8_t* scratch) {
  const Panel panel(w, scratch);
  const int64_t words = words_of_row(w);
  for (int output = first; output < last; output += kLanes) {
    const int count = last - output < kLanes ? last - output : kLanes;
    fill(w, output, count, panel);
    prefetch_rows(w, output + kLanes, kLanes);
    for (int from = 0; from < rows; from += kTileRows) {
      const Prepared x(w, prepared + from / kTileRows * Prepared::size(w));
      const int here = rows - from < kTileRows ? rows - from : kTileRows;
      // Sums of fewer than four rows would wait for each other.
      const auto multiply_tile = here > 8 ? multiply<12> : here > 4 ? multiply<8> : multiply<4>;
      multiply_tile(panel, x, words, here, from, output, count, y);
    }
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
