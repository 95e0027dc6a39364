// See tensor_input.h.

#include "tensor_input.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "error.h"

namespace mlxk {
namespace {

constexpr size_t kAlignment = 16384;  // a page on Apple silicon, where the GPU can then use the memory as it is

// Memory for `bytes`, or nothing. Large tensors ask Linux for large pages: a token reads all of them once, and with
// small pages a good part of that time goes to finding where pages lie.
void* allocate(uint64_t bytes) {
  constexpr size_t kLargePage = size_t{1} << 21;
  const bool large = bytes >= 2 * kLargePage;
  const size_t alignment = large ? kLargePage : kAlignment;
  void* data = std::aligned_alloc(alignment, std::max<size_t>((bytes + alignment - 1) / alignment, 1) * alignment);
#ifdef __linux__
  if (data != nullptr && large) madvise(data, bytes, MADV_HUGEPAGE);  // a wish: it may be refused
#endif
  return data;
}

}  // namespace

mx::Type array_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::Bool: return mx::Type::boolean;
    case Dtype::I8: return mx::Type::i8;
    case Dtype::U16: return mx::Type::u16;
    case Dtype::I16: return mx::Type::i16;
    case Dtype::U32: return mx::Type::u32;
    case Dtype::I32: return mx::Type::i32;
    case Dtype::U64: return mx::Type::u64;
    case Dtype::I64: return mx::Type::i64;
    case Dtype::F16: return mx::Type::f16;
    case Dtype::BF16: return mx::Type::bf16;
    case Dtype::F32: return mx::Type::f32;
    case Dtype::U8:
    case Dtype::F8_E4M3:
    case Dtype::F8_E8M0: return mx::Type::u8;  // MLX has no 8-bit float; the quantized kernels read the bytes
  }
  invalid("dtype_unsupported", "unknown tensor type");
}

Array read_tensor(const SafetensorsFile& file, const TensorEntry& tensor) {
  mx::Shape shape;
  for (const int64_t d : tensor.shape) shape.push_back(static_cast<int>(d));
  const uint64_t bytes = tensor.bytes();
  std::unique_ptr<void, void (*)(void*)> data(allocate(bytes), std::free);
  if (!data) {
    fail("insufficient_memory", "allocation_failed",
         "no memory for tensor " + quoted(tensor.name) + " of " + std::to_string(bytes) + " bytes");
  }
  file.read(tensor, data.get());
  return mx::from_memory(data.release(), shape, array_type(tensor.dtype), std::free);
}

}  // namespace mlxk
