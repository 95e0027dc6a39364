// The strict safetensors reader against files that lie, one rule at a time, and against files that
// change while they are read.

#include "../safetensors.h"

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "safetensors_file.h"

using namespace mlxk;
using namespace mlxk::test;
using namespace std::string_literals;

namespace {

std::vector<TensorEntry> load(const std::string& bytes) {
  TempFolder folder;
  return SafetensorsFile::open(folder.write("model.safetensors", bytes)).tensors();
}

// A header of one tensor over sixteen bytes of data.
std::vector<TensorEntry> one(const std::string& dtype, const std::string& shape, const std::string& begin = "0",
                             const std::string& end = "16") {
  return load(safetensors('{' + entry("t", dtype, shape, begin, end) + '}', std::string(16, 'x')));
}

std::vector<TensorEntry> header(const std::string& text, size_t data = 0) {
  return load(safetensors(text, std::string(data, 'x')));
}

std::string many(size_t count) {
  std::string text = "{";
  for (size_t i = 0; i < count; ++i) {
    if (i) text += ',';
    text += entry("t" + std::to_string(i), "U8", "0", 0, 0);
  }
  return text + '}';
}

}  // namespace

TEST("reads entries sorted by offset, with absolute positions and bytes") {
  const std::string text = '{' + entry("b", "F32", "2,2", 4, 20) + ',' + "\"__metadata__\":{\"format\":\"mlx\"}," +
                           entry("a", "BF16", "2", 0, 4) + ',' + entry("scalar", "I16", "", 20, 22) + "}   ";
  TempFolder folder;
  const std::string data = "aaaabbbbccccddddeeeess";
  const auto file = SafetensorsFile::open(folder.write("m", safetensors(text, data)));
  const auto& tensors = file.tensors();
  CHECK_EQ(tensors.size(), 3u);
  CHECK_EQ(tensors[0].name, "a");
  CHECK_EQ(tensors[1].name, "b");
  CHECK(tensors[1].dtype == Dtype::F32);
  CHECK(tensors[1].shape == (std::vector<int64_t>{2, 2}));
  CHECK(tensors[2].shape.empty());
  CHECK_EQ(tensors[0].begin, 8 + text.size());
  CHECK_EQ(file.size(), 8 + text.size() + 22);
  std::string bytes(16, '\0');
  file.read(tensors[1], bytes.data());
  CHECK_EQ(bytes, "bbbbccccddddeeee");
  file.read_range(tensors[2].begin, tensors[2].end, bytes.data());
  CHECK_EQ(bytes.substr(0, 2), "ss");
  file.verify_unchanged();
}

TEST("knows the size of every type of the format that MLX holds") {
  for (const auto& [name, size] : {std::pair<const char*, size_t>{"BOOL", 1},
                                   {"U8", 1},
                                   {"I8", 1},
                                   {"U16", 2},
                                   {"I16", 2},
                                   {"U32", 4},
                                   {"I32", 4},
                                   {"U64", 8},
                                   {"I64", 8},
                                   {"F16", 2},
                                   {"BF16", 2},
                                   {"F32", 4},
                                   {"F8_E4M3", 1},
                                   {"F8_E8M0", 1}}) {
    const auto tensors = one(name, std::to_string(16 / size));
    CHECK_EQ(dtype_size(tensors[0].dtype), size);
    CHECK_EQ(std::string(dtype_name(tensors[0].dtype)), name);
  }
}

TEST("refuses a type that is unknown or that MLX lacks, by name") {
  for (const char* name : {"F64", "F8_E5M2", "C64", "F4", "f32", "F32 ", "", "INT8"}) {
    CHECK_REFUSED(one(name, "2"), "dtype_unsupported", "tensor \"t\" has dtype \"" + std::string(name) + '"');
  }
  CHECK_REFUSED(header(R"({"t":{"dtype":5,"shape":[],"data_offsets":[0,4]}})", 4), "dtype_unsupported", "has dtype 5");
}

TEST("refuses what is no regular file") {
  TempFolder folder;
  CHECK_REFUSED(SafetensorsFile::open(folder.path), "not_a_file", "is a folder");
  CHECK_REFUSED(SafetensorsFile::open(folder.path + "/absent"), "file_missing", "absent");
  std::filesystem::create_symlink("nowhere", folder.path + "/dangling");
  CHECK_REFUSED(SafetensorsFile::open(folder.path + "/dangling"), "file_missing", "dangling");
  mkfifo((folder.path + "/pipe").c_str(), 0600);
  CHECK_REFUSED(SafetensorsFile::open(folder.path + "/pipe"), "not_a_file", "not a regular file");
  CHECK_REFUSED(SafetensorsFile::open("/dev/null"), "not_a_file", "not a regular file");
}

