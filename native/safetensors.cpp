#include "safetensors.h"

#include <algorithm>
#include <cctype>
#include <limits>

#include "json.h"

namespace mlxk {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr int64_t kMaxDimension = std::numeric_limits<int32_t>::max();  // MLX shapes are 32-bit
// 200,000 tensors of rank 8 make 2.8 million values.
constexpr size_t kMaxHeaderValues = 4'000'000;
constexpr int kMaxHeaderDepth = 4;

struct DtypeRow {
  const char* name;
  size_t size;
};

constexpr DtypeRow kDtypes[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2},  {"I16", 2}, {"U32", 4},     {"I32", 4},
    {"U64", 8},  {"I64", 8}, {"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
};
static_assert(std::size(kDtypes) == static_cast<size_t>(Dtype::F8_E8M0) + 1);

class HeaderReader {
 public:
  HeaderReader(std::string_view header, uint64_t file_size, const std::string& label)
      : header_(header), data_begin_(kLengthBytes + header.size()), label_(label) {
    data_size_ = file_size - data_begin_;
  }

  std::vector<TensorEntry> read() {
    const Json root = parse();
    if (!root.is_object()) refuse("header_json", "the header is not a JSON object");
    const auto& members = root.as_object().members();
    const Json* metadata = root.as_object().find("__metadata__");
    if (metadata) check_metadata(*metadata);
    const size_t count = members.size() - (metadata ? 1 : 0);
    if (count > kMaxTensors) {
      refuse("too_many_tensors",
             "the header lists " + std::to_string(count) + " tensors, more than " + std::to_string(kMaxTensors));
    }
    std::vector<TensorEntry> out;
    out.reserve(count);
    for (const auto& [name, value] : members) {
      if (&value != metadata) out.push_back(read_entry(name, value));
    }
    // Empty tensors share a start with their successor, so the end decides between them.
    std::sort(out.begin(), out.end(), [](const TensorEntry& a, const TensorEntry& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    check_layout(out);
    return out;
  }

 private:
  Json parse() {
    // The format wants the brace first; the reader below would also skip spaces before it.
    if (header_.empty() || header_[0] != '{') {
      refuse("header_json", "the header does not begin with \"{\"");
    }
    JsonOptions options;
    options.max_bytes = kMaxHeaderBytes;
    options.max_depth = kMaxHeaderDepth;
    options.max_values = kMaxHeaderValues;
    try {
      return Json::parse(header_, options);
    } catch (const JsonError& error) {
      const char* reason = error.reason == "json_utf8"        ? "header_utf8"
                           : error.reason == "json_duplicate" ? "header_duplicate"
                           : error.reason == "json_depth"     ? "header_depth"
                           : error.reason == "json_values"    ? "too_many_tensors"
                                                              : "header_json";
      refuse(reason, std::string("the header: ") + error.what());
    }
  }

  void check_metadata(const Json& metadata) const {
    if (metadata.is_null()) return;  // as MLX writes it where it is given none
    if (!metadata.is_object()) refuse("header_json", "__metadata__ is not an object");
    for (const auto& [key, value] : metadata.as_object().members()) {
      if (!value.is_string()) {
        refuse("header_json", "__metadata__ " + quoted(key) + " is not a string but " + value.describe());
      }
    }
  }

  TensorEntry read_entry(const std::string& name, const Json& value) const {
    check_name(name);
    if (!value.is_object()) refuse_tensor("header_json", name, "is not an object");
    const Json::Object& fields = value.as_object();
    const Json* dtype = fields.find("dtype");
    const Json* shape = fields.find("shape");
    const Json* offsets = fields.find("data_offsets");
    if (!dtype || !shape || !offsets || fields.size() != 3) {
      refuse_tensor("header_json", name, "must have exactly dtype, shape and data_offsets");
    }
    TensorEntry entry;
    entry.name = name;
    if (!dtype->is_string() || !parse_dtype(dtype->as_string(), entry.dtype)) {
      refuse_tensor("dtype_unsupported", name, "has dtype " + dtype->describe());
    }
    read_shape(*shape, entry);
    read_offsets(*offsets, entry);
    check_size(entry);
    entry.begin += data_begin_;
    entry.end += data_begin_;
    return entry;
  }

  void check_name(const std::string& name) const {
    if (name.empty()) refuse("tensor_name", "a tensor has an empty name");
    if (name.size() > kMaxTensorNameBytes) {
      refuse_tensor(
          "tensor_name", name,
          "has a name of " + std::to_string(name.size()) + " bytes, more than " + std::to_string(kMaxTensorNameBytes));
    }
    for (char c : name) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7f) {
        refuse_tensor("tensor_name", name, "has a control character in its name");
      }
    }
  }

  void read_shape(const Json& shape, TensorEntry& entry) const {
    if (!shape.is_array()) {
      refuse_tensor("shape_invalid", entry.name, "has as shape " + shape.describe());
    }
    const Json::Array& dims = shape.as_array();
    if (dims.size() > kMaxRank) {
      refuse_tensor("shape_invalid", entry.name,
                    "has " + std::to_string(dims.size()) + " dimensions, more than " + std::to_string(kMaxRank));
    }
    for (const Json& dim : dims) {
      int64_t size;
      if (!dim.get(size) || size < 0 || size > kMaxDimension) {
        refuse_tensor(
            "shape_invalid", entry.name,
            "has the dimension " + dim.describe() + "; each is an integer from 0 to " + std::to_string(kMaxDimension));
      }
      entry.shape.push_back(size);
    }
  }

