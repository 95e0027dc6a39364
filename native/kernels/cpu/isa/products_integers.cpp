// A matrix of codes times many rows in integers: x is rounded to 8 bits with a scale for each group of the matrix, and
// four products are summed by one instruction (AVX-512 VNNI: unsigned codes times signed x). The codes' middle is
// subtracted in integers, so only what lies off the middle carries x's rounding error; the rest, scale * middle + bias,
// is multiplied with the exact sum of x over the group.

#include "kernels/cpu/isa/products.h"
#include "kernels/cpu/isa/words.h"

namespace mlxk::kernels::MLXK_ISA {

#if !defined(__AVX512VNNI__)

bool fits_integers(const Matrix&) { return false; }
int64_t integer_size(const Matrix&) { return 0; }
int64_t integer_scratch(const Matrix&) { return 0; }
bool prepare_integers(const Matrix&, const float*, int, uint8_t*) { return false; }
void integers(const Matrix&, uint8_t*, int, int, int, const Results&, uint8_t*) {}

#else

namespace {

// Bits of a code as the panel holds them: those that do not divide a byte take a whole one.
int stored_bits(const Matrix& w) { return 32 % w.bits == 0 ? w.bits : 8; }
// What is added to the numbers of e2m1, taken twice, to make them positive.
constexpr int kE2M1Middle = 12;
int middle(const Matrix& w) { return w.format == Format::affine ? 1 << (w.bits - 1) : kE2M1Middle; }

// Twelve prepared rows side by side: by fours of inputs the codes of x, then by groups its scales, its exact sums, and
// -middle times the sums of its codes.
struct Prepared {
  Prepared(const Matrix& w, uint8_t* at)
      : codes(reinterpret_cast<int8_t*>(at)),
        scales(reinterpret_cast<float*>(at + int64_t{kTileRows} * w.inputs)),
        sums(scales + kTileRows * w.groups),
        starts(reinterpret_cast<int32_t*>(sums + kTileRows * w.groups)) {}
  static int64_t size(const Matrix& w) { return int64_t{kTileRows} * (w.inputs + 12 * w.groups); }
  int8_t* codes;
  float *scales, *sums;
  int32_t* starts;
};

// Sixteen outputs: codes by words of all outputs, scales and biases by groups.
struct Panel {
  Panel(const Matrix& w, uint8_t* scratch)
      : words(reinterpret_cast<uint32_t*>(scratch)),
        scales(reinterpret_cast<float*>(words + kLanes * word_count(w))),
        biases(scales + kLanes * round_up(w.groups, kLanes)),
        rows(biases + kLanes * round_up(w.groups, kLanes)) {}
  static int64_t word_count(const Matrix& w) { return round_up(int64_t{w.inputs} * stored_bits(w) / 32, kLanes); }
  static int64_t size(const Matrix& w) {
    return 4 * (kLanes * word_count(w) + 3 * kLanes * round_up(w.groups, kLanes) + kLanes * round_up(w.inputs, 64) / 4);
  }
  uint32_t* words;
  float *scales, *biases, *rows;
};

template <int kBits>
void to_bytes(const Matrix& w, int output, uint8_t* to) {
  const uint8_t* row = w.data + output * w.row_bytes;
  for (int at = 0; at < w.inputs; at += kLanes) {
    const __m128i bytes = _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(codes_at<kBits>(row, w.row_bytes, at)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + at), bytes);
  }
}

void fill(const Matrix& w, int output, int count, Panel& panel) {
  const uint8_t* rows[kLanes];
  uint8_t* bytes = reinterpret_cast<uint8_t*>(panel.rows + kLanes * round_up(w.groups, kLanes));
  for (int o = 0; o < kLanes; ++o) {
    const int from = output + (o < count ? o : count - 1);
    rows[o] = w.data + from * w.row_bytes;
    if (stored_bits(w) != w.bits) {
      uint8_t* to = bytes + o * round_up(w.inputs, 64);
      if (w.bits == 3) to_bytes<3>(w, from, to);
      if (w.bits == 5) to_bytes<5>(w, from, to);
      if (w.bits == 6) to_bytes<6>(w, from, to);
      rows[o] = to;
    }
  }
  turn(rows, int64_t{w.inputs} * stored_bits(w) / 8, panel.words);

  const int64_t padded = round_up(w.groups, kLanes);
  const auto lay_out = [&](const uint8_t* from, float* to) {
    for (int o = 0; o < kLanes; ++o) {
      float* row = panel.rows + o * padded;
      widen_scales(w, from, output + (o < count ? o : count - 1), row);
      rows[o] = reinterpret_cast<const uint8_t*>(row);
    }
    turn(rows, 4 * padded, reinterpret_cast<uint32_t*>(to));
  };
  lay_out(w.scales, panel.scales);
  if (w.format != Format::affine) {
    for (int i = 0; i < w.groups * kLanes; ++i) panel.scales[i] *= 0.5f;  // the codes are twice the numbers
    return;
  }
  lay_out(w.biases, panel.biases);
  for (int i = 0; i < w.groups * kLanes; ++i) panel.biases[i] += panel.scales[i] * static_cast<float>(middle(w));
}

// A word's codes, four at a time, as bytes; x was prepared in the same order.
template <int kBits, bool kE2M1>
inline void unpack(U word, U (&bytes)[8 / kBits]) {
  for (int i = 0; i < 8 / kBits; ++i) {
    bytes[i] = kBits == 8 ? word : word >> (kBits * i) & (0x01010101u * ((1u << kBits) - 1));
    if constexpr (kE2M1) {
      const __m512i doubled =
          _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
      bytes[i] = reinterpret_cast<U>(_mm512_shuffle_epi8(doubled, reinterpret_cast<__m512i>(bytes[i])));
    }
  }
}

// Of sixteen inputs, those whose codes `unpack` brings forth together.
__m128i order_of_codes(int bits) {
  if (bits == 2) return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  if (bits == 4) return _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// Rows [row, row + kRows) of twelve.
template <int kBits, bool kE2M1, int kRows>
void multiply(const Matrix& w, const Panel& panel, const Prepared& x, int row, int64_t first_row, int64_t output,
              int count, const Results& y) {
  constexpr int kParts = 8 / kBits;
  const int words = w.group * kBits / 32, groups = w.groups;
  const uint32_t* codes = panel.words;
  const int8_t* fours = x.codes + 4 * row;
  F sums[kRows] = {};
  for (int g = 0; g < groups; ++g) {
    const int at = g * kTileRows + row;
    I products[kRows];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) products[r] = I{} + x.starts[at + r];
    for (int word = 0; word < words; ++word, codes += kLanes) {
      U bytes[kParts];
      unpack<kBits, kE2M1>(read_vector<U>(codes), bytes);
#pragma GCC unroll 4
      for (int i = 0; i < kParts; ++i, fours += 4 * kTileRows) {
#pragma GCC unroll 12
        for (int r = 0; r < kRows; ++r) {
          int32_t four;
          __builtin_memcpy(&four, fours + 4 * r, 4);
          products[r] = reinterpret_cast<I>(_mm512_dpbusd_epi32(
              reinterpret_cast<__m512i>(products[r]), reinterpret_cast<__m512i>(bytes[i]), _mm512_set1_epi32(four)));
        }
      }
    }
    const F scale = load(panel.scales + g * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      sums[r] += __builtin_convertvector(products[r], F) * (scale * x.scales[at + r]);
    }
    if constexpr (!kE2M1) {
      const F bias = load(panel.biases + g * kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) sums[r] += bias * x.sums[at + r];
    }
  }
  for (int r = 0; r < kRows; ++r) put(y, first_row + row + r, output, sums[r], count);
}

template <int kBits, bool kE2M1>
void multiply_all(const Matrix& w, const Panel& panel, uint8_t* prepared, int rows, int64_t output, int count,
                  const Results& y) {
  for (int64_t first = 0; first < rows; first += kTileRows, prepared += Prepared::size(w)) {
    const Prepared x(w, prepared);
    const int here = rows - first < kTileRows ? static_cast<int>(rows - first) : kTileRows;
    int row = 0;
    if (here == kTileRows) {
      multiply<kBits, kE2M1, kTileRows>(w, panel, x, 0, first, output, count, y);
      continue;
    }
    for (; row + 4 <= here; row += 4) multiply<kBits, kE2M1, 4>(w, panel, x, row, first, output, count, y);
    for (; row < here; ++row) multiply<kBits, kE2M1, 1>(w, panel, x, row, first, output, count, y);
  }
}

}  // namespace

