// Mutated safetensors headers against the strict reader. A second, slow checker written another way
// judges each one: both must agree on accepted or refused, and on every entry of an accepted file.
// Usage: fuzz_safetensors [iterations] [seed]; exit 1 at the first disagreement, with the header.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <unistd.h>

#include "../safetensors.h"
#include "random.h"
#include "safetensors_file.h"

using namespace mlxk;
using test::Random;

namespace {

const std::vector<std::pair<std::string, size_t>> kTypes = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"U16", 2},  {"I16", 2}, {"U32", 4},     {"I32", 4},
    {"U64", 8},  {"I64", 8}, {"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F8_E4M3", 1}, {"F8_E8M0", 1}};

// --- the slow checker

struct Refused {};

void want(bool ok) {
  if (!ok) throw Refused{};
}

struct Value {
  char kind;         // { [ " 0 or a literal's first letter
  std::string text;  // of a string, decoded; of a number, as written
  std::vector<Value> items;
  std::map<std::string, Value> fields;
};

// Code point by code point, where the reader works byte by byte.
std::vector<uint32_t> decode(const std::string& text) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < text.size();) {
    const unsigned lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) {
      out.push_back(lead);
      continue;
    }
    const int tail = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    want(lead >= 0xc0 && lead < 0xf8);
    uint32_t code = lead & (0x3f >> tail);
    for (int k = 0; k < tail; ++k) {
      want(i < text.size() && (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80);
      code = code << 6 | (static_cast<unsigned char>(text[i++]) & 0x3f);
    }
    const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    want(code >= least[tail] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff));
    out.push_back(code);
  }
  return out;
}

void encode(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int tail = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  const unsigned mark[] = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char>(mark[tail] | code >> (6 * tail));
  for (int k = tail - 1; k >= 0; --k) out += static_cast<char>(0x80 | (code >> (6 * k) & 0x3f));
}

class Slow {
 public:
  explicit Slow(const std::string& text) : in_(decode(text)) {}

  Value document() {
    want(!in_.empty() && in_[0] == '{');
    Value value = parse(1);
    space();
    want(at_ == in_.size());
    return value;
  }

 private:
  uint32_t now() const { return at_ < in_.size() ? in_[at_] : UINT32_MAX; }
  uint32_t take() {
    want(at_ < in_.size());
    return in_[at_++];
  }
  void space() {
    while (now() == ' ' || now() == '\t' || now() == '\r' || now() == '\n') ++at_;
  }
  bool digit() const { return now() >= '0' && now() <= '9'; }

  Value parse(int depth) {
    space();
    const uint32_t c = now();
    if (c == '{' || c == '[') want(depth <= 4);
    if (c == '{') return object(depth);
    if (c == '[') return array(depth);
    if (c == '"') return {'"', string(), {}, {}};
    if (c == '-' || digit()) return {'0', number(), {}, {}};
    for (const char* word : {"true", "false", "null"}) {
      if (c != static_cast<uint32_t>(*word)) continue;
      for (const char* p = word; *p; ++p) want(take() == static_cast<uint32_t>(*p));
      return {*word, "", {}, {}};
    }
    throw Refused{};
  }

  Value object(int depth) {
    Value out{'{', "", {}, {}};
    take();
    space();
    if (now() == '}') return take(), out;
    for (;;) {
      space();
      want(now() == '"');
      std::string name = string();
      space();
      want(take() == ':');
      want(out.fields.emplace(name, parse(depth + 1)).second);
      space();
      const uint32_t c = take();
      if (c == '}') return out;
      want(c == ',');
    }
  }

  Value array(int depth) {
    Value out{'[', "", {}, {}};
    take();
    space();
    if (now() == ']') return take(), out;
    for (;;) {
      out.items.push_back(parse(depth + 1));
      space();
      const uint32_t c = take();
      if (c == ']') return out;
      want(c == ',');
    }
  }

