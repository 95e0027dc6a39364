// See product.h.

#include "kernels/cpu/product.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace mlxk::kernels {
namespace {

// From this many rows on, unpacking a panel of the matrix for all of them beats unpacking it in registers for four. A
// dense one has little to unpack: 8 rows took 1.6 times as long by panels, 16 rows 1.2 times (AVX2 and AVX-512).
constexpr size_t kFewestTileRows = 8, kFewestDenseTileRows = 24, kFewestShortRows = 8, kFewestDotRows = 12;
// Rows that share an unpacked panel: they stay in the second-level cache meanwhile. A multiple of kTileRows.
constexpr size_t kRowBlock = 480;
constexpr int64_t kPieceBytes = 32768;  // of a matrix, that one piece of work reads

int64_t matrix_bytes_per_output(const Matrix& w) {
  return w.format == Format::dense ? int64_t{w.inputs} * size_of(w.type) : w.row_bytes + int64_t{4} * w.groups;
}

// Below this many bytes of weights one thread is done before others have helped: on four cores a model of such products
// decoded 1.2 times as fast on one thread, for half the processor time.
constexpr int64_t kSharedBytes = int64_t{512} << 10;

bool worth_sharing(int64_t bytes) { return bytes >= kSharedBytes; }

int64_t matrix_bytes(const Matrix& w) { return matrix_bytes_per_output(w) * w.outputs; }

// Outputs of `bytes` each that one piece has, a multiple of what is unpacked at a time.
size_t piece_outputs(int64_t bytes) {
  const auto unit = int64_t{routines().tile_outputs};
  return static_cast<size_t>(std::max<int64_t>(1, kPieceBytes / bytes / unit) * unit);
}

// The same in a product of few rows.
size_t output_grain(const Matrix& w) {
  if (!worth_sharing(matrix_bytes(w))) return static_cast<size_t>(w.outputs);
  return piece_outputs(matrix_bytes_per_output(w));
}

Results from_row(const Results& y, size_t row) {
  Results rest = y;
  rest.data += static_cast<int64_t>(row) * y.row_stride * size_of(y.type);
  return rest;
}

// Memory of this thread for x as the routines want it. Pieces on other threads read it.
Scratch& prepared_memory() {
  static thread_local Scratch memory;
  return memory;
}
Scratch& piece_memory() {
  static thread_local Scratch memory;
  return memory;
}
Scratch& row_memory() {
  static thread_local Scratch memory;
  return memory;
}

// Rows as `few` wants them: rounded where that is allowed and all rows have it in them.
class FewRows {
 public:
  FewRows(const Matrix& w, size_t count, const ReadRow& read, Type x) : size_(routines().few_size(w)) {
    prepared_ = prepared_memory().floats(size_ * static_cast<int64_t>(count));
    rounded_ = x != Type::f32 && routines().can_round(w) && prepare(w, count, read, true);
    if (!rounded_) prepare(w, count, read, false);
  }
  const float* row(size_t at) const { return prepared_ + static_cast<int64_t>(at) * size_; }
  bool rounded() const { return rounded_; }

 private:
  bool prepare(const Matrix& w, size_t count, const ReadRow& read, bool rounded) {
    bool all = true;
    float* x = row_memory().floats(w.inputs);
    for (size_t at = 0; at < count && all; ++at) {
      read(at, x);
      float* to = prepared_ + static_cast<int64_t>(at) * size_;
      if (rounded) {
        all = routines().prepare_rounded(w, x, to);
      } else {
        routines().prepare_few(w, x, to);
      }
    }
    return all;
  }