TEST("follows a link to the file") {
  TempFolder folder;
  folder.write("blob", safetensors("{}", ""));
  std::filesystem::create_symlink("blob", folder.path + "/model.safetensors");
  const auto file = SafetensorsFile::open(folder.path + "/model.safetensors");
  CHECK(file.tensors().empty());
  file.verify_unchanged();
}

TEST("refuses a header length that cannot be") {
  CHECK_REFUSED(load(""), "header_length", "has 0 bytes");
  CHECK_REFUSED(load("1234567"), "header_length", "has 7 bytes");
  CHECK_REFUSED(load(little_endian(1) + "{"), "header_length", "has 9 bytes");
  for (uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{25}, uint64_t{32}, uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    CHECK_REFUSED(load(little_endian(length) + "{}" + std::string(22, ' ')), "header_length",
                  std::to_string(length) + " bytes; it must be from 2 to 24");
  }
  CHECK(load(little_endian(24) + "{}" + std::string(22, ' ')).empty());
}

TEST("refuses a header over the limit without reading it") {
  TempFolder folder;
  const std::string path = folder.write("m", little_endian(kMaxHeaderBytes + 1) + "{}");
  std::filesystem::resize_file(path, 200'000'000);  // sparse
  CHECK_REFUSED(SafetensorsFile::open(path), "header_length", "from 2 to 100000000");
}

TEST("refuses a header that is not one strict JSON object") {
  CHECK_REFUSED(header("{\"\xff\":1}"), "header_utf8", "column 3");
  CHECK_REFUSED(header("{\"t\":"), "header_json", "column 6");
  CHECK_REFUSED(header("[]"), "header_json", "does not begin with");
  CHECK_REFUSED(header(" {}"), "header_json", "does not begin with");
  CHECK_REFUSED(header("{}\0"s), "header_json", "");
  CHECK_REFUSED(header("{}{}"), "header_json", "");
  CHECK_REFUSED(header("{\"t\":NaN}"), "header_json", "");
  CHECK_REFUSED(header("{\"t\":18446744073709551616}"), "header_json", "64 bits");
  CHECK_REFUSED(header("{\"a\":[[[[1]]]]}"), "header_depth", "deeper than 4");
  CHECK_REFUSED(header("{\"a\":" + std::string(3'000'000, '[')), "header_depth", "column 9");
  const std::string tensor = entry("t", "U8", "1", 0, 1);
  CHECK_REFUSED(header('{' + tensor + ',' + tensor + '}', 1), "header_duplicate", "\"t\"");
  CHECK_REFUSED(header(R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})"), "header_duplicate",
                "\"dtype\"");
  CHECK_REFUSED(header(R"({"__metadata__":{},"__metadata__":{}})"), "header_duplicate", "");
}

TEST("refuses an entry without exactly its three fields") {
  for (const char* text :
       {R"({"t":1})", R"({"t":[]})", R"({"t":{}})", R"({"t":{"dtype":"U8","shape":[0]}})",
        R"({"t":{"dtype":"U8","data_offsets":[0,0]}})", R"({"t":{"shape":[0],"data_offsets":[0,0]}})",
        R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"more":1}})"}) {
    CHECK_REFUSED(header(text), "header_json", "tensor \"t\"");
  }
}

TEST("wants string to string in the metadata") {
  CHECK(header(R"({"__metadata__":{"a":"b","c":""}})").empty());
  CHECK(header(R"({"__metadata__":null})").empty());
  CHECK_REFUSED(header(R"({"__metadata__":{"a":1}})"), "header_json", "\"a\" is not a string but 1");
  CHECK_REFUSED(header(R"({"__metadata__":[]})"), "header_json", "__metadata__ is not an object");
  CHECK_REFUSED(header(R"({"__metadata__":{"a":{"b":"c"}}})"), "header_json", "an object");
}

