// See convert.h.

#include "convert.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <utility>

#include "error.h"

namespace mlxk {
namespace {

constexpr size_t kAlignment = 16384;  // a page on Apple silicon, where the GPU can then use the memory as it is

constexpr uint64_t kMaxSide = std::numeric_limits<int32_t>::max();  // of a matrix, as MLX counts

using Memory = std::unique_ptr<void, void (*)(void*)>;

Memory allocate(uint64_t bytes) {
  const uint64_t room = std::max<uint64_t>((bytes + kAlignment - 1) / kAlignment * kAlignment, kAlignment);
  Memory memory(std::aligned_alloc(kAlignment, room), std::free);
  if (!memory) fail("insufficient_memory", "allocation_failed", "no memory for " + std::to_string(bytes) + " bytes");
  return memory;
}

mx::Type numeric_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::F16: return mx::Type::f16;
    case Dtype::BF16: return mx::Type::bf16;
    case Dtype::F32: return mx::Type::f32;
    case Dtype::U32: return mx::Type::u32;
    case Dtype::U8: return mx::Type::u8;
    default: break;
  }
  invalid("plan_invalid", std::string("no arithmetic with tensors of type ") + dtype_name(dtype));
}

// The type of numbers that are not cast.
mx::Type kept_type(const ByteSource& source) { return source.block ? mx::Type::f32 : numeric_type(source.dtype); }

Dtype dtype_of(mx::Type type) {
  switch (type) {
    case mx::Type::f16: return Dtype::F16;
    case mx::Type::bf16: return Dtype::BF16;
    case mx::Type::f32: return Dtype::F32;
    default: break;
  }
  invalid("plan_invalid", "a conversion ends in a floating-point type");
}

// The row of one head in llama.cpp's files that holds row `row` of the head: there the two halves that a rotation
// pairs alternate.
uint64_t interleaved_row(uint64_t row, uint64_t head_rows) {
  const uint64_t half = head_rows / 2;
  return row < half ? 2 * row : 2 * (row - half) + 1;
}

bool is_copy(const ConversionJob& job) {
  return !job.from && !job.to && !job.weight.block && job.interleaved_heads == 0 && job.add == 0 && job.times == 1 &&
         !job.block_scales && !job.transposed && (!job.cast || dtype_of(*job.cast) == job.weight.dtype);
}

// Blocks of `size` that cover `length`.
uint64_t blocks_in(uint64_t length, uint64_t size) { return length / size + (length % size != 0 ? 1 : 0); }

uint64_t times(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) invalid("plan_invalid", "a matrix has more than 2^64 bytes");
  return product;
}

// Bytes of one row of `columns` numbers as they lie in the source.
uint64_t source_row_bytes(const ByteSource& source, uint64_t columns) {
  if (!source.block) return times(columns, dtype_size(source.dtype));
  return columns / block_elements(*source.block) * block_bytes(*source.block);
}

}  // namespace

Conversion::Conversion(ConversionPlan plan) : plan_(std::move(plan)) {
  for (const std::string& file : plan_.files) files_.push_back(InputFile::open(file));
  for (const auto& shard : plan_.shards) shards_.emplace_back(shard.path, shard.tensors);
  for (const ConversionJob& job : plan_.jobs) check(job);
}