  int64_t size_;
  float* prepared_;
  bool rounded_ = false;
};

void multiply_outputs(const Matrix& w, size_t count, const FewRows& x, const Results& y, size_t first, size_t last) {
  const Routines& r = routines();
  float* scratch = piece_memory().floats(r.few_scratch(w));
  for (size_t row = 0; row < count;) {
    const size_t rows = count - row >= 4 ? 4 : count - row >= 2 ? 2 : 1;
    r.few(w, x.row(row), x.rounded(), static_cast<int>(rows), static_cast<int>(first), static_cast<int>(last),
          from_row(y, row), scratch);
    row += rows;
  }
}

void multiply_few(const Matrix& w, size_t count, const ReadRow& read, const Results& y, Type type) {
  const FewRows x(w, count, read, type);
  for_ranges(static_cast<size_t>(w.outputs), output_grain(w),
             [&](size_t first, size_t last) { multiply_outputs(w, count, x, y, first, last); });
}

// body(first row, rows, first output, last output) for all of a product, on several threads.
template <class Body>
void for_tiles(const Matrix& w, size_t count, const Body& body) {
  // As fine as it goes: at the end of a product all threads wait for the last.
  const auto outputs = static_cast<size_t>(w.outputs), grain = static_cast<size_t>(routines().tile_outputs);
  const size_t ranges = (outputs + grain - 1) / grain, blocks = (count + kRowBlock - 1) / kRowBlock;
  for_pieces(ranges * blocks, [&](size_t piece) {
    const size_t row = piece / ranges * kRowBlock, output = piece % ranges * grain;
    body(row, std::min(kRowBlock, count - row), static_cast<int>(output),
         static_cast<int>(std::min(outputs, output + grain)));
  });
}

void multiply_tiles(const Matrix& w, size_t count, const ReadRow& read, const Results& y) {
  const Routines& r = routines();
  const auto width = static_cast<size_t>(w.inputs);
  float* x = prepared_memory().floats(static_cast<int64_t>(count * width));
  for_rows(count, width, [&](size_t first, size_t last) {
    for (size_t row = first; row < last; ++row) read(row, x + row * width);
  });
  for_tiles(w, count, [&](size_t row, size_t rows, int first, int last) {
    const int n = static_cast<int>(rows);
    r.tiles(w, x + row * width, w.inputs, n, first, last, from_row(y, row),
            piece_memory().floats(r.tiles_scratch(w, n)));
  });
}

// False where a row cannot be rounded.
bool multiply_dots(Dots kind, const Matrix& w, size_t count, const ReadRow& read, const Results& y) {
  const Routines& r = routines();
  const int64_t size = r.dots_size(kind, w);
  const size_t tiles = (count + kTileRows - 1) / kTileRows;
  uint8_t* prepared = prepared_memory().bytes(size * static_cast<int64_t>(tiles));
  std::atomic<bool> all{true};
  for_ranges(tiles, 1, [&](size_t first, size_t last) {
    // Rows that are missing from the last tile are multiplied with the others.
    if (count < last * kTileRows) {
      std::memset(prepared + static_cast<int64_t>(first) * size, 0, static_cast<size_t>(size));
    }
    for (size_t row = first * kTileRows; row < std::min(count, last * kTileRows); ++row) {
      float* x = row_memory().floats(w.inputs);
      read(row, x);
      if (!r.prepare_dots(kind, w, x, static_cast<int>(row), prepared)) all = false;
    }
  });
  if (!all) return false;
  for_tiles(w, count, [&](size_t row, size_t rows, int first, int last) {
    r.dots(kind, w, prepared + static_cast<int64_t>(row / kTileRows) * size, static_cast<int>(rows), first, last,
           from_row(y, row), piece_memory().bytes(r.dots_scratch(kind, w)));
  });
  return true;
}

}  // namespace

void multiply(const Matrix& w, size_t count, const ReadRow& read, const Results& y, Type x) {
  const Dots kind = routines().dots_for(w, x);
  const size_t fewest = kind == Dots::shorts ? kFewestShortRows : kFewestDotRows;
  if (kind != Dots::none && count >= fewest && multiply_dots(kind, w, count, read, y)) return;
  const size_t tiles = w.format == Format::dense ? kFewestDenseTileRows : kFewestTileRows;
  count >= tiles ? multiply_tiles(w, count, read, y) : multiply_few(w, count, read, y, x);
}

bool is_few(size_t count) { return count < kFewestTileRows; }

bool alike(const Matrix& a, const Matrix& b) {
  return a.format == b.format && a.inputs == b.inputs && a.bits == b.bits && a.group == b.group;
}

void multiply_together(const std::vector<Product>& products, size_t count, const ReadRow& read, Type type,
                       const Finish& finish) {
  const Matrix& like = products.front().w;
  const auto outputs_of = [](const Product& p) { return static_cast<size_t>(p.w.outputs); };
  if (!std::ranges::all_of(products, [&](const Product& p) { return alike(p.w, like); })) {
    for (const auto& [w, y] : products) multiply_few(w, count, read, y, type);
    if (finish) finish(0, outputs_of(products.front()));
    return;
  }
  int64_t bytes = 0;
  for (const Product& p : products) bytes += matrix_bytes(p.w);
  const bool shared = worth_sharing(bytes);
  const FewRows x(like, count, read, type);
  if (finish) {
    const size_t outputs = outputs_of(products.front());
    const size_t grain = shared ? piece_outputs(bytes / static_cast<int64_t>(outputs)) : outputs;
    for_ranges(outputs, grain, [&](size_t first, size_t last) {
      for (const auto& [w, y] : products) multiply_outputs(w, count, x, y, first, last);
      finish(first, last);
    });
    return;
  }
  const auto pieces_of = [&](const Product& p, size_t grain) { return (outputs_of(p) + grain - 1) / grain; };
  const size_t grain = piece_outputs(matrix_bytes_per_output(like));
  size_t pieces = 0;
  for (const Product& p : products) pieces += pieces_of(p, grain);
  const auto body = [&](size_t piece) {
    auto product = products.begin();
    for (; piece >= pieces_of(*product, grain); ++product) piece -= pieces_of(*product, grain);
    multiply_outputs(product->w, count, x, product->y, piece * grain,
                     std::min(outputs_of(*product), (piece + 1) * grain));
  };
  if (shared) return for_pieces(pieces, body);
  for (size_t piece = 0; piece < pieces; ++piece) body(piece);
}