TEST("bounds tensors and names") {
  CHECK_EQ(load(safetensors(many(kMaxTensors), "")).size(), kMaxTensors);
  CHECK_REFUSED(load(safetensors(many(kMaxTensors + 1), "")), "too_many_tensors", "200001");
  std::string zeros = "{\"t\":[0";
  for (int i = 0; i < 4'000'000; ++i) zeros += ",0";
  CHECK_REFUSED(header(zeros + "]}"), "too_many_tensors", "4000000 values");
  const std::string longest(kMaxTensorNameBytes, 'n');
  CHECK_EQ(header('{' + entry(longest, "U8", "1", 0, 1) + '}', 1)[0].name, longest);
  CHECK_REFUSED(header('{' + entry(longest + 'n', "U8", "1", 0, 1) + '}', 1), "tensor_name", "513 bytes");
  for (const char* bad : {"", "a\\nb", "a\\u0000b", "\\u007f", "\\u001b[2J"}) {
    CHECK_REFUSED(header('{' + entry(bad, "U8", "1", 0, 1) + '}', 1), "tensor_name", "");
  }
}

TEST("refuses a shape that lies") {
  CHECK_REFUSED(one("U8", "-1"), "shape_invalid", "the dimension -1");
  CHECK_REFUSED(one("U8", "-4,-4"), "shape_invalid", "the dimension -4");
  CHECK_REFUSED(one("U8", "4294967312"), "shape_invalid", "4294967312");
  CHECK_REFUSED(one("U8", "2147483648"), "shape_invalid", "0 to 2147483647");
  CHECK_REFUSED(one("U8", "18446744073709551615"), "shape_invalid", "");
  CHECK_REFUSED(one("U8", "16.0"), "shape_invalid", "");
  CHECK_REFUSED(one("U8", "16,-0"), "shape_invalid", "");
  CHECK_REFUSED(one("U8", "\"16\""), "shape_invalid", "the dimension \"16\"");
  CHECK_REFUSED(one("U8", "[16]"), "shape_invalid", "a list");
  CHECK_REFUSED(header(R"({"t":{"dtype":"U8","shape":16,"data_offsets":[0,16]}})", 16), "shape_invalid", "as shape 16");
  CHECK_EQ(one("U8", "1,1,1,1,1,1,1,16")[0].shape.size(), 8u);
  CHECK_REFUSED(one("U8", "1,1,1,1,1,1,1,1,16"), "shape_invalid", "9 dimensions");
}

TEST("refuses a byte count that wraps, whatever the data says") {
  // 2^16 four times is 2^64, which is 0 in 64 bits.
  CHECK_REFUSED(one("U8", "65536,65536,65536,65536", "0", "0"), "size_overflow", "tensor \"t\"");
  CHECK_REFUSED(one("F32", "2147483647,2147483647,4", "0", "16"), "size_overflow", "");
  CHECK_REFUSED(one("U8", "0,65536,65536,65536,65536", "0", "0"), "size_overflow", "");
  CHECK_REFUSED(one("F32", "5"), "size_mismatch", "needs 20 bytes by its shape and dtype, but 16");
  CHECK_REFUSED(one("F32", "3"), "size_mismatch", "");
  CHECK_REFUSED(one("F32", ""), "size_mismatch", "needs 4");
  CHECK_REFUSED(one("F32", "0"), "size_mismatch", "needs 0");
}

TEST("refuses offsets that leave the data, run backwards or are no pair") {
  CHECK_REFUSED(one("U8", "16", "16", "0"), "offsets_range", "reversed data_offsets [16, 0]");
  CHECK_REFUSED(one("U8", "24", "18446744073709551608", "16"), "offsets_range", "reversed");
  CHECK_REFUSED(one("U8", "16", "18446744073709551599", "18446744073709551615"), "offsets_range", "only 16 bytes");
  CHECK_REFUSED(one("U8", "17", "0", "17"), "offsets_range", "may be cut short");
  CHECK_REFUSED(one("U8", "16", "-16", "0"), "offsets_range", "non-negative");
  CHECK_REFUSED(one("U8", "16", "0", "16.0"), "offsets_range", "");
  CHECK_REFUSED(one("U8", "16", "0", "16,16"), "offsets_range", "two");
  CHECK_REFUSED(one("U8", "16", "0", "\"16\""), "offsets_range", "");
}

TEST("refuses tensors that overlap, leave a gap or do not end with the file") {
  const auto two = [](uint64_t begin, uint64_t end, size_t data) {
    const std::string length = std::to_string(end - begin);
    return header('{' + entry("a", "U8", "8", 0, 8) + ',' + entry("b", "U8", length, begin, end) + '}', data);
  };
  CHECK_EQ(two(8, 16, 16).size(), 2u);
  CHECK_REFUSED(two(0, 8, 8), "offsets_overlap", "tensor \"b\"");
  CHECK_REFUSED(two(7, 16, 16), "offsets_overlap", "");
  CHECK_REFUSED(two(4, 6, 8), "offsets_overlap", "");
  CHECK_REFUSED(two(9, 16, 16), "offsets_gap", "1 bytes of no tensor");
  CHECK_REFUSED(two(8, 16, 17), "trailing_bytes", "1 bytes after the last tensor");
  CHECK_REFUSED(two(8, 16, 15), "offsets_range", "cut short");
  CHECK_REFUSED(header('{' + entry("a", "U8", "8", 1, 9) + '}', 9), "offsets_gap", "");
  CHECK_REFUSED(header("{}", 1), "trailing_bytes", "");
}

