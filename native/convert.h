// Makes the weight files of a converted model. Reads byte ranges of source files, changes type or quantization a few
// rows at a time, and writes safetensors files: memory is bounded by a step, not by a tensor. What becomes what is the
// plan's business (lib/convert); this knows neither names nor architectures. Thread: engine thread only.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine.h"
#include "gguf_blocks.h"
#include "input_file.h"
#include "mx.h"
#include "safetensors_writer.h"

namespace mlxk {

// Where the bytes of one matrix lie: parts are read one after the other.
struct ByteSource {
  struct Part {
    size_t file;  // position in ConversionPlan::files
    uint64_t begin, bytes;
  };
  std::vector<Part> parts;
  Dtype dtype = Dtype::F32;
  std::optional<BlockType> block;  // a GGUF block format instead of `dtype`
  uint64_t bytes = 0;              // of all parts
};

// The scales of float8 matrices that lie one below the other, one for each block of a matrix.
struct BlockScales {
  ByteSource scales;
  uint64_t matrix_rows = 0, block_rows = 0, block_columns = 0;
};

// Plain matrices that lie transposed one after the other: each is `matrix_rows` columns, from `first` on, of a block
// with `width` of them.
struct Transposed {
  uint64_t matrix_rows = 0, width = 0, first = 0;
};

struct TensorPlace {
  size_t shard, tensor;
};

// One matrix of the source and what it becomes. The order of the changes is: dequantize, add, cast,
// quantize.
struct ConversionJob {
  uint64_t rows = 0, columns = 0;  // of the matrix as numbers, whatever its packing
  ByteSource weight;
  std::optional<ByteSource> scales, biases;  // of a source that MLX quantized
  std::optional<mx::QuantizedShape> from;
  float add = 0;    // to every number of a plain source, before the cast
  float times = 1;  // likewise
  float bias_times = 1;
  std::optional<BlockScales> block_scales;  // of float8, which is bfloat16 once read
  // Of an affine source the scales and biases are cast, as mlx-lm does; the other modes unpack to this type.
  std::optional<mx::Type> cast;
  std::optional<mx::QuantizedShape> to;
  std::optional<Transposed> transposed;
  uint64_t interleaved_heads = 0;  // undoes llama.cpp's row order of rotated projections with this many heads
  TensorPlace weight_to{};
  std::optional<TensorPlace> scales_to, biases_to;
};

struct ConversionPlan {
  struct Shard {
    std::string path;
    std::vector<TensorPlan> tensors;
  };
  std::vector<std::string> files;
  std::vector<Shard> shards;
  std::vector<ConversionJob> jobs;
  uint64_t source_bytes = 0;

  // From the JSON text of lib/native.d.ts: NativeConversionPlan. Throws validation_error / plan_invalid.
  static ConversionPlan parse(std::string_view json);
};

class Conversion {
 public:
  // Opens the sources and checks every job's sizes against its shapes: validation_error with the reasons of
  // InputFile::open and plan_invalid. Creates the outputs.
  explicit Conversion(ConversionPlan plan);

  // Converts about `kStepBytes` of source; true once all is written and on the disk.
  bool step();
  uint64_t done_bytes() const { return done_bytes_; }
  uint64_t total_bytes() const { return plan_.source_bytes; }

 private:
  static constexpr uint64_t kStepBytes = uint64_t{32} << 20;

  uint64_t rows_per_step(const ConversionJob& job) const;
  void check(const ConversionJob& job) const;
  void convert(const ConversionJob& job, uint64_t first, uint64_t count);
  Array read_transposed(const ConversionJob& job, uint64_t first, uint64_t count) const;
  Array read_float8(const ConversionJob& job, uint64_t first, uint64_t count) const;
  Array read(const ByteSource& source, uint64_t first, const mx::Shape& shape, uint64_t interleaved_rows) const;
  void read_bytes(const ByteSource& source, uint64_t begin, uint64_t size, void* to) const;
  void write(const TensorPlace& place, uint64_t first, const Array& rows);

  ConversionPlan plan_;
  std::vector<InputFile> files_;
  std::vector<SafetensorsWriter> shards_;
  size_t job_ = 0;
  uint64_t row_ = 0;
  uint64_t done_bytes_ = 0;
};

}  // namespace mlxk
