// See foreign_storage.h.

#include "foreign_storage.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "tensor_input.h"

namespace mlxk {
namespace {

constexpr int kAwqBits = 4, kEach = 32 / kAwqBits;
constexpr uint32_t kAwqOrder[kEach] = {0, 4, 1, 5, 2, 6, 3, 7};  // AutoAWQ's order of values in a word

bool is_float(Dtype type) { return type == Dtype::F32 || type == Dtype::F16 || type == Dtype::BF16; }
bool is_byte(Dtype type) { return type == Dtype::U8 || type == Dtype::F8_E8M0; }
bool is_word(Dtype type) { return type == Dtype::I32 || type == Dtype::U32; }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// `name` without `suffix`, or nothing.
std::optional<std::string> without(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return std::string(name.substr(0, name.size() - suffix.size()));
}

const TensorEntry& needed(const Checkpoint& checkpoint, const std::string& name, const std::string& by) {
  const auto* tensor = checkpoint.find(name);
  if (!tensor) invalid("tensor_missing", "the weights lack " + name + ", which belongs to " + by);
  return tensor->entry;
}

[[noreturn]] void misshapen(const TensorEntry& entry, const std::string& expected) {
  invalid("tensor_shape", entry.name + " is " + shape_text(entry.shape) + ", expected " + expected);
}

void require_type(bool ok, const TensorEntry& entry, const char* expected) {
  if (!ok)
    invalid("tensor_type", entry.name + " is " + std::string(dtype_name(entry.dtype)) + ", expected " + expected);
}

void require_shape(const TensorEntry& entry, const std::vector<int64_t>& expected) {
  if (entry.shape != expected) misshapen(entry, shape_text(expected));
}

Array constant(uint32_t value) { return mx::from_ids({&value, 1}, {1}); }

// The unsigned values of four bits in the words [.., n], [.., n, 8]; `order[i]`: which of a word's is the i-th.
Array unpacked(const Array& words, const uint32_t (&order)[kEach]) {
  std::vector<uint32_t> units;
  for (const uint32_t at : order) units.push_back(uint32_t{1} << (kAwqBits * at));
  const Array shifted =
      mx::floor_divide(mx::expand_dims(mx::view(words, mx::Type::u32), -1), mx::from_ids(units, {kEach}));
  return shifted - mx::floor_divide(shifted, constant(1 << kAwqBits)) * constant(1 << kAwqBits);
}

PackedMatrix pack_awq(const Array& qweight, const Array& scales, const Array& qzeros) {
  const int in = qweight.dim(0), out = qweight.dim(1) * kEach;
  const Array values = mx::contiguous(mx::transpose(mx::reshape(unpacked(qweight, kAwqOrder), {in, out})));
  std::vector<uint32_t> units;
  for (uint32_t i = 0; i < kEach; ++i) units.push_back(uint32_t{1} << (kAwqBits * i));
  const Array weight = mx::sum(mx::reshape(values, {out, in / kEach, kEach}) * mx::from_ids(units, {kEach}), -1, false);
  const Array by_row = mx::contiguous(mx::transpose(scales));
  const Array wide = mx::astype(by_row, mx::Type::f32);
  const Array biases =
      qzeros ? -mx::astype(mx::transpose(mx::reshape(unpacked(qzeros, kAwqOrder), {-1, out})), mx::Type::f32) * wide
             : wide * -8.0f;
  return {mx::astype(weight, mx::Type::u32), by_row, mx::contiguous(mx::astype(biases, scales.dtype()))};
}

// Powers of two, by their biased exponents.
Array from_exponents(const Array& bytes) {
  std::vector<float> powers;
  for (int i = 0; i < 256; ++i) powers.push_back(std::ldexp(1.0f, i - 127));
  return mx::take(mx::from_floats(powers, {256}), mx::astype(bytes, mx::Type::u32), 0);
}

// Every number of `scales` along `axis` `times` times, as far as `length`.
Array stretched(const Array& scales, int times, int length, int axis) {
  return mx::slice(mx::repeat(scales, times, axis), axis, 0, length);
}

}  // namespace

// What config.json says of the storage.
struct ForeignStorage::Rules {
  bool awq = false, ternary = false;
};

PackedMatrix pack_ternary(const Array& bytes, const Array& scale, bool inverted) {
  constexpr int kInByte = 4, kInWord = 16;
  const int out = bytes.dim(0) * kInByte, in = bytes.dim(1);
  const Array wide = mx::astype(bytes, mx::Type::u32);
  std::vector<Array> quarters;
  for (uint32_t unit = 1; quarters.size() < kInByte; unit *= kInByte) {
    const Array shifted = mx::floor_divide(wide, constant(unit));
    quarters.push_back(shifted - mx::floor_divide(shifted, constant(kInByte)) * constant(kInByte));
  }
  std::vector<uint32_t> units;
  for (uint32_t unit = 1; units.size() < kInWord; unit *= kInByte) units.push_back(unit);
  const Array values = mx::reshape(mx::concatenate(quarters, 0), {out, in / kInWord, kInWord});
  const int group = in % 128 == 0 ? 128 : in % 64 == 0 ? 64 : 32;
  const Array each = inverted ? mx::scalar(1, scale.dtype()) / scale : scale;
  const Array scales = mx::contiguous(mx::broadcast_to(each, {out, in / group}));
  return {mx::sum(values * mx::from_ids(units, {kInWord}), -1, false), scales, mx::contiguous(-scales)};
}

ForeignStorage::ForeignStorage(const Checkpoint& checkpoint) {
  Rules rules;
  const ConfigReader config = checkpoint.config();
  read_quantization(config);  // refuses what is not supported before any tensor is looked at
  if (const auto stated = foreign_quantization(config)) {
    const std::string method = stated->text("quant_method");
    if (stated->has("weight_block_size")) {
      const auto block = stated->ints("weight_block_size", 1, 1 << 20);
      stated->require(block.size() == 2, "weight_block_size", "must have two numbers");
      block_rows_ = block[0];
      block_columns_ = block[1];
    }
    rules.awq = method == "awq";
    rules.ternary = method == "bitnet" && config.text("model_type", "") != "bitnet";
    ternary_inverted_ = stated->text("linear_class", "") != "autobitlinear";
  }
  find_matrices(checkpoint, rules);
  for (const auto& [entry, file] : checkpoint.tensors()) {
    const auto member = by_member_.find(entry.name);
    // A byte becomes two where it is no longer packed; all else keeps its size but for a fraction.
    const bool grows = member != by_member_.end() && matrices_[member->second].kind == Kind::fp8;
    bytes_ += grows && entry.dtype == Dtype::F8_E4M3 ? 2 * entry.bytes() : entry.bytes();
  }
}

void ForeignStorage::find_matrices(const Checkpoint& checkpoint, const Rules& rules) {
  for (const auto& [entry, file] : checkpoint.tensors()) {
    const std::string& name = entry.name;
    if (name.ends_with("activation_scale") || name.ends_with(".input_scale")) {
      add(checkpoint, Kind::dropped, name, {name});
    } else if (entry.dtype == Dtype::F8_E4M3 && (name.ends_with(".weight") || checkpoint.find(name + "_scale_inv"))) {
      const TensorEntry& scales = needed(checkpoint, name + "_scale_inv", name);
      std::vector<int64_t> groups = scales.shape;
      if (!groups.empty()) groups.back() *= 32;
      const bool packed = is_byte(scales.dtype) && groups == entry.shape;
      const auto module = without(name, ".weight");
      add(checkpoint, packed && module ? Kind::mxfp8 : Kind::fp8, module.value_or(name), {name, scales.name});
    } else if (const auto base = without(name, ".weight_packed")) {
      const bool bytes = is_byte(entry.dtype);
      std::vector<std::string> members{name, *base + ".weight_scale"};
      if (!bytes || checkpoint.find(*base + ".weight_shape")) members.push_back(*base + ".weight_shape");
      add(checkpoint, bytes ? Kind::mxfp4 : Kind::int4, *base, members);
    } else if (const auto module = without(name, ".qweight"); module && rules.awq) {
      std::vector<std::string> members{name, *module + ".scales"};
      if (checkpoint.find(*module + ".qzeros")) members.push_back(*module + ".qzeros");
      add(checkpoint, Kind::awq, *module, members);
    } else if (const auto path = without(name, ".weight"); path && rules.ternary && entry.dtype == Dtype::U8) {
      add(checkpoint, Kind::ternary, *path, {name, *path + ".weight_scale"});
    }
  }
}

void ForeignStorage::add(const Checkpoint& checkpoint, Kind kind, const std::string& base,
                         std::vector<std::string> members) {
  matrices_.push_back({kind, base, std::move(members), 0});
  Matrix& matrix = matrices_.back();
  matrix.missing = matrix.members.size();
  for (const std::string& member : matrix.members) {
    needed(checkpoint, member, matrix.members.front());
    by_member_.insert_or_assign(member, matrices_.size() - 1);
  }
  check(checkpoint, matrix);
  if (kind == Kind::awq) floats_ = array_type(checkpoint.find(matrix.members[1])->entry.dtype);
}

void ForeignStorage::check(const Checkpoint& checkpoint, const Matrix& matrix) const {
  if (matrix.kind == Kind::dropped) return;
  const TensorEntry& weight = checkpoint.find(matrix.members[0])->entry;
  const TensorEntry& scales = checkpoint.find(matrix.members[1])->entry;
  const auto& shape = weight.shape;
  if (shape.size() < 2 || std::ranges::find(shape, 0) != shape.end()) misshapen(weight, "a matrix");
  const int64_t rows = shape[shape.size() - 2], columns = shape.back();
  std::vector<int64_t> expected(shape.begin(), shape.end() - 2);

  switch (matrix.kind) {
    case Kind::fp8: {
      require_type(is_float(scales.dtype) || is_byte(scales.dtype), scales, "a floating-point type");
      const bool one = std::ranges::all_of(scales.shape, [](int64_t d) { return d == 1; });
      std::vector<int64_t> each = expected;
      each.insert(each.end(), {1, 1});
      expected.push_back((rows + block_rows_ - 1) / block_rows_);
      expected.push_back((columns + block_columns_ - 1) / block_columns_);
      if (!(one && scales.shape.size() <= shape.size()) && scales.shape != each) require_shape(scales, expected);
      return;
    }
    case Kind::mxfp8: return;
    case Kind::int4:
    case Kind::mxfp4: {
      const bool words = matrix.kind == Kind::int4;
      require_type(words ? is_word(weight.dtype) : is_byte(weight.dtype), weight, words ? "I32" : "U8");
      require_type(words ? is_float(scales.dtype) : is_byte(scales.dtype), scales,
                   words ? "a floating-point type" : "U8");
      const int64_t in = columns * (words ? kEach : 2);
      if (!words && in % 32 != 0) misshapen(weight, "rows of whole groups of 32");
      expected.push_back(rows);
      expected.push_back(in / 32);
      const bool others = words && scales.shape.size() == shape.size() &&
                          std::equal(expected.begin(), expected.end() - 1, scales.shape.begin()) &&
                          (scales.shape.back() * 64 == in || scales.shape.back() * 128 == in);
      if (!others) require_shape(scales, expected);
      return;
    }
    case Kind::awq: {
      require_type(is_word(weight.dtype), weight, "I32");
      require_type(is_float(scales.dtype), scales, "a floating-point type");
      if (shape.size() != 2 || rows % kEach != 0) misshapen(weight, "[in, out / 8]");
      const bool fits = scales.shape.size() == 2 && scales.shape[0] > 0 && rows % scales.shape[0] == 0 &&
                        scales.shape[1] == columns * kEach;
      if (!fits) misshapen(scales, "[groups, " + std::to_string(columns * kEach) + "]");
      if (matrix.members.size() == 3) {
        const TensorEntry& zeros = checkpoint.find(matrix.members[2])->entry;
        require_type(is_word(zeros.dtype), zeros, "I32");
        require_shape(zeros, {scales.shape[0], columns});
      }
      return;
    }
    case Kind::ternary:
      require_type(is_float(scales.dtype), scales, "a floating-point type");
      if (shape.size() != 2 || columns % 32 != 0) misshapen(weight, "[out / 4, in] with in a multiple of 32");
      return require_shape(scales, {1});
    case Kind::dropped: return;
  }
}

mx::Type ForeignStorage::type_of(const TensorEntry& entry) const {
  const auto member = by_member_.find(entry.name);
  if (member == by_member_.end()) return array_type(entry.dtype);
  const Matrix& matrix = matrices_[member->second];
  if (matrix.members.front() != entry.name) return array_type(entry.dtype);
  return matrix.kind == Kind::fp8 ? mx::Type::bf16 : mx::Type::u32;
}

Array ForeignStorage::from_fp8(const Array& codes, const Array& stored) const {
  Array values = mx::from_fp8(codes, mx::Type::bf16);
  Array scales = stored.dtype() == mx::Type::u8 ? from_exponents(stored) : stored;
  mx::Shape blocks = scales.shape();
  const int rows = codes.dim(-2), columns = codes.dim(-1), axis = codes.ndim() - 2;
  if (std::ranges::all_of(blocks, [](int d) { return d == 1; })) {
    scales = mx::reshape(scales, {1});
  } else if (blocks[blocks.size() - 2] == 1 && blocks.back() == 1) {
    // one for each matrix
  } else if (rows % block_rows_ == 0 && columns % block_columns_ == 0) {
    values = mx::reshape(values, {-1, rows / block_rows_, block_rows_, columns / block_columns_, block_columns_});
    scales = mx::reshape(scales, {-1, rows / block_rows_, 1, columns / block_columns_, 1});
  } else {
    scales = stretched(stretched(scales, block_rows_, rows, axis), block_columns_, columns, axis + 1);
  }
  return mx::reshape(mx::astype(values * scales, mx::Type::bf16), codes.shape());
}

std::map<std::string, Array> ForeignStorage::converted(const Matrix& matrix,
                                                       const std::map<std::string, Array>& tensors) const {
  const auto member = [&](size_t i) { return i < matrix.members.size() ? tensors.at(matrix.members[i]) : Array(); };
  const auto packed = [&](const PackedMatrix& made) {
    return std::map<std::string, Array>{{matrix.base + ".weight", made.weight},
                                        {matrix.base + ".scales", made.scales},
                                        {matrix.base + ".biases", made.biases}};
  };
  switch (matrix.kind) {
    case Kind::fp8: return {{matrix.members[0], from_fp8(member(0), member(1))}};
    case Kind::mxfp8:
    case Kind::mxfp4:
      return {{matrix.base + ".weight", mx::view(member(0), mx::Type::u32)}, {matrix.base + ".scales", member(1)}};
    case Kind::int4: return packed({mx::view(member(0), mx::Type::u32), member(1), member(1) * -8.0f});
    case Kind::awq: return packed(pack_awq(member(0), member(1), member(2)));
    case Kind::ternary: return packed(pack_ternary(member(0), member(1), ternary_inverted_));
    case Kind::dropped: return {};
  }
  return {};
}

void ForeignStorage::absorb(const std::string& name, std::map<std::string, Array>& tensors, bool evaluate) {
  std::map<std::string, Array> made;
  const auto member = by_member_.find(name);
  if (member != by_member_.end()) {
    Matrix& matrix = matrices_[member->second];
    if (--matrix.missing > 0) return;
    made = converted(matrix, tensors);
    for (const std::string& source : matrix.members) tensors.erase(source);
  } else {
    made.emplace(name, tensors.at(name));
  }
  for (auto& [to, array] : made) {
    const bool cast = floats_ && (array.dtype() == mx::Type::f32 || array.dtype() == mx::Type::f16 ||
                                  array.dtype() == mx::Type::bf16);
    if (cast) array = mx::astype(array, *floats_);
    if (evaluate && (cast || member != by_member_.end())) mx::eval({array});
    const bool fresh = tensors.insert_or_assign(to, array).second;
    if (!fresh && to != name) invalid("tensor_duplicate", "the weights hold " + to + " twice, packed and not");
  }
}

}  // namespace mlxk