TEST("places empty tensors anywhere between others, but not inside one") {
  const auto tensors = header('{' + entry("b", "F32", "1", 4, 8) + ',' + entry("z", "F32", "0,3", 4, 4) + ',' +
                                  entry("a", "F32", "1", 0, 4) + ',' + entry("e", "U8", "0", 8, 8) + '}',
                              8);
  CHECK_EQ(tensors.size(), 4u);
  CHECK_EQ(tensors[1].name, "z");
  CHECK_REFUSED(header('{' + entry("a", "F32", "1", 0, 4) + ',' + entry("z", "U8", "0", 2, 2) + '}', 4),
                "offsets_overlap", "tensor \"z\"");
  CHECK_REFUSED(header('{' + entry("a", "F32", "1", 0, 4) + ',' + entry("z", "U8", "0", 5, 5) + '}', 4),
                "offsets_range", "tensor \"z\"");
}

TEST("recognizes a pointer file and a saved error page") {
  CHECK_REFUSED(load("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "lfs_pointer",
                "is a Git LFS pointer");
  CHECK_REFUSED(load("<!DOCTYPE html><html><body>404</body></html>"), "html_page", "HTML page");
  CHECK_REFUSED(load("\n  <HTML lang=en>"), "html_page", "");
  CHECK_REFUSED(load("Entry not found"), "header_length", "");
}

TEST("notices a file cut after its header was read") {
  TempFolder folder;
  const std::string path =
      folder.write("m", safetensors('{' + entry("t", "U8", "100", 0, 100) + '}', std::string(100, 'x')));
  const auto file = SafetensorsFile::open(path);
  std::filesystem::resize_file(path, file.size() - 1);
  std::string bytes(100, '\0');
  CHECK_REFUSED(file.read(file.tensors()[0], bytes.data()), "file_changed", "changed while loading");
  CHECK_REFUSED(file.verify_unchanged(), "file_changed", path);
}

TEST("notices a file rewritten, replaced or deleted while it is open") {
  TempFolder folder;
  const std::string bytes = safetensors('{' + entry("t", "U8", "4", 0, 4) + '}', "aaaa");
  const std::string path = folder.write("m", bytes);
  {
    const auto file = SafetensorsFile::open(path);
    const timespec times[2] = {{1'000'000'000, 0}, {1'000'000'000, 7}};
    utimensat(AT_FDCWD, path.c_str(), times, 0);
    CHECK_REFUSED(file.verify_unchanged(), "file_changed", "");
  }
  {
    const auto file = SafetensorsFile::open(path);
    std::filesystem::rename(folder.write("other", bytes), path);
    char now[4];
    file.read(file.tensors()[0], now);  // the open handle still leads to the file that was checked
    CHECK(std::memcmp(now, "aaaa", 4) == 0);
    CHECK_REFUSED(file.verify_unchanged(), "file_changed", "");
  }
  {
    const auto file = SafetensorsFile::open(path);
    file.verify_unchanged();
    std::filesystem::remove(path);
    CHECK_REFUSED(file.verify_unchanged(), "file_changed", "");
  }
}

TEST("closes its file, also after a move and after a refusal") {
  TempFolder folder;
  const std::string good = folder.write("good", safetensors("{}", ""));
  const std::string bad = folder.write("bad", safetensors("{}", "x"));
  const int before = ::dup(0);
  ::close(before);
  {
    auto a = SafetensorsFile::open(good);
    auto b = std::move(a);
    b = SafetensorsFile::open(good);
    b.verify_unchanged();
    CHECK_REFUSED(SafetensorsFile::open(bad), "trailing_bytes", "");
  }
  const int after = ::dup(0);
  ::close(after);
  CHECK_EQ(before, after);
}

#ifdef __linux__
TEST("reports an error of the disk") {
  // The first page of a process is never mapped, so its memory file answers with EIO.
  const auto file = InputFile::open("/proc/self/mem");
  char byte;
  CHECK_REFUSED(file.read(0, 1, &byte), "read_failed", "/proc/self/mem: cannot read at byte 0");
}
#endif
