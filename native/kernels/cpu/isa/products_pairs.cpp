// A dense matrix of bfloat16 times many rows of it: two products at a time, exact, summed in float32.

#include "kernels/cpu/isa/products.h"
#include "kernels/cpu/isa/words.h"

namespace mlxk::kernels::MLXK_ISA {
namespace {

int64_t words_of_row(const Matrix& w) { return (int64_t{w.inputs} + 1) / 2; }

}  // namespace

bool fits_pairs(const Matrix& w) { return kMultipliesPairs && w.format == Format::dense && w.type == Type::bf16; }

int64_t pairs_size(const Matrix& w) { return 4 * kTileRows * words_of_row(w); }
int64_t pairs_scratch(const Matrix& w) { return 4 * kLanes * round_up(words_of_row(w), kLanes); }

// The words of a tile's rows side by side.
void prepare_pairs(const Matrix& w, const float* x, int row, uint8_t* prepared) {
  auto* to = reinterpret_cast<uint32_t*>(prepared + row / kTileRows * pairs_size(w)) + row % kTileRows;
  const auto bits = [&](int i) { return i < w.inputs ? __builtin_bit_cast(uint32_t, x[i]) : 0; };
  for (int i = 0; i < w.inputs; i += 2, to += kTileRows) *to = bits(i) >> 16 | (bits(i + 1) & 0xffff0000u);
}

void pairs(const Matrix& w, const uint8_t* prepared, int rows, int first, int last, const Results& y,
           uint8_t* scratch) {
  auto* panel = reinterpret_cast<uint32_t*>(scratch);
  const int64_t words = words_of_row(w);
  for (int output = first; output < last; output += kLanes) {
    const int count = last - output < kLanes ? last - output : kLanes;
    const uint8_t* outputs[kLanes];
    for (int o = 0; o < kLanes; ++o) outputs[o] = w.data + (output + (o < count ? o : count - 1)) * w.row_bytes;
    turn(outputs, int64_t{w.inputs} * 2, panel);
    prefetch_rows(w, output + kLanes, kLanes);
    for (int from = 0; from < rows; from += kTileRows) {
      const auto* tile = reinterpret_cast<const uint32_t*>(prepared + from / kTileRows * pairs_size(w));
      by_tile_rows(rows - from < kTileRows ? rows - from : kTileRows, [&]<int kRows>(int row) {
        F sums[kRows] = {};
        multiply_pairs<1, kTileRows>(tile + row, panel, kLanes, words, sums);
        for (int r = 0; r < kRows; ++r) put(y, from + row + r, output, sums[r], count);
      });
    }
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