void Conversion::check(const ConversionJob& job) const {
  auto source = [&](const ByteSource& from, uint64_t rows, uint64_t row_bytes) {
    uint64_t bytes = 0;
    for (const ByteSource::Part& part : from.parts) {
      if (part.file >= files_.size()) invalid("plan_invalid", "a source file is missing from the plan");
      const InputFile& file = files_[part.file];
      if (part.begin > file.size() || part.bytes > file.size() - part.begin) {
        invalid("file_changed", file.path() + ": is shorter than when it was examined");
      }
      bytes += part.bytes;
    }
    if (bytes != from.bytes || bytes != times(rows, row_bytes)) {
      invalid("plan_invalid",
              "a matrix of " + std::to_string(rows) + " rows has " + std::to_string(bytes) + " bytes in its source");
    }
  };
  auto target = [&](const TensorPlace& place, uint64_t row_bytes, Dtype dtype) {
    const bool known = place.shard < shards_.size() && place.tensor < plan_.shards[place.shard].tensors.size();
    if (!known) invalid("plan_invalid", "a tensor is missing from the plan");
    const TensorPlan& tensor = plan_.shards[place.shard].tensors[place.tensor];
    if (tensor.dtype != dtype || shards_[place.shard].bytes(place.tensor) != times(job.rows, row_bytes)) {
      invalid("plan_invalid", "tensor " + quoted(tensor.name) + " does not fit the matrix it is made of");
    }
  };
  auto packed_row = [&](const mx::QuantizedShape& q) { return job.columns * static_cast<uint64_t>(q.bits) / 8; };
  auto groups = [&](const mx::QuantizedShape& q) { return job.columns / static_cast<uint64_t>(q.group_size); };
  auto whole = [&](const mx::QuantizedShape& q) {
    const bool sound = q.bits >= 2 && q.bits <= 8 && q.group_size >= 16 && q.group_size <= 128 &&
                       job.columns % static_cast<uint64_t>(q.group_size) == 0;
    if (!sound) invalid("plan_invalid", "a matrix does not divide into its groups");
  };

  if (job.columns == 0 || job.columns > kMaxSide) {
    invalid("plan_invalid", "a matrix has no columns or too many");
  }
  if (job.weight.block && job.columns % block_elements(*job.weight.block) != 0) {
    invalid("plan_invalid", "a matrix does not divide into its blocks");
  }
  if (job.interleaved_heads > 0 && (job.rows == 0 || job.rows % (2 * job.interleaved_heads) != 0)) {
    invalid("plan_invalid", "a projection does not divide into its heads");
  }
  if (job.from) whole(*job.from);
  if (job.to) whole(*job.to);

  if (job.block_scales) {
    const BlockScales& blocks = *job.block_scales;
    const bool sound = blocks.matrix_rows > 0 && job.rows % blocks.matrix_rows == 0 && blocks.block_rows > 0 &&
                       blocks.block_columns > 0 && job.weight.dtype == Dtype::F8_E4M3 && !job.weight.block &&
                       !job.from && !blocks.scales.block;
    if (!sound) invalid("plan_invalid", "the scales of a float8 matrix do not fit it");
    source(blocks.scales, job.rows / blocks.matrix_rows * blocks_in(blocks.matrix_rows, blocks.block_rows),
           times(blocks_in(job.columns, blocks.block_columns), dtype_size(blocks.scales.dtype)));
  }
  if (job.transposed) {
    const Transposed& t = *job.transposed;
    const bool sound = t.matrix_rows > 0 && job.rows % t.matrix_rows == 0 && t.width <= kMaxSide &&
                       t.first <= t.width && t.matrix_rows <= t.width - t.first && !job.weight.block && !job.from &&
                       !job.block_scales && job.interleaved_heads == 0;
    if (!sound) invalid("plan_invalid", "a transposed matrix does not fit its source");
    source(job.weight, times(job.rows / t.matrix_rows, job.columns), source_row_bytes(job.weight, t.width));
  } else {
    source(job.weight, job.rows, job.from ? packed_row(*job.from) : source_row_bytes(job.weight, job.columns));
  }
  const bool affine_source = job.from && job.from->mode == "affine";
  if (job.from.has_value() != job.scales.has_value() || affine_source != job.biases.has_value()) {
    invalid("plan_invalid", "a quantized matrix needs its scales, and biases when it is affine");
  }
  if (job.scales) source(*job.scales, job.rows, groups(*job.from) * dtype_size(job.scales->dtype));
  if (job.biases) source(*job.biases, job.rows, groups(*job.from) * dtype_size(job.biases->dtype));

  // The type of the numbers between source and quantization.
  Dtype type = job.weight.dtype;
  if (job.weight.block) type = Dtype::F32;
  if (job.block_scales) type = Dtype::BF16;
  if (job.from) type = affine_source ? job.scales->dtype : Dtype::BF16;
  if (job.cast) type = dtype_of(*job.cast);
  if (!is_copy(job)) numeric_type(type);
  if (!job.to) {
    target(job.weight_to, job.columns * dtype_size(type), type);
    return;
  }
  const bool affine = job.to->mode == "affine";
  if (!job.scales_to || affine != job.biases_to.has_value()) {
    invalid("plan_invalid", "a quantized matrix needs a place for its scales, and for biases when it is affine");
  }
  const Dtype scale_type = affine ? type : Dtype::U8;
  target(job.weight_to, packed_row(*job.to), Dtype::U32);
  target(*job.scales_to, groups(*job.to) * dtype_size(scale_type), scale_type);
  if (affine) target(*job.biases_to, groups(*job.to) * dtype_size(type), type);
}