  uint32_t unit() {
    uint32_t code = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t c = take();
      want(c < 0x80 && isxdigit(static_cast<int>(c)));
      const char digits[] = {static_cast<char>(c), 0};
      code = code * 16 + static_cast<uint32_t>(std::strtoul(digits, nullptr, 16));
    }
    return code;
  }

  std::string string() {
    std::string out;
    take();
    for (;;) {
      uint32_t c = take();
      if (c == '"') return out;
      want(c >= 0x20);
      if (c == '\\') {
        c = take();
        const std::string from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        const size_t known = c < 0x80 ? from.find(static_cast<char>(c)) : std::string::npos;
        if (c == 'u') {
          c = unit();
          if (c >= 0xd800 && c < 0xe000) {
            want(c < 0xdc00 && take() == '\\' && take() == 'u');
            const uint32_t low = unit();
            want(low >= 0xdc00 && low < 0xe000);
            c = 0x10000 + (c - 0xd800) * 0x400 + (low - 0xdc00);
          }
        } else {
          want(known != std::string::npos);
          c = static_cast<unsigned char>(to[known]);
        }
      }
      encode(c, out);
    }
  }

  std::string number() {
    std::string out;
    auto keep = [&] { out += static_cast<char>(take()); };
    auto digits = [&] {
      want(digit());
      while (digit()) keep();
    };
    if (now() == '-') keep();
    if (now() == '0') {
      keep();
    } else {
      digits();
    }
    if (now() == '.') {
      keep();
      digits();
    }
    if (now() == 'e' || now() == 'E') {
      keep();
      if (now() == '+' || now() == '-') keep();
      digits();
    }
    return out;
  }

  std::vector<uint32_t> in_;
  size_t at_ = 0;
};

// An integer from 0 to `max`, as its text says.
uint64_t whole(const Value& value, uint64_t max) {
  want(value.kind == '0');
  const std::string& text = value.text;
  want(text.size() <= 20 && text.find_first_not_of("0123456789") == std::string::npos);
  unsigned __int128 number = 0;
  for (char c : text) number = number * 10 + static_cast<unsigned>(c - '0');
  want(number <= max);
  return static_cast<uint64_t>(number);
}

std::vector<TensorEntry> slow_check(const std::string& header, uint64_t file_size) {
  const uint64_t base = 8 + header.size(), data = file_size - base;
  const Value root = Slow(header).document();
  std::vector<TensorEntry> out;
  std::vector<size_t> owner(data, 0);  // of each byte: position in `out`, counted from 1
  std::vector<uint64_t> holes;         // where empty tensors stand
  for (const auto& [name, value] : root.fields) {
    if (name == "__metadata__" && value.kind == 'n') continue;
    want(value.kind == '{');
    if (name == "__metadata__") {
      for (const auto& field : value.fields) want(field.second.kind == '"');
      continue;
    }
    want(!name.empty() && name.size() <= 512);
    for (unsigned char c : name) want(c > 0x1f && c != 0x7f);
    want(value.fields.size() == 3 && value.fields.count("dtype") && value.fields.count("shape") &&
         value.fields.count("data_offsets"));
    const Value& dtype = value.fields.at("dtype");
    const Value& shape = value.fields.at("shape");
    const Value& offsets = value.fields.at("data_offsets");
    TensorEntry entry;
    entry.name = name;
    size_t type = 0;
    while (type < kTypes.size() && kTypes[type].first != dtype.text) ++type;
    want(dtype.kind == '"' && type < kTypes.size());
    entry.dtype = static_cast<Dtype>(type);
    want(shape.kind == '[' && shape.items.size() <= 8);
    unsigned __int128 bytes = kTypes[type].second;
    bool empty = false;
    for (const Value& item : shape.items) {
      const uint64_t dim = whole(item, 0x7fffffff);
      entry.shape.push_back(static_cast<int64_t>(dim));
      if (dim == 0) empty = true;
      if (dim > 0) bytes *= dim;  // 2^67 at most before the check, times 2^31: fits
      want(bytes <= UINT64_MAX);
    }
    if (empty) bytes = 0;
    want(offsets.kind == '[' && offsets.items.size() == 2);
    entry.begin = whole(offsets.items[0], UINT64_MAX);
    entry.end = whole(offsets.items[1], UINT64_MAX);
    want(entry.begin <= entry.end && entry.end <= data && entry.end - entry.begin == bytes);
    for (uint64_t i = entry.begin; i < entry.end; ++i) {
      want(owner[i] == 0);
      owner[i] = out.size() + 1;
    }
    if (entry.begin == entry.end) holes.push_back(entry.begin);
    entry.begin += base;
    entry.end += base;
    out.push_back(std::move(entry));
  }
  for (size_t each : owner) want(each != 0);
  for (uint64_t hole : holes) {  // never inside another tensor
    if (hole != 0 && hole != data) want(owner[hole - 1] != owner[hole]);
  }
  return out;
}

// --- making headers

// clang-format off: it would give every entry a line
const std::vector<std::string> kNumbers = {
    "-1", "0", "-0", "1", "2", "3", "4", "7", "8", "16", "255", "65536", "2147483647", "2147483648", "4294967295",
    "4294967296", "4294967312", "9223372036854775807", "9223372036854775808", "18446744073709551608",
    "18446744073709551615", "18446744073709551616", "1e2", "1.0", "-0.0", "01", "1e999",
    "340282366920938463463374607431768211456", "null", "true", "\"4\"", "[]", "{}"};
