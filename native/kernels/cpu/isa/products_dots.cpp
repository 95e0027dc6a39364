// Which short numbers rows are multiplied in; see routines.h.

#include "kernels/cpu/isa/products.h"

namespace mlxk::kernels::MLXK_ISA {

Dots dots_for(const Matrix& w, Type x) {
  if (x != Type::f32 && fits_integers(w)) return Dots::integers;
  if (x == Type::bf16 && fits_pairs(w)) return Dots::pairs;
  return fits_shorts(w) ? Dots::shorts : Dots::none;
}

int64_t dots_size(Dots kind, const Matrix& w) {
  switch (kind) {
    case Dots::pairs: return pairs_size(w);
    case Dots::shorts: return shorts_size(w);
    case Dots::integers: return integer_size(w);
    case Dots::none: break;
  }
  return 0;
}

int64_t dots_scratch(Dots kind, const Matrix& w) {
  switch (kind) {
    case Dots::pairs: return pairs_scratch(w);
    case Dots::shorts: return shorts_scratch(w);
    case Dots::integers: return integer_scratch(w);
    case Dots::none: break;
  }
  return 0;
}

bool prepare_dots(Dots kind, const Matrix& w, const float* x, int row, uint8_t* prepared) {
  switch (kind) {
    case Dots::pairs: prepare_pairs(w, x, row, prepared); return true;
    case Dots::shorts: return prepare_shorts(w, x, row, prepared);
    case Dots::integers: return prepare_integers(w, x, row, prepared);
    case Dots::none: break;
  }
  return false;
}

void dots(Dots kind, const Matrix& w, uint8_t* prepared, int rows, int first, int last, Results y, uint8_t* scratch) {
  switch (kind) {
    case Dots::pairs: return pairs(w, prepared, rows, first, last, y, scratch);
    case Dots::shorts: return shorts(w, prepared, rows, first, last, y, scratch);
    case Dots::integers: return integers(w, prepared, rows, first, last, y, scratch);
    case Dots::none: break;
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