uint64_t Conversion::rows_per_step(const ConversionJob& job) const {
  const uint64_t fitting = std::max<uint64_t>(1, kStepBytes / (job.columns * sizeof(float)));
  uint64_t unit = 1;
  if (job.transposed) unit = job.transposed->matrix_rows;
  if (job.interleaved_heads > 0) unit = job.rows / job.interleaved_heads;
  return std::max(unit, fitting / unit * unit);
}

bool Conversion::step() {
  if (job_ < plan_.jobs.size()) {
    const ConversionJob& job = plan_.jobs[job_];
    const uint64_t count = std::min(rows_per_step(job), job.rows - row_);
    const uint64_t bytes =
        job.weight.bytes + (job.scales ? job.scales->bytes : 0) + (job.biases ? job.biases->bytes : 0);
    if (count > 0) {
      convert(job, row_, count);
      done_bytes_ += bytes / job.rows * count;
    }
    row_ += count;
    if (row_ == job.rows) {
      if (job.rows > 0) done_bytes_ += bytes % job.rows;
      row_ = 0;
      ++job_;
    }
  }
  if (job_ < plan_.jobs.size()) return false;
  for (SafetensorsWriter& shard : shards_) shard.finish();
  for (const InputFile& file : files_) file.verify_unchanged();
  return true;
}

void Conversion::convert(const ConversionJob& job, uint64_t first, uint64_t count) {
  if (is_copy(job)) {
    const uint64_t row = source_row_bytes(job.weight, job.columns), size = times(count, row);
    const Memory memory = allocate(size);
    read_bytes(job.weight, first * row, size, memory.get());
    shards_[job.weight_to.shard].write(job.weight_to.tensor, first * row,
                                       {static_cast<const std::byte*>(memory.get()), static_cast<size_t>(size)});
    return;
  }
  const int rows = static_cast<int>(count), columns = static_cast<int>(job.columns);
  auto cast = [&](const Array& a) { return job.cast ? mx::astype(a, *job.cast) : a; };
  Array matrix;
  if (job.from) {
    const auto& q = *job.from;
    const bool affine = q.mode == "affine";
    const int words = static_cast<int>(job.columns * static_cast<uint64_t>(q.bits) / 32),
              groups = columns / q.group_size;
    const Array weight = read(job.weight, first, {rows, words}, 0);
    const Array scales = read(*job.scales, first, {rows, groups}, 0);
    Array biases = affine ? read(*job.biases, first, {rows, groups}, 0) : Array();
    if (affine && job.bias_times != 1) biases = biases * job.bias_times;
    if (affine) biases = cast(biases);
    const Array typed = affine ? cast(scales) : scales;
    matrix = mx::dequantize(weight, typed, biases, q, affine ? typed.dtype() : job.cast.value_or(mx::Type::bf16));
  } else {
    const uint64_t head = job.interleaved_heads > 0 ? job.rows / job.interleaved_heads : 0;
    matrix = job.block_scales ? read_float8(job, first, count)
             : job.transposed ? read_transposed(job, first, count)
                              : read(job.weight, first, {rows, columns}, head);
    if (job.times != 1) matrix = matrix * job.times;
    if (job.add != 0) matrix = mx::astype(matrix, mx::Type::f32) + job.add;
    matrix = job.cast ? cast(matrix) : mx::astype(matrix, job.block_scales ? mx::Type::bf16 : kept_type(job.weight));
  }
  if (!job.to) {
    write(job.weight_to, first, matrix);
    return;
  }
  const mx::Quantized parts = mx::quantize(matrix, *job.to);
  mx::eval(parts.biases ? std::vector{parts.weight, parts.scales, parts.biases}
                        : std::vector{parts.weight, parts.scales});
  write(job.weight_to, first, parts.weight);
  write(*job.scales_to, first, parts.scales);
  if (parts.biases) write(*job.biases_to, first, parts.biases);
}

Array Conversion::read_transposed(const ConversionJob& job, uint64_t first, uint64_t count) const {
  const Transposed& t = *job.transposed;
  const uint64_t block = first / t.matrix_rows, blocks = count / t.matrix_rows;
  const int columns = static_cast<int>(job.columns), width = static_cast<int>(t.width);
  const Array all = read(job.weight, block * job.columns, {static_cast<int>(blocks * job.columns), width}, 0);
  const Array stacked = mx::reshape(all, {static_cast<int>(blocks), columns, width});
  const Array stretch = mx::slice(stacked, 2, static_cast<int>(t.first), static_cast<int>(t.first + t.matrix_rows));
  return mx::reshape(mx::swapaxes(stretch, 1, 2), {static_cast<int>(count), columns});
}