// Codes of e4m3 are no integers.
bool fits_integers(const Matrix& w) { return w.group != 0 && w.format != Format::mxfp8; }

int64_t integer_size(const Matrix& w) { return Prepared::size(w); }
int64_t integer_scratch(const Matrix& w) { return Panel::size(w); }

bool prepare_integers(const Matrix& w, const float* x, int row, uint8_t* prepared) {
  const Prepared to(w, prepared + row / kTileRows * Prepared::size(w));
  const int slot = row % kTileRows;
  const __m128i order = order_of_codes(stored_bits(w));
  for (int g = 0; g < w.groups; ++g) {
    const float* group = x + int64_t{g} * w.group;
    F most = {}, total = {};
    for (int at = 0; at < w.group; at += kLanes) {
      const F v = load(group + at);
      most = most_of(most, absolute(v));
      total += v;
    }
    const float size = largest(most), inverse = size > 0 ? 127 / size : 0, exact_sum = sum(total);
    if (exact_sum - exact_sum != 0 || inverse - inverse != 0) return false;
    int8_t* out = to.codes + int64_t{g} * w.group * kTileRows + 4 * slot;
    __m512i code_sums = _mm512_setzero_si512();
    for (int at = 0; at < w.group; at += kLanes) {
      const __m512i whole = _mm512_cvtps_epi32(load(group + at) * inverse);
      code_sums = _mm512_add_epi32(code_sums, whole);
      int32_t fours[4];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(fours), _mm_shuffle_epi8(_mm512_cvtsepi32_epi8(whole), order));
      for (const int32_t four : fours) {
        __builtin_memcpy(out, &four, 4);
        out += 4 * kTileRows;
      }
    }
    const int at = g * kTileRows + slot;
    to.scales[at] = size / 127;
    to.sums[at] = exact_sum;
    to.starts[at] = -middle(w) * _mm512_reduce_add_epi32(code_sums);
  }
  return true;
}

void integers(const Matrix& w, uint8_t* prepared, int rows, int first, int last, const Results& y, uint8_t* scratch) {
  Panel panel(w, scratch);
  for (int output = first; output < last; output += kLanes) {
    const int count = last - output < kLanes ? last - output : kLanes;
    fill(w, output, count, panel);
    prefetch_rows(w, output + kLanes, kLanes);
    if (w.format != Format::affine) {
      multiply_all<4, true>(w, panel, prepared, rows, output, count, y);
    } else if (stored_bits(w) == 2) {
      multiply_all<2, false>(w, panel, prepared, rows, output, count, y);
    } else if (stored_bits(w) == 4) {
      multiply_all<4, false>(w, panel, prepared, rows, output, count, y);
    } else {
      multiply_all<8, false>(w, panel, prepared, rows, output, count, y);
    }
  }
}

#endif

}  // namespace mlxk::kernels::MLXK_ISA
