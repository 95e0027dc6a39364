// Weights as other toolkits store them, turned into what MLX computes with while they are read: a matrix and its scales
// are replaced as soon as all of them are there, so that no second copy of a model is ever held. References: mlx-lm
// 0.32.2, utils.py (load_model, _transform_awq_weights), models/deepseek_v3.py, models/mistral4.py and
// models/minimax_m3_vl.py (sanitize), models/bitlinear_layers.py. Thread: engine thread only.
//
//   tensors                                                become
//   X F8_E4M3 [.., out, in], X_scale_inv                   X bfloat16; scales are one, one a matrix or one a block
//   X.weight F8_E4M3, X.weight_scale_inv U8 [.., in / 32]  X.weight and X.scales, mxfp8
//   X.weight_packed, X.weight_scale, X.weight_shape        X.weight, X.scales, X.biases, affine with 4 bits; mxfp4
//   X.qweight, X.scales, X.qzeros (AWQ)                    X.weight, X.scales, X.biases, affine with 4 bits
//   X.weight U8 [out / 4, in], X.weight_scale (BitNet)     X.weight, X.scales, X.biases, affine with 2 bits

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint.h"
#include "mx.h"

namespace mlxk {

struct PackedMatrix {
  Array weight, scales, biases;
};

// Ternary values as BitNet packs them, uint8 [out / 4, in], each byte holding a value plus one of four rows that are a
// quarter of all apart, as an affine matrix of 2 bits. `scale` [1] multiplies, or divides where `inverted`. out must be
// a multiple of 4 and in of 32.
PackedMatrix pack_ternary(const Array& bytes, const Array& scale, bool inverted);

class ForeignStorage {
 public:
  // Throws validation_error, naming the field or the tensor: config_invalid, quantization_unsupported, tensor_missing,
  // tensor_shape, tensor_type.
  explicit ForeignStorage(const Checkpoint& checkpoint);

  // What the checkpoint's tensors take once they are loaded.
  uint64_t bytes() const { return bytes_; }
  // The type that a tensor of the checkpoint then has; of scales and the like their own.
  mx::Type type_of(const TensorEntry& entry) const;

  // To be called for every tensor once it is among `tensors`. Replaces what is complete; evaluates what it made where
  // `evaluate`.
  void absorb(const std::string& name, std::map<std::string, Array>& tensors, bool evaluate = true);

 private:
  enum class Kind { fp8, mxfp8, int4, mxfp4, awq, ternary, dropped };
  struct Matrix {
    Kind kind;
    std::string base;                  // X
    std::vector<std::string> members;  // of the checkpoint, the matrix itself first
    size_t missing;                    // members that are yet to be read
  };

  struct Rules;
  void find_matrices(const Checkpoint& checkpoint, const Rules& rules);
  void add(const Checkpoint& checkpoint, Kind kind, const std::string& base, std::vector<std::string> members);
  void check(const Checkpoint& checkpoint, const Matrix& matrix) const;
  std::map<std::string, Array> converted(const Matrix& matrix, const std::map<std::string, Array>& tensors) const;
  Array from_fp8(const Array& codes, const Array& scales) const;

  int block_rows_ = 128, block_columns_ = 128;
  bool ternary_inverted_ = true;
  std::optional<mx::Type> floats_;  // what every floating-point tensor is cast to
  std::vector<Matrix> matrices_;
  std::map<std::string, size_t, std::less<>> by_member_;  // positions in matrices_
  uint64_t bytes_ = 0;
};

}  // namespace mlxk
