// The block formats of GGUF files, decoded to float32. A block holds 32 or 256 numbers of one row.
// Formats as ggml defines them: ggml-common.h (layout) and ggml-quants.c (dequantize_row_*).

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace mlxk {

enum class BlockType { Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K };

bool parse_block_type(std::string_view name, BlockType& out);
size_t block_elements(BlockType type);
size_t block_bytes(BlockType type);

// Whole blocks: numbers.size() is blocks.size() / block_bytes x block_elements.
void decode_blocks(BlockType type, std::span<const uint8_t> blocks, std::span<float> numbers);

}  // namespace mlxk
