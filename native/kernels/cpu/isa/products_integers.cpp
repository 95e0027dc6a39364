// A matrix of codes times many rows in integers: x is rounded to 8 bits with a scale for each group of the matrix, and
// four products are summed by one instruction (AVX-512 VNNI, NEON dotprod and i8mm). The codes' middle is subtracted in
// integers, so only what lies off the middle carries x's rounding error; the rest, scale * middle + bias,
// is multiplied with the exact sum of x over the group.

#include "kernels/cpu/isa/products.h"
#include "kernels/cpu/isa/words.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

// Bits of a code as the panel holds them: those that do not divide a byte take a whole one.
int stored_bits(const Matrix& w) { return 32 % w.bits == 0 ? w.bits : 8; }
// What is added to the numbers of e2m1, taken twice, to make them positive.
constexpr int kE2M1Middle = 12;
int middle(const Matrix& w) { return w.format == Format::affine ? 1 << (w.bits - 1) : kE2M1Middle; }
// What is taken away from whole bytes where the instruction knows only signed ones.
int byte_offset(const Matrix& w) { return kSignedFours && stored_bits(w) == 8 ? 128 : 0; }

// Twelve prepared rows side by side: by fours of inputs the codes of x, then by groups its scales, its exact sums, and
// the sums of its codes times what brings those of the matrix to their middle.
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

// kLanes outputs: codes by words of all outputs, scales and biases by groups.
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
    store_bytes(to + at, codes_at<kBits>(row, w.row_bytes, at));
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
    if constexpr (kBits == 8 && kSignedFours) bytes[i] ^= 0x80808080u;
    if constexpr (kE2M1) bytes[i] = look_up(kE2M1FromZero, bytes[i]);
  }
}

// Of sixteen inputs, those whose codes `unpack` brings forth together.
Sixteen order_of_codes(int bits) {
  if (bits == 2) return {{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}};
  if (bits == 4) return {{0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15}};
  return {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
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
          uint32_t four;
          __builtin_memcpy(&four, fours + 4 * r, 4);
          products[r] = add_four_products(products[r], bytes[i], splat(four));
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
bool fits_integers(const Matrix& w) { return kMultipliesFours && w.group != 0 && w.format != Format::mxfp8; }

int64_t integer_size(const Matrix& w) { return Prepared::size(w); }
int64_t integer_scratch(const Matrix& w) { return Panel::size(w); }

bool prepare_integers(const Matrix& w, const float* x, int row, uint8_t* prepared) {
  const Prepared to(w, prepared + row / kTileRows * Prepared::size(w));
  const int slot = row % kTileRows;
  const Sixteen order = order_of_codes(stored_bits(w));
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
    I code_sums = {};
    for (int from = 0; from < w.group; from += 16) {
      Sixteen codes;
      for (int lane = 0; lane < 16; lane += kLanes) {
        const I whole = to_integers(load(group + from + lane) * inverse);
        store_bytes(codes.bytes + lane, reinterpret_cast<U>(whole));
        code_sums += whole;
      }
      codes = reordered(codes, order);
      for (int four = 0; four < 4; ++four, out += 4 * kTileRows) __builtin_memcpy(out, codes.bytes + 4 * four, 4);
    }
    const int at = g * kTileRows + slot;
    to.scales[at] = size / 127;
    to.sums[at] = exact_sum;
    to.starts[at] = (byte_offset(w) - middle(w)) * sum(code_sums);
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

}  // namespace mlxk::kernels::MLXK_ISA
