// Reads the plan of a conversion from JSON. See convert.h; the fields are those of lib/native.d.ts.

#include "convert.h"

#include "error.h"
#include "json.h"

namespace mlxk {
namespace {

// A plan of the most tensors a checkpoint may have, with names of the longest kind.
constexpr size_t kMaxPlanBytes = size_t{512} << 20;
constexpr size_t kMaxPlanValues = 40'000'000;

[[noreturn]] void refuse(const std::string& what) { invalid("plan_invalid", "conversion plan: " + what); }

const Json& member(const Json& object, const char* name) {
  const Json* found = object.is_object() ? object.as_object().find(name) : nullptr;
  if (!found) refuse(std::string(name) + " is missing");
  return *found;
}

const Json* optional(const Json& object, const char* name) {
  return object.is_object() ? object.as_object().find(name) : nullptr;
}

uint64_t whole(const Json& value, const char* name) {
  uint64_t number = 0;
  if (!value.get(number)) refuse(std::string(name) + " is not a whole number");
  return number;
}

const std::string& text(const Json& value, const char* name) {
  if (!value.is_string()) refuse(std::string(name) + " is not a string");
  return value.as_string();
}

const Json::Array& array(const Json& value, const char* name) {
  if (!value.is_array()) refuse(std::string(name) + " is not an array");
  return value.as_array();
}

TensorPlan read_tensor(const Json& value) {
  TensorPlan tensor;
  tensor.name = text(member(value, "name"), "name");
  if (!parse_dtype(text(member(value, "dtype"), "dtype"), tensor.dtype)) refuse("an unknown dtype");
  for (const Json& dim : array(member(value, "shape"), "shape")) {
    tensor.shape.push_back(static_cast<int64_t>(whole(dim, "shape")));
  }
  return tensor;
}

ByteSource read_source(const Json& value) {
  ByteSource source;
  const std::string& encoding = text(member(value, "encoding"), "encoding");
  BlockType block;
  if (parse_block_type(encoding, block)) {
    source.block = block;
  } else if (!parse_dtype(encoding, source.dtype)) {
    refuse("the unknown encoding " + quoted(encoding));
  }
  for (const Json& part : array(member(value, "parts"), "parts")) {
    const Json::Array& triple = array(part, "part");
    if (triple.size() != 3) refuse("a part is not [file, begin, bytes]");
    source.parts.push_back(
        {static_cast<size_t>(whole(triple[0], "file")), whole(triple[1], "begin"), whole(triple[2], "bytes")});
    source.bytes += source.parts.back().bytes;
  }
  return source;
}

mx::QuantizedShape read_quantized(const Json& value) {
  const uint64_t group_size = whole(member(value, "groupSize"), "groupSize"),
                 bits = whole(member(value, "bits"), "bits");
  const std::string& mode = text(member(value, "mode"), "mode");
  if (group_size > 128 || bits > 8) refuse("a group or width out of range");
  if (mode != "affine" && mode != "mxfp4" && mode != "mxfp8" && mode != "nvfp4") refuse("the mode " + quoted(mode));
  return {static_cast<int>(group_size), static_cast<int>(bits), mode};
}

TensorPlace read_place(const Json& value) {
  const Json::Array& pair = array(value, "place");
  if (pair.size() != 2) refuse("a place is not [shard, tensor]");
  return {static_cast<size_t>(whole(pair[0], "shard")), static_cast<size_t>(whole(pair[1], "tensor"))};
}

mx::Type read_cast(const Json& value) {
  const std::string& name = text(value, "cast");
  if (name == "F16") return mx::Type::f16;
  if (name == "BF16") return mx::Type::bf16;
  if (name == "F32") return mx::Type::f32;
  refuse("the cast to " + quoted(name));
}

ConversionJob read_job(const Json& value) {
  ConversionJob job;
  job.rows = whole(member(value, "rows"), "rows");
  job.columns = whole(member(value, "columns"), "columns");
  job.weight = read_source(member(value, "weight"));
  if (const Json* scales = optional(value, "scales")) job.scales = read_source(*scales);
  if (const Json* biases = optional(value, "biases")) job.biases = read_source(*biases);
  if (const Json* from = optional(value, "from")) job.from = read_quantized(*from);
  if (const Json* add = optional(value, "add")) {
    if (!add->is_number()) refuse("add is not a number");
    job.add = static_cast<float>(add->as_double());
  }
  const auto factor = [&](const char* name, float& to) {
    const Json* stated = optional(value, name);
    if (stated && !stated->is_number()) refuse(std::string(name) + " is not a number");
    if (stated) to = static_cast<float>(stated->as_double());
  };
  factor("times", job.times);
  factor("biasTimes", job.bias_times);
  if (const Json* blocks = optional(value, "blockScales")) {
    job.block_scales = BlockScales{.scales = read_source(member(*blocks, "scales")),
                                   .matrix_rows = whole(member(*blocks, "matrixRows"), "matrixRows"),
                                   .block_rows = whole(member(*blocks, "blockRows"), "blockRows"),
                                   .block_columns = whole(member(*blocks, "blockColumns"), "blockColumns")};
  }
  if (const Json* transposed = optional(value, "transposed")) {
    job.transposed = Transposed{.matrix_rows = whole(member(*transposed, "matrixRows"), "matrixRows"),
                                .width = whole(member(*transposed, "width"), "width"),
                                .first = whole(member(*transposed, "first"), "first")};
  }
  if (const Json* cast = optional(value, "cast")) job.cast = read_cast(*cast);
  if (const Json* to = optional(value, "to")) job.to = read_quantized(*to);
  if (const Json* heads = optional(value, "interleavedHeads")) {
    job.interleaved_heads = whole(*heads, "interleavedHeads");
    if (job.interleaved_heads > 65536) refuse("interleavedHeads is out of range");
  }
  job.weight_to = read_place(member(value, "weightTo"));
  if (const Json* place = optional(value, "scalesTo")) job.scales_to = read_place(*place);
  if (const Json* place = optional(value, "biasesTo")) job.biases_to = read_place(*place);
  return job;
}

}  // namespace

ConversionPlan ConversionPlan::parse(std::string_view json) {
  JsonOptions options;
  options.max_bytes = kMaxPlanBytes;
  options.max_values = kMaxPlanValues;
  options.max_depth = 8;
  const Json root = [&] {
    try {
      return Json::parse(json, options);
    } catch (const JsonError& error) {
      refuse(error.what());
    }
  }();
  ConversionPlan plan;
  for (const Json& file : array(member(root, "files"), "files")) plan.files.push_back(text(file, "file"));
  for (const Json& shard : array(member(root, "shards"), "shards")) {
    Shard& out = plan.shards.emplace_back();
    out.path = text(member(shard, "path"), "path");
    for (const Json& tensor : array(member(shard, "tensors"), "tensors")) out.tensors.push_back(read_tensor(tensor));
  }
  for (const Json& value : array(member(root, "jobs"), "jobs")) {
    const ConversionJob& job = plan.jobs.emplace_back(read_job(value));
    plan.source_bytes += job.weight.bytes + (job.scales ? job.scales->bytes : 0) + (job.biases ? job.biases->bytes : 0);
  }
  return plan;
}

}  // namespace mlxk
