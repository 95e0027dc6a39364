// A model folder as a whole: which files count, and whether shards and index tell the same story.

#include "../checkpoint.h"

#include <filesystem>

#include "check.h"
#include "safetensors_file.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

std::string shard(const std::string& name, const std::string& data = "xxxx") {
  const std::string size = std::to_string(data.size());
  return safetensors('{' + entry(name, "U8", size, "0", size) + '}', data);
}

// Two shards of one tensor each; the index is what a case varies.
struct Folder : TempFolder {
  Folder() {
    write("config.json", R"({"model_type":"llama"})");
    write("model-00001-of-00002.safetensors", shard("a", "aaaa"));
    write("model-00002-of-00002.safetensors", shard("b", "bb"));
  }
  void index(const std::string& map) const {
    write("model.safetensors.index.json", R"({"metadata":{"total_size":6},"weight_map":)" + map + '}');
  }
  Checkpoint open() const { return Checkpoint::open(path); }
};

const char* const kOne = "model-00001-of-00002.safetensors";
const char* const kTwo = "model-00002-of-00002.safetensors";

std::string map(const std::string& a, const std::string& b) { return R"({"a":")" + a + R"(","b":")" + b + "\"}"; }

}  // namespace

TEST("opens shards in order and finds tensors by name") {
  Folder folder;
  folder.index(map(kOne, kTwo));
  const Checkpoint c = folder.open();
  CHECK_EQ(c.config().text("model_type"), "llama");
  CHECK_EQ(c.files().size(), 2u);
  CHECK_EQ(c.tensors().size(), 2u);
  CHECK_EQ(c.total_bytes(), 6u);
  CHECK_EQ(c.tensors()[0].entry.name, "a");
  CHECK_EQ(c.tensors()[1].file, 1u);
  CHECK(c.find("a") == &c.tensors()[0]);
  CHECK(!c.find("c"));
  CHECK(!c.find(""));
  char bytes[2];
  c.read(*c.find("b"), bytes);
  CHECK_EQ(std::string(bytes, 2), "bb");
  c.verify_unchanged();
}

TEST("takes every model*.safetensors and nothing else") {
  Folder folder;
  folder.write("consolidated.safetensors", "not read");
  folder.write("model.safetensors.bak", "not read");
  folder.write("adapter_model.safetensors", "not read");
  folder.write("model_extra.safetensors", shard("extra"));
  const Checkpoint c = folder.open();
  CHECK_EQ(c.files().size(), 3u);
  CHECK(c.find("extra"));
}

TEST("opens files through links, as in a snapshot folder") {
  TempFolder blobs, snapshot;
  blobs.write("1", shard("a"));
  blobs.write("2", "{}");
  std::filesystem::create_symlink(blobs.path + "/1", snapshot.path + "/model.safetensors");
  std::filesystem::create_symlink(blobs.path + "/2", snapshot.path + "/config.json");
  CHECK(Checkpoint::open(snapshot.path).find("a"));
}

TEST("names what is missing from a folder") {
  TempFolder folder;
  CHECK_REFUSED(Checkpoint::open(folder.path + "/absent"), "folder_missing", "model_not_found/");
  CHECK_REFUSED(Checkpoint::open(folder.path), "config_missing", "config.json");
  folder.write("config.json", "{}");
  CHECK_REFUSED(Checkpoint::open(folder.path), "weights_missing", folder.path);
  folder.write("model.safetensors", safetensors("{}", ""));
  CHECK_REFUSED(Checkpoint::open(folder.path), "weights_missing", "no tensor");
  CHECK_REFUSED(Checkpoint::open(folder.path + "/config.json"), "folder_missing", "");
  std::filesystem::create_symlink("gone", folder.path + "/model-2.safetensors");
  CHECK_REFUSED(Checkpoint::open(folder.path), "file_missing", "model-2.safetensors");
}

