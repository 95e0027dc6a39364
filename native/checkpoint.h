// A model folder on disk: config.json, the weight shards and the index that ties them together,
// opened and checked as one thing. Owns the open shards. Knows no architecture: which names must
// exist is the model's business.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config.h"
#include "safetensors.h"

namespace mlxk {

class Checkpoint {
 public:
  struct Tensor {
    TensorEntry entry;
    size_t file;  // position in files()
  };

  // Reads config.json and every model*.safetensors of the folder, headers only. Throws EngineError:
  // model_not_found (folder_missing), or validation_error with the reasons of SafetensorsFile::open
  // and config_missing, config_invalid, weights_missing, too_many_shards, tensor_duplicate,
  // index_invalid, index_file_name, index_shard_missing, index_mismatch.
  static Checkpoint open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  ConfigReader config() const { return ConfigReader(config_); }
  const std::vector<SafetensorsFile>& files() const { return files_; }  // sorted by name
  const std::vector<Tensor>& tensors() const { return tensors_; }       // by file, then offset
  const Tensor* find(std::string_view name) const;                      // null when absent
  uint64_t total_bytes() const { return total_bytes_; }                 // of all tensors

  void read(const Tensor& tensor, void* dst) const { files_[tensor.file].read(tensor.entry, dst); }
  void verify_unchanged() const;  // call after the last read

 private:
  Checkpoint() = default;
  void collect();  // files_ to tensors_, none twice
  void check_index(const std::string& path) const;

  std::string folder_;
  std::shared_ptr<const Json> config_;
  std::vector<SafetensorsFile> files_;
  std::vector<Tensor> tensors_;
  std::vector<uint32_t> by_name_;  // positions in tensors_, sorted by name
  uint64_t total_bytes_ = 0;
};

// A JSON file of a model folder, bounded and strict, Python's NaN accepted. `label` names it in
// errors. Reasons: `missing_reason` when it is not there, `invalid_reason` when it cannot be used,
// lfs_pointer, html_page.
std::shared_ptr<const Json> read_json_file(const std::string& path, const std::string& label, size_t max_bytes,
                                           const std::string& missing_reason, const std::string& invalid_reason);

}  // namespace mlxk
