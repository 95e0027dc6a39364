// Which short numbers a matrix is multiplied in; see routines.h.

#include "kernels/cpu/isa/products.h"

namespace mlxk::kernels::MLXK_ISA {

bool fits_dots(const Matrix& w) { return fits_pairs(w) || fits_integers(w); }

int64_t dots_size(const Matrix& w) { return fits_pairs(w) ? pairs_size(w) : integer_size(w); }
int64_t dots_scratch(const Matrix& w) { return fits_pairs(w) ? pairs_scratch(w) : integer_scratch(w); }

bool prepare_dots(const Matrix& w, const float* x, int row, uint8_t* prepared) {
  if (!fits_pairs(w)) return prepare_integers(w, x, row, prepared);
  prepare_pairs(w, x, row, prepared);
  return true;
}

void dots(const Matrix& w, uint8_t* prepared, int rows, int first, int last, Results y, uint8_t* scratch) {
  fits_pairs(w) ? pairs(w, prepared, rows, first, last, y, scratch)
                : integers(w, prepared, rows, first, last, y, scratch);
}

}  // namespace mlxk::kernels::MLXK_ISA