TEST("refuses a config.json that cannot be one") {
  Folder folder;
  const auto with = [&](const std::string& text) {
    folder.write("config.json", text);
    return folder.open();
  };
  CHECK_REFUSED(with(""), "config_invalid", "config.json: ");
  CHECK_REFUSED(with("[]"), "config_invalid", "must be an object, got a list");
  CHECK_REFUSED(with("{\n\"a\":1,\n}"), "config_invalid", "line 3, column 1");
  CHECK_REFUSED(with("{\"a\":1,\"a\":2}"), "config_invalid", "twice");
  CHECK_REFUSED(with("{\"a\":" + std::string(100'000, '[')), "config_invalid", "deeper than 64");
  CHECK_REFUSED(with("<!doctype html><p>Sign in"), "html_page", "config.json");
  CHECK_REFUSED(with("version https://git-lfs.github.com/spec/v1\n"), "lfs_pointer", "config.json");
  CHECK_REFUSED(with("{\"a\":\"" + std::string(10'000'000, 'x') + "\"}"), "config_invalid", "more than 10000000");
  CHECK_EQ(with(R"({"a":NaN,"b":1000000000000000019884624838656,"c":5})").config().dim("c"), 5);
  std::filesystem::remove(folder.path + "/config.json");
  std::filesystem::create_directory(folder.path + "/config.json");
  CHECK_REFUSED(folder.open(), "not_a_file", "config.json");
}

TEST("refuses a tensor that two shards have, with or without an index") {
  Folder folder;
  folder.write(kTwo, shard("a"));
  CHECK_REFUSED(folder.open(), "tensor_duplicate", kTwo);
  folder.index(R"({"a":"model-00001-of-00002.safetensors"})");
  CHECK_REFUSED(folder.open(), "tensor_duplicate", "tensor \"a\"");
}

TEST("refuses a bad shard by its path") {
  Folder folder;
  folder.write(kTwo, shard("b") + "more");
  CHECK_REFUSED(folder.open(), "trailing_bytes", kTwo);
}

TEST("refuses an index that names anything but plain files") {
  Folder folder;
  for (const char* name :
       {"../model.safetensors", "/etc/passwd", "a/b", "..", ".", "", "C:x", "..\\\\x", "a\\u0000b"}) {
    folder.index(map(kOne, name));
    CHECK_REFUSED(folder.open(), "index_file_name", "weight_map \"b\" must be a plain file name");
  }
  folder.index(map(kOne, std::string(256, 'm')));
  CHECK_REFUSED(folder.open(), "index_file_name", "");
}

TEST("refuses an index that does not match the shards") {
  Folder folder;
  folder.index(map(kOne, "model-00003-of-00003.safetensors"));
  CHECK_REFUSED(folder.open(), "index_shard_missing", "model-00003-of-00003.safetensors");
  folder.index(map(kTwo, kTwo));
  CHECK_REFUSED(folder.open(), "index_mismatch", "tensor \"a\" is not in");
  folder.index(R"({"a":"model-00001-of-00002.safetensors"})");
  CHECK_REFUSED(folder.open(), "index_mismatch", "tensor \"b\" of model-00002-of-00002.safetensors");
  folder.index(R"({"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors",
                   "c":"model-00002-of-00002.safetensors"})");
  CHECK_REFUSED(folder.open(), "index_mismatch", "tensor \"c\" is not in");
  folder.index(R"({"a":"model-00001-of-00002.safetensors","a":"model-00002-of-00002.safetensors"})");
  CHECK_REFUSED(folder.open(), "index_invalid", "\"a\" is given twice");
}

TEST("refuses an index that cannot be one") {
  Folder folder;
  for (const char* text :
       {"", "{}", "[]", R"({"weight_map":[]})", R"({"weight_map":null})", R"({"weight_map":{"a":1}})"}) {
    folder.write("model.safetensors.index.json", text);
    CHECK_REFUSED(folder.open(), "index_invalid", "model.safetensors.index.json");
  }
  std::filesystem::remove(folder.path + "/model.safetensors.index.json");
  std::filesystem::create_symlink("gone", folder.path + "/model.safetensors.index.json");
  CHECK_REFUSED(folder.open(), "index_invalid", "model.safetensors.index.json");
}

TEST("notices any shard that changed since the open") {
  Folder folder;
  const Checkpoint c = folder.open();
  folder.write(kTwo, shard("b", "bbb"));
  CHECK_REFUSED(c.verify_unchanged(), "file_changed", kTwo);
}

TEST("bounds the number of shards") {
  TempFolder folder;
  folder.write("config.json", "{}");
  for (int i = 0; i <= 1'000; ++i) folder.write("model-" + std::to_string(i) + ".safetensors", "");
  CHECK_REFUSED(Checkpoint::open(folder.path), "too_many_shards", "more than 1000");
}
