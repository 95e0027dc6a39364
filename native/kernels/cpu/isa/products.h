// The products of one instruction set; see routines.h for what each function is.

#pragma once

#include "kernels/cpu/isa/codes.h"

namespace mlxk::kernels::MLXK_ISA {

int64_t few_size(const Matrix& w);
int64_t few_scratch(const Matrix& w);
void prepare_few(const Matrix& w, const float* x, float* prepared);
bool can_round(const Matrix& w);
bool prepare_rounded(const Matrix& w, const float* x, float* prepared);
void few(const Matrix& w, const float* prepared, bool rounded, int rows, int first, int last, Results y,
         float* scratch);

// Outputs that are multiplied at a time, in lanes.
constexpr int kPanel = 2 * kLanes;
int64_t tiles_scratch(const Matrix& w, int rows);
void tiles(const Matrix& w, const float* x, int64_t x_stride, int rows, int first, int last, Results y, float* scratch);

Dots dots_for(const Matrix& w, Type x);
int64_t dots_size(Dots kind, const Matrix& w);
int64_t dots_scratch(Dots kind, const Matrix& w);
bool prepare_dots(Dots kind, const Matrix& w, const float* x, int row, uint8_t* prepared);
void dots(Dots kind, const Matrix& w, uint8_t* prepared, int rows, int first, int last, Results y, uint8_t* scratch);

bool fits_pairs(const Matrix& w);
int64_t pairs_size(const Matrix& w);
int64_t pairs_scratch(const Matrix& w);
void prepare_pairs(const Matrix& w, const float* x, int row, uint8_t* prepared);
void pairs(const Matrix& w, const uint8_t* prepared, int rows, int first, int last, const Results& y, uint8_t* scratch);

bool fits_shorts(const Matrix& w);
int64_t shorts_size(const Matrix& w);
int64_t shorts_scratch(const Matrix& w);
bool prepare_shorts(const Matrix& w, const float* x, int row, uint8_t* prepared);
void shorts(const Matrix& w, uint8_t* prepared, int rows, int first, int last, const Results& y, uint8_t* scratch);

bool fits_integers(const Matrix& w);
int64_t integer_size(const Matrix& w);
int64_t integer_scratch(const Matrix& w);
bool prepare_integers(const Matrix& w, const float* x, int row, uint8_t* prepared);
void integers(const Matrix& w, uint8_t* prepared, int rows, int first, int last, const Results& y, uint8_t* scratch);

// c [rows, kPanel] (+)= a [rows, depth] b [depth, kPanel].
void multiply_panel(const float* a, int64_t a_stride, int rows, const float* b, int64_t b_stride, int depth, float* c,
                    int64_t c_stride, bool add);

inline int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Asks for outputs [first, first + count) as far as there are, while others are multiplied: rows are short for the
// processor to notice where they lead.
inline void prefetch_rows(const Matrix& w, int first, int count) {
  const int last = w.outputs < first + count ? w.outputs : first + count;
  const auto ask = [&](const uint8_t* from, int64_t row_bytes) {
    for (int64_t at = first * row_bytes; at < last * row_bytes; at += 64) __builtin_prefetch(from + at, 0, 2);
  };
  ask(w.data, w.row_bytes);
  const int64_t scale_bytes = w.groups * (w.format == Format::affine ? size_of(w.type) : 1);
  if (w.scales) ask(w.scales, scale_bytes);
  if (w.biases) ask(w.biases, scale_bytes);
}

inline void put(const Results& y, int64_t row, int64_t column, F values, int count) {
  by_type(y.type, [&]<class T>(T*) {
    T* to = reinterpret_cast<T*>(y.data) + row * y.row_stride + column;
    count >= kLanes ? store(to, values) : store_some(to, values, count);
  });
}

}  // namespace mlxk::kernels::MLXK_ISA
