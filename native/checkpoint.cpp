#include "checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <memory>
#include <set>
#include <sys/stat.h>
#include <system_error>

namespace mlxk {
namespace {

constexpr size_t kMaxConfigBytes = 10'000'000;
constexpr size_t kMaxIndexBytes = 100'000'000;
// Each shard stays open as one descriptor; the largest published models have fewer than 200.
constexpr size_t kMaxShards = 1'000;
constexpr const char* kIndexName = "model.safetensors.index.json";

std::string join(const std::string& folder, const std::string& name) { return folder + '/' + name; }

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// The names mlx-lm loads. Others, such as consolidated.safetensors, repeat the weights in another
// layout.
bool is_shard(std::string_view name) { return name.starts_with("model") && name.ends_with(".safetensors"); }

std::vector<std::string> shard_names(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder.c_str()), closedir);
  if (!dir) {
    const int error = errno;
    const std::string message = folder + ": " + std::generic_category().message(error);
    if (error == EACCES || error == EPERM) fail("access_denied", "folder_unreadable", message);
    fail("model_not_found", "folder_missing", message);
  }
  std::vector<std::string> names;
  while (const dirent* entry = readdir(dir.get())) {
    if (is_shard(entry->d_name)) names.emplace_back(entry->d_name);
    if (names.size() > kMaxShards) {
      invalid("too_many_shards",
              folder + ": more than " + std::to_string(kMaxShards) + " files named model*.safetensors");
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool is_plain_file_name(const std::string& name) {
  if (name.empty() || name.size() > 255 || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || c == ':' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

}  // namespace

std::shared_ptr<const Json> read_json_file(const std::string& path, const std::string& label, size_t max_bytes,
                                           const std::string& missing_reason, const std::string& invalid_reason) {
  std::string text;
  try {
    const InputFile file = InputFile::open(path);
    if (file.size() > max_bytes) {
      invalid(invalid_reason,
              label + ": has " + std::to_string(file.size()) + " bytes, more than " + std::to_string(max_bytes));
    }
    text.resize(static_cast<size_t>(file.size()));
    file.read(0, file.size(), text.data());
  } catch (const EngineError& error) {
    if (error.reason != "file_missing") throw;
    invalid(missing_reason, error.what());
  }
  refuse_impostor(std::string_view(text).substr(0, 64), label);
  JsonOptions options;
  options.max_bytes = max_bytes;
  options.python_literals = true;
  options.wide_integers_as_double = true;
  try {
    return std::make_shared<const Json>(Json::parse(text, options));
  } catch (const JsonError& error) {
    invalid(invalid_reason, label + ": " + error.what());
  }
}

Checkpoint Checkpoint::open(const std::string& folder) {
  Checkpoint out;
  out.folder_ = folder;
  const std::vector<std::string> names = shard_names(folder);
  out.config_ =
      read_json_file(join(folder, "config.json"), "config.json", kMaxConfigBytes, "config_missing", "config_invalid");
  out.config();  // refuses a document that is no object
  if (names.empty()) {
    invalid("weights_missing", folder + ": has no weights (no file named model*.safetensors)");
  }
  for (const std::string& name : names) {
    out.files_.push_back(SafetensorsFile::open(join(folder, name)));
  }
  out.collect();
  if (out.tensors_.empty()) {
    invalid("weights_missing", folder + ": its weight files hold no tensor");
  }
  const std::string index = join(folder, kIndexName);
  // lstat: a dangling link is an index that cannot be read, not one that is absent.
  struct stat status;
  if (lstat(index.c_str(), &status) == 0) out.check_index(index);
  return out;
}

void Checkpoint::collect() {
  for (size_t file = 0; file < files_.size(); ++file) {
    for (const TensorEntry& entry : files_[file].tensors()) {
      total_bytes_ += entry.bytes();
      tensors_.push_back({entry, file});
    }
  }
  by_name_.resize(tensors_.size());
  for (uint32_t i = 0; i < by_name_.size(); ++i) by_name_[i] = i;
  std::sort(by_name_.begin(), by_name_.end(), [&](uint32_t a, uint32_t b) {
    const int c = tensors_[a].entry.name.compare(tensors_[b].entry.name);
    return c != 0 ? c < 0 : a < b;
  });
  for (size_t i = 1; i < by_name_.size(); ++i) {
    const Tensor& a = tensors_[by_name_[i - 1]];
    const Tensor& b = tensors_[by_name_[i]];
    if (a.entry.name == b.entry.name) {
      invalid("tensor_duplicate", folder_ + ": tensor " + quoted(a.entry.name) + " is in both " +
                                      base_name(files_[a.file].path()) + " and " + base_name(files_[b.file].path()));
    }
  }
}

const Checkpoint::Tensor* Checkpoint::find(std::string_view name) const {
  auto it = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                             [&](uint32_t i, std::string_view n) { return tensors_[i].entry.name < n; });
  if (it == by_name_.end() || tensors_[*it].entry.name != name) return nullptr;
  return &tensors_[*it];
}

void Checkpoint::check_index(const std::string& path) const {
  const auto index = read_json_file(path, kIndexName, kMaxIndexBytes, "index_invalid", "index_invalid");
  auto refuse = [](const char* reason, const std::string& message) {
    invalid(reason, std::string(kIndexName) + ": " + message);
  };
  const Json* map = index->is_object() ? index->as_object().find("weight_map") : nullptr;
  if (!map || !map->is_object()) refuse("index_invalid", "weight_map must be an object");

  std::set<std::string, std::less<>> present;
  for (const SafetensorsFile& file : files_) present.insert(base_name(file.path()));
  for (const auto& [name, value] : map->as_object().members()) {
    if (!value.is_string()) {
      refuse("index_invalid", "weight_map " + quoted(name) + " must be a file name, got " + value.describe());
    }
    const std::string& shard = value.as_string();
    if (!is_plain_file_name(shard)) {
      refuse("index_file_name", "weight_map " + quoted(name) + " must be a plain file name, got " + quoted(shard));
    }
    if (!present.contains(shard)) {
      refuse("index_shard_missing", "the file " + quoted(shard) + " is not among the model*.safetensors of the folder");
    }
    const Tensor* tensor = find(name);
    if (!tensor || base_name(files_[tensor->file].path()) != shard) {
      refuse("index_mismatch", "tensor " + quoted(name) + " is not in " + quoted(shard));
    }
  }
  // Every listed name was found and names are unique, so equal counts mean equal sets.
  if (map->as_object().size() == tensors_.size()) return;
  for (const Tensor& tensor : tensors_) {
    if (!map->as_object().find(tensor.entry.name)) {
      refuse("index_mismatch",
             "tensor " + quoted(tensor.entry.name) + " of " + base_name(files_[tensor.file].path()) + " is not listed");
    }
  }
}

void Checkpoint::verify_unchanged() const {
  for (const SafetensorsFile& file : files_) file.verify_unchanged();
}

}  // namespace mlxk