// clang-format on

// Their products pass 2^64, some to land on a small number again.
const std::vector<std::string> kWraps = {"65536,65536,65536,65536",
                                         "2147483647,2147483647,8",
                                         "0,2147483647,2147483647,16",
                                         "4294967297,4294967297",
                                         "-1,-1",
                                         "1048576,1048576,1048576,16"};

// clang-format off: it would give every entry a line
const std::vector<std::string> kBits = {
    "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud83d\\ude00", "\\ud800", "\\n", " ", "\n",
    std::string(1, '\0'), "\x7f", "\x80", "\xc3\xa9", "\xed\xa0\x80", "\xf0\x9f\x98\x80", "\xff", "__metadata__",
    "dtype", "shape", "data_offsets", "F64", "F32", "\"a\":1", "[[[[", "{\"a\":{\"b\":"};
// clang-format on

struct Draft {
  std::string header;
  uint64_t data = 0;
};

// A header over at most a few hundred bytes of data: sound, or with lies only arithmetic shows.
Draft make(Random& random, bool lies) {
  const char* gap = random.one_in(3) ? " " : "";
  std::vector<std::string> entries;
  uint64_t at = 0;
  const uint64_t count = random.below(6);
  for (uint64_t i = 0; i < count; ++i) {
    const auto& [dtype, size] = random.pick(kTypes);
    std::string shape;
    uint64_t bytes = size;
    const uint64_t rank = random.one_in(8) ? random.below(9) : random.below(4);
    for (uint64_t d = 0; d < rank; ++d) {
      const uint64_t dim = bytes > 64 ? 1 : random.one_in(12) ? 0 : 1 + random.below(4);
      bytes *= dim;
      shape += (d ? "," : "") + std::string(gap) + std::to_string(dim);
    }
    if (lies && random.one_in(4)) at += random.below(3) - (at ? 1 : 0);  // a gap or an overlap
    if (lies && random.one_in(8)) {
      const std::string wide = random.pick(kWraps);
      shape += (shape.empty() ? "" : ",") + wide;
    }
    std::string name = "l." + std::to_string(i) + ".w";
    if (random.one_in(50)) name += std::string(505 + random.below(5), 'n');  // around the limit
    entries.push_back(test::entry(name, dtype, shape, at, at + bytes));
    at += bytes;
  }
  if (random.one_in(3)) {
    const std::string value = lies && random.one_in(2) ? random.pick(kNumbers) : "\"\"";
    entries.push_back(R"("__metadata__":{"format":"pt","k\u00e9":)" + value + '}');
  }
  for (size_t i = entries.size(); i > 1; --i) std::swap(entries[i - 1], entries[random.below(i)]);
  std::string header = "{";
  for (size_t i = 0; i < entries.size(); ++i) header += (i ? "," : "") + (gap + entries[i]);
  return {header + '}' + std::string(random.one_in(4) ? random.below(8) : 0, ' '), at};
}

// Where the numbers of a header stand.
std::vector<std::pair<size_t, size_t>> number_spans(const std::string& text) {
  std::vector<std::pair<size_t, size_t>> out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!isdigit(static_cast<unsigned char>(text[i])) || !i || !strchr("[, ", text[i - 1])) continue;
    size_t end = i;
    while (end < text.size() && isdigit(static_cast<unsigned char>(text[end]))) ++end;
    out.push_back({i, end - i});
    i = end;
  }
  return out;
}

void mutate(Draft& draft, Random& random) {
  std::string& text = draft.header;
  const size_t at = random.below(text.size() + 1);
  const size_t length = std::min<size_t>(random.below(24), text.size() - at);
  switch (random.below(10)) {
    case 0:
      if (at < text.size()) text[at] = static_cast<char>(random.next());
      break;
    case 1:
      if (at < text.size()) text[at] = static_cast<char>(text[at] ^ 1 << random.below(8));
      break;
    case 2: text.erase(at, length); break;
    case 3: text.insert(at, text.substr(at, length)); break;
    case 4: text.insert(at, random.pick(kBits)); break;
    case 5: draft.data = random.one_in(2) ? draft.data + random.below(9) : draft.data / (1 + random.below(3)); break;
    case 6: text.insert(at, text.substr(random.below(text.size() + 1), random.below(200))); break;
    default: {  // numbers carry the most lies, so they get the most turns
      const auto spans = number_spans(text);
      if (spans.empty()) break;
      const auto [start, size] = random.pick(spans);
      std::string number = random.pick(kNumbers);
      if (random.one_in(2)) {
        const auto [other, other_size] = random.pick(spans);
        number = text.substr(other, other_size);
      } else if (random.one_in(2)) {
        number = std::to_string(std::strtoull(text.c_str() + start, nullptr, 10) + random.below(9) - 4);
      }
      text.replace(start, size, number);
    }
  }
}

