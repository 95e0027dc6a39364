// A matrix times the rows of an array, split over threads, by whichever of the routines suits how many rows there are.

#pragma once

#include <functional>

#include "kernels/cpu/primitive.h"

namespace mlxk::kernels {

// Reads row `row` of x in float32.
using ReadRow = std::function<void(size_t row, float* to)>;

// y [count, O] = x times the transpose of w. `x`: the type its rows came in, which says how they may be rounded.
void multiply(const Matrix& w, size_t count, const ReadRow& read, const Results& y, Type x);

// The same for several matrices and few rows (`is_few`), in one region of the pool. With a `finish` all have as many
// outputs: a piece of work takes outputs [first, last) of every one and then calls finish(first, last).
struct Product {
  Matrix w;
  Results y;
};
using Finish = std::function<void(size_t first, size_t last)>;
bool is_few(size_t count);
void multiply_together(const std::vector<Product>& products, size_t count, const ReadRow& read, Type x,
                       const Finish& finish);

// Whether rows that were prepared for one are so for the other.
bool alike(const Matrix& a, const Matrix& b);

// Single rows, each with a matrix of its own, all of which are alike and have as many outputs, in one region of the
// pool: y = row `row` of x times the transpose of w. They come in bundles of `bundle`: a piece of work takes outputs
// [first, last) of a whole bundle and then calls finish(bundle, first, last) where there is one.
struct RowProduct {
  Product product;
  size_t row;
};
using BundleFinish = std::function<void(size_t bundle, size_t first, size_t last)>;
void multiply_rows(const std::vector<RowProduct>& products, size_t bundle, size_t count, const ReadRow& read, Type x,
                   const BundleFinish& finish);

// How many arrays hold a matrix: the weight, scales, biases.
inline size_t arrays_of(Format format) { return format == Format::dense ? 1 : format == Format::affine ? 3 : 2; }

// What is known of a matrix before its data is: how arrays hold it. With experts the first axis tells them apart.
class MatrixLayout {
 public:
  // inputs[at] is the weight, then come scales and biases where the format has them.
  MatrixLayout(Format format, int group, int bits, const std::vector<array>& inputs, size_t at, int row_width);

  // Called once when the data is there; the matrices live as long as this.
  void read();
  Matrix matrix(int64_t expert = 0) const;

 private:
  Matrix matrix_;
  int64_t experts_stride_ = 0, scales_stride_ = 0, biases_stride_ = 0;  // in bytes
  std::vector<Packed> parts_;
  std::vector<std::vector<uint8_t>> buffers_;
};

// Whether rows of x may be multiplied with a dense matrix of the type of w: its own, or float32 with one of 16 bits.
bool fits_dense(const array& x, const array& w);

// The format of arrays packed by MLX, or nothing where there is no such format or they do not fit it. w [.., O, I'],
// scales [.., O, I / group], and biases for affine.
struct PackedFormat {
  Format format;
  int group, bits;
};
std::optional<PackedFormat> packed_format(const std::string& mode, int group, int bits, const array& x, const array& w,
                                          const array& scales, const array* biases);

}  // namespace mlxk::kernels