  void read_offsets(const Json& offsets, TensorEntry& entry) const {
    const bool pair = offsets.is_array() && offsets.as_array().size() == 2;
    if (!pair || !offsets.as_array()[0].get(entry.begin) || !offsets.as_array()[1].get(entry.end)) {
      refuse_tensor("offsets_range", entry.name, "must have two non-negative integers as data_offsets");
    }
    if (entry.begin > entry.end) {
      refuse_tensor("offsets_range", entry.name, "has the reversed data_offsets " + span(entry));
    }
  }

  void check_size(const TensorEntry& entry) const {
    uint64_t bytes = dtype_size(entry.dtype);
    bool empty = false, overflow = false;
    for (int64_t dim : entry.shape) {
      empty |= dim == 0;
      // Zeros are left out of the product, so that none can hide an overflow behind it.
      const auto factor = static_cast<uint64_t>(dim == 0 ? 1 : dim);
      overflow |= __builtin_mul_overflow(bytes, factor, &bytes);
    }
    if (overflow) refuse_tensor("size_overflow", entry.name, "has a shape beyond 2^64 bytes");
    if (empty) bytes = 0;
    if (bytes != entry.end - entry.begin) {
      refuse_tensor("size_mismatch", entry.name,
                    "needs " + std::to_string(bytes) + " bytes by its shape and dtype, but " +
                        std::to_string(entry.end - entry.begin) + " by its data_offsets");
    }
    if (entry.end > data_size_) {
      refuse_tensor("offsets_range", entry.name,
                    "has the data_offsets " + span(entry) + ", but the file holds only " + std::to_string(data_size_) +
                        " bytes of data; it may be cut short");
    }
  }

  void check_layout(const std::vector<TensorEntry>& entries) const {
    uint64_t at = data_begin_;
    for (const TensorEntry& entry : entries) {
      if (entry.begin < at) {
        refuse_tensor("offsets_overlap", entry.name, "shares bytes with another tensor");
      }
      if (entry.begin > at) {
        refuse_tensor("offsets_gap", entry.name,
                      "comes after " + std::to_string(entry.begin - at) + " bytes of no tensor");
      }
      at = entry.end;
    }
    const uint64_t rest = data_begin_ + data_size_ - at;
    if (rest > 0) {
      refuse("trailing_bytes", std::to_string(rest) + " bytes after the last tensor");
    }
  }

  static std::string span(const TensorEntry& entry) {
    return '[' + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + ']';
  }

  [[noreturn]] void refuse(const char* reason, const std::string& message) const {
    invalid(reason, label_ + ": " + message);
  }

  [[noreturn]] void refuse_tensor(const char* reason, const std::string& name, const std::string& message) const {
    refuse(reason, "tensor " + quoted(name) + ' ' + message);
  }

  std::string_view header_;
  uint64_t data_begin_, data_size_;
  const std::string& label_;
};

bool starts_with_nocase(std::string_view text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (size_t i = 0; i < lower.size(); ++i) {
    if (std::tolower(static_cast<unsigned char>(text[i])) != lower[i]) return false;
  }
  return true;
}

}  // namespace

size_t dtype_size(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)].size; }

const char* dtype_name(Dtype dtype) { return kDtypes[static_cast<size_t>(dtype)].name; }

bool parse_dtype(std::string_view name, Dtype& out) {
  for (size_t i = 0; i < std::size(kDtypes); ++i) {
    if (name == kDtypes[i].name) {
      out = static_cast<Dtype>(i);
      return true;
    }
  }
  return false;
}

std::vector<TensorEntry> parse_safetensors_header(std::string_view header, uint64_t file_size,
                                                  const std::string& label) {
  return HeaderReader(header, file_size, label).read();
}

void refuse_impostor(std::string_view first_bytes, const std::string& label) {
  if (first_bytes.starts_with("version https://git-lfs.github.com/spec/")) {
    invalid("lfs_pointer", label + ": is a Git LFS pointer, not the file itself; fetch the real file");
  }
  const size_t text = first_bytes.find_first_not_of(" \t\r\n");
  if (text == std::string_view::npos) return;
  const std::string_view start = first_bytes.substr(text);
  if (starts_with_nocase(start, "<!doctype html") || starts_with_nocase(start, "<html")) {
    invalid("html_page", label + ": is an HTML page, probably a saved error; download it again");
  }
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  SafetensorsFile file(InputFile::open(path));
  const uint64_t size = file.size();
  char start[64];
  const uint64_t known = std::min<uint64_t>(size, sizeof start);
  file.file_.read(0, known, start);
  // Text in the first eight bytes is always a length beyond the limit, so no sound file is hit.
  refuse_impostor({start, known}, path);
  if (size < kLengthBytes + 2) {
    invalid("header_length", path + ": has " + std::to_string(size) + " bytes, too few for a safetensors file");
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(start[i]);
  const uint64_t limit = std::min(size - kLengthBytes, kMaxHeaderBytes);
  if (length < 2 || length > limit) {
    invalid("header_length", path + ": says its header has " + std::to_string(length) +
                                 " bytes; it must be from 2 to " + std::to_string(limit));
  }
  std::string header(static_cast<size_t>(length), '\0');
  file.file_.read(kLengthBytes, length, header.data());
  file.tensors_ = parse_safetensors_header(header, size, path);
  return file;
}

}  // namespace mlxk