Array Conversion::read_float8(const ConversionJob& job, uint64_t first, uint64_t count) const {
  const BlockScales& blocks = *job.block_scales;
  const int rows = static_cast<int>(count), columns = static_cast<int>(job.columns);
  const uint64_t each = blocks_in(blocks.matrix_rows, blocks.block_rows);
  std::vector<uint32_t> at;  // the row of scales of each row, from the first one's
  for (uint64_t row = first; row < first + count; ++row) {
    const uint64_t scales = row / blocks.matrix_rows * each + row % blocks.matrix_rows / blocks.block_rows;
    at.push_back(static_cast<uint32_t>(scales));
  }
  const uint32_t from = at.front();
  const int scale_rows = static_cast<int>(at.back() - from + 1);
  const int scale_columns = static_cast<int>(blocks_in(job.columns, blocks.block_columns));
  for (uint32_t& row : at) row -= from;
  const Array scales = mx::take(read(blocks.scales, from, {scale_rows, scale_columns}, 0), mx::from_ids(at, {rows}), 0);
  const int width = static_cast<int>(std::min(blocks.block_columns, job.columns));
  const Array all = mx::slice(mx::repeat(scales, width, 1), 1, 0, columns);

  Memory codes = allocate(times(count, job.columns));
  read_bytes(job.weight, first * job.columns, count * job.columns, codes.get());
  const Array bytes = mx::from_memory(codes.release(), {rows, columns}, mx::Type::u8, std::free);
  return mx::astype(mx::from_fp8(bytes, mx::Type::bf16) * all, mx::Type::bf16);
}

Array Conversion::read(const ByteSource& source, uint64_t first, const mx::Shape& shape,
                       uint64_t interleaved_rows) const {
  const auto rows = static_cast<uint64_t>(shape[0]), columns = static_cast<uint64_t>(shape[1]);
  const uint64_t row_bytes = source_row_bytes(source, columns);
  Memory memory = allocate(rows * row_bytes);
  read_bytes(source, first * row_bytes, rows * row_bytes, memory.get());
  if (interleaved_rows > 0) {
    Memory ordered = allocate(rows * row_bytes);
    for (uint64_t row = 0; row < rows; ++row) {
      const uint64_t head = row / interleaved_rows * interleaved_rows;
      const uint64_t from = head + interleaved_row(row - head, interleaved_rows);
      std::memcpy(static_cast<std::byte*>(ordered.get()) + row * row_bytes,
                  static_cast<const std::byte*>(memory.get()) + from * row_bytes, row_bytes);
    }
    memory = std::move(ordered);
  }
  if (!source.block) return mx::from_memory(memory.release(), shape, numeric_type(source.dtype), std::free);
  Memory numbers = allocate(rows * columns * sizeof(float));
  decode_blocks(*source.block, {static_cast<const uint8_t*>(memory.get()), static_cast<size_t>(rows * row_bytes)},
                {static_cast<float*>(numbers.get()), static_cast<size_t>(rows * columns)});
  return mx::from_memory(numbers.release(), shape, mx::Type::f32, std::free);
}

void Conversion::read_bytes(const ByteSource& source, uint64_t begin, uint64_t size, void* to) const {
  auto* out = static_cast<std::byte*>(to);
  uint64_t skipped = 0;
  for (const ByteSource::Part& part : source.parts) {
    const uint64_t from = std::max(begin, skipped), until = std::min(begin + size, skipped + part.bytes);
    if (from < until) {
      files_[part.file].read(part.begin + (from - skipped), until - from, out + (from - begin));
    }
    skipped += part.bytes;
  }
}

void Conversion::write(const TensorPlace& place, uint64_t first, const Array& rows) {
  const Array flat = mx::contiguous(rows);
  mx::eval({flat});
  const auto bytes = flat.bytes();
  const uint64_t row_bytes = bytes.size() / static_cast<uint64_t>(rows.dim(0));
  shards_[place.shard].write(place.tensor, first * row_bytes, bytes);
}

}  // namespace mlxk