void multiply_rows(const std::vector<RowProduct>& products, size_t bundle, size_t count, const ReadRow& read, Type type,
                   const BundleFinish& finish) {
  if (products.empty()) return;
  const Routines& r = routines();
  const Matrix& like = products.front().product.w;
  const FewRows x(like, count, read, type);
  const auto outputs = static_cast<size_t>(like.outputs);
  const bool shared = worth_sharing(matrix_bytes(like) * static_cast<int64_t>(products.size()));
  const size_t grain = shared ? piece_outputs(matrix_bytes_per_output(like) * static_cast<int64_t>(bundle)) : outputs;
  const size_t ranges = (outputs + grain - 1) / grain, pieces = products.size() / bundle * ranges;
  const auto body = [&](size_t piece) {
    const size_t at = piece / ranges, first = piece % ranges * grain, last = std::min(outputs, first + grain);
    for (size_t i = at * bundle; i < (at + 1) * bundle; ++i) {
      const auto& [product, row] = products[i];
      r.few(product.w, x.row(row), x.rounded(), 1, static_cast<int>(first), static_cast<int>(last), product.y,
            piece_memory().floats(r.few_scratch(like)));
    }
    if (finish) finish(at, first, last);
  };
  if (shared) return for_pieces(pieces, body);
  for (size_t piece = 0; piece < pieces; ++piece) body(piece);
}

MatrixLayout::MatrixLayout(Format format, int group, int bits, const std::vector<array>& inputs, size_t at,
                           int row_width) {
  const array& w = inputs[at];
  matrix_ = {};
  matrix_.format = format;
  matrix_.type = format == Format::dense    ? *type_of(w)
                 : format == Format::affine ? *type_of(inputs[at + 1])
                                            : Type::f32;
  matrix_.outputs = w.shape(-2);
  matrix_.inputs = row_width;
  matrix_.group = group;
  matrix_.bits = bits;
  matrix_.groups = group == 0 ? 0 : row_width / group;
  matrix_.row_bytes = static_cast<int64_t>(w.shape(-1)) * static_cast<int64_t>(w.itemsize());
  experts_stride_ = matrix_.row_bytes * matrix_.outputs;
  const size_t count = arrays_of(format);
  for (size_t i = 0; i < count; ++i) parts_.emplace_back(inputs[at + i]);
  if (count > 1) {
    scales_stride_ = int64_t{matrix_.outputs} * matrix_.groups * static_cast<int64_t>(inputs[at + 1].itemsize());
  }
  if (count > 2) biases_stride_ = scales_stride_;
}

void MatrixLayout::read() {
  buffers_.resize(parts_.size());
  matrix_.data = parts_[0].read(buffers_[0]);
  if (parts_.size() > 1) matrix_.scales = parts_[1].read(buffers_[1]);
  if (parts_.size() > 2) matrix_.biases = parts_[2].read(buffers_[2]);
}

Matrix MatrixLayout::matrix(int64_t expert) const {
  Matrix m = matrix_;
  m.data += expert * experts_stride_;
  if (m.scales) m.scales += expert * scales_stride_;
  if (m.biases) m.biases += expert * biases_stride_;
  return m;
}

bool fits_dense(const array& x, const array& w) {
  return has_kernel(x) && type_of(w) && (w.dtype() == x.dtype() || x.dtype() == mlx::core::float32);
}

std::optional<PackedFormat> packed_format(const std::string& mode, int group, int bits, const array& x, const array& w,
                                          const array& scales, const array* biases) {
  const auto of = [&](Format format, int fixed_group, int fixed_bits) -> std::optional<PackedFormat> {
    if (group != fixed_group || bits != fixed_bits || biases != nullptr) return std::nullopt;
    if (scales.dtype() != mlx::core::uint8) return std::nullopt;
    return PackedFormat{format, group, bits};
  };
  if (!has_kernel(x) || w.dtype() != mlx::core::uint32 || w.ndim() < 2 || w.size() == 0) return std::nullopt;
  std::optional<PackedFormat> found;
  if (mode == "mxfp4") found = of(Format::mxfp4, 32, 4);
  if (mode == "mxfp8") found = of(Format::mxfp8, 32, 8);
  if (mode == "nvfp4") found = of(Format::nvfp4, 16, 4);
  if (mode == "affine" && biases != nullptr && (group == 32 || group == 64 || group == 128) &&
      (bits == 2 || bits == 3 || bits == 4 || bits == 5 || bits == 6 || bits == 8)) {
    // The stock operation promotes mixed types; only equal ones keep the type of x.
    if (scales.dtype() == x.dtype() && biases->dtype() == x.dtype() && biases->shape() == scales.shape()) {
      found = PackedFormat{Format::affine, group, bits};
    }
  }
  if (!found) return std::nullopt;
  mlx::core::Shape words = w.shape(), groups = w.shape();
  const int inputs = x.shape(-1);
  words.back() = static_cast<int>(int64_t{inputs} * bits / 32);
  groups.back() = inputs / group;
  if (inputs % group != 0 || w.shape() != words || scales.shape() != groups) return std::nullopt;
  return found;
}

}  // namespace mlxk::kernels