// --- the comparison

const std::set<std::string> kReasons = {"header_utf8",      "header_json",   "header_duplicate",  "header_depth",
                                        "too_many_tensors", "tensor_name",   "dtype_unsupported", "shape_invalid",
                                        "size_overflow",    "size_mismatch", "offsets_overlap",   "offsets_gap",
                                        "offsets_range",    "trailing_bytes"};

bool same(std::vector<TensorEntry> a, std::vector<TensorEntry> b) {
  const auto by_name = [](const TensorEntry& x, const TensorEntry& y) { return x.name < y.name; };
  std::sort(a.begin(), a.end(), by_name);
  std::sort(b.begin(), b.end(), by_name);
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const TensorEntry& x, const TensorEntry& y) {
    return x.name == y.name && x.dtype == y.dtype && x.shape == y.shape && x.begin == y.begin && x.end == y.end;
  });
}

std::map<std::string, uint64_t> tally;

// Null when reader and checker agree.
const char* compare(const Draft& draft, bool untouched) {
  const uint64_t file_size = 8 + draft.header.size() + draft.data;
  std::optional<std::vector<TensorEntry>> fast, slow;
  std::string reason = "accepted";
  try {
    fast = parse_safetensors_header(draft.header, file_size, "fuzz");
  } catch (const EngineError& error) {
    reason = error.reason;
    if (!kReasons.count(reason)) return "a reason outside the list";
  }
  try {
    slow = slow_check(draft.header, file_size);
  } catch (const Refused&) {
  }
  ++tally[reason];
  if (fast && !slow) return "accepted what the checker refuses";
  if (!fast && slow) return "refused what the checker accepts";
  if (!fast) return untouched && reason != "tensor_name" ? "refused a sound header" : nullptr;
  for (size_t i = 1; i < fast->size(); ++i) {
    if ((*fast)[i - 1].begin > (*fast)[i].begin) return "entries out of order";
  }
  return same(*fast, *slow) ? nullptr : "entries differ";
}

// The same through a real file, with the eight length bytes in play too.
const char* compare_file(const Draft& draft, Random& random, const std::string& path) {
  std::string bytes = test::safetensors(draft.header, std::string(draft.data, 'x'));
  const bool lie = random.one_in(2);
  if (lie) bytes[random.below(8)] = static_cast<char>(random.next());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(bytes[i]);
  bool sound = length >= 2 && length <= bytes.size() - 8;
  try {
    if (sound) slow_check(bytes.substr(8, length), bytes.size());
  } catch (const Refused&) {
    sound = false;
  }
  bool opened = true;
  try {
    SafetensorsFile::open(path).verify_unchanged();
  } catch (const EngineError&) {
    opened = false;
  }
  return opened == sound ? nullptr : "the file reader disagrees with the checker";
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t iterations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  char path[] = "/tmp/mlxk-fuzz-XXXXXX";
  const int fd = mkstemp(path);
  if (fd < 0) return 2;
  close(fd);
  const auto start = std::chrono::steady_clock::now();
  Random random{seed};
  const char* fault = nullptr;
  uint64_t done = 0;
  for (; done < iterations && !fault; ++done) {
    const bool lies = random.one_in(4);
    Draft draft = make(random, lies);
    const bool untouched = random.one_in(lies ? 2 : 10);
    const uint64_t turns = untouched ? 0 : 1 + random.below(random.one_in(4) ? 8 : 2);
    for (uint64_t k = 0; k < turns; ++k) mutate(draft, random);
    fault = compare(draft, untouched && !lies);
    if (!fault && done % 64 == 0) fault = compare_file(draft, random, path);
    if (fault) {
      std::cout << "header " << done << " of seed " << seed << ": " << fault << '\n'
                << draft.data << " bytes of data after " << quoted(draft.header, 10'000) << '\n';
    }
  }
  unlink(path);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
  for (const auto& [reason, count] : tally) std::cout << reason << ": " << count << '\n';
  std::cout << done << " headers in " << spent.count() << " s, "
            << static_cast<uint64_t>(static_cast<double>(done) / spent.count())
            << " a second: " << (fault ? "FAULT" : "no fault") << '\n';
  return fault ? 1 : 0;
}
