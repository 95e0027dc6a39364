// See gguf_blocks.h. Names inside a block are ggml's: d and m are scale and offset, qs the packed numbers, qh their
// high bits.

#include "gguf_blocks.h"

#include <bit>
#include <cstring>
#include <iterator>

namespace mlxk {
namespace {

struct Row {
  const char* name;
  size_t elements, bytes;
};

constexpr Row kRows[] = {
    {"Q4_0", 32, 18},  {"Q4_1", 32, 20},   {"Q5_0", 32, 22},   {"Q5_1", 32, 24},   {"Q8_0", 32, 34},
    {"Q2_K", 256, 84}, {"Q3_K", 256, 110}, {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
};
static_assert(std::size(kRows) == static_cast<size_t>(BlockType::Q6_K) + 1);

const Row& row(BlockType type) { return kRows[static_cast<size_t>(type)]; }

float half(const uint8_t* bytes) {
  const uint32_t bits = bytes[0] | static_cast<uint32_t>(bytes[1]) << 8;
  const uint32_t sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000 | fraction << 13);
  if (exponent == 0) {
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

uint32_t word(const uint8_t* bytes) {
  return bytes[0] | static_cast<uint32_t>(bytes[1]) << 8 | static_cast<uint32_t>(bytes[2]) << 16 |
         static_cast<uint32_t>(bytes[3]) << 24;
}

void q4(const uint8_t* qs, float d, float m, float* y) {
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(qs[i] & 15) + m;
    y[i + 16] = d * static_cast<float>(qs[i] >> 4) + m;
  }
}

void q4_0(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((b[2 + i] & 15) - 8);
    y[i + 16] = d * static_cast<float>((b[2 + i] >> 4) - 8);
  }
}

void q4_1(const uint8_t* b, float* y) { q4(b + 4, half(b), half(b + 2), y); }

void q5_0(const uint8_t* b, float* y) {
  const float d = half(b);
  const uint32_t qh = word(b + 2);
  const uint8_t* qs = b + 6;
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>(static_cast<int>((qs[i] & 15) | (qh >> i & 1) << 4) - 16);
    y[i + 16] = d * static_cast<float>(static_cast<int>((qs[i] >> 4) | (qh >> (i + 16) & 1) << 4) - 16);
  }
}

void q5_1(const uint8_t* b, float* y) {
  const float d = half(b), m = half(b + 2);
  const uint32_t qh = word(b + 4);
  const uint8_t* qs = b + 8;
  for (int i = 0; i < 16; ++i) {
    y[i] = d * static_cast<float>((qs[i] & 15) | (qh >> i & 1) << 4) + m;
    y[i + 16] = d * static_cast<float>((qs[i] >> 4) | (qh >> (i + 16) & 1) << 4) + m;
  }
}

void q8_0(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 32; ++i) y[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

void q2_k(const uint8_t* b, float* y) {
  const uint8_t *scales = b, *qs = b + 16;
  const float d = half(b + 80), least = half(b + 82);
  for (int part = 0; part < 2; ++part, qs += 32) {
    for (int shift = 0; shift < 8; shift += 2) {
      for (int side = 0; side < 2; ++side) {
        const uint8_t scale = *scales++;
        const float step = d * static_cast<float>(scale & 15), offset = least * static_cast<float>(scale >> 4);
        for (int i = 0; i < 16; ++i) *y++ = step * static_cast<float>(qs[16 * side + i] >> shift & 3) - offset;
      }
    }
  }
}

void q3_k(const uint8_t* b, float* y) {
  const uint8_t *high = b, *qs = b + 32, *packed = b + 96;
  const float d = half(b + 108);
  int scales[16];
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    scales[i] = (low | (packed[8 + i % 4] >> (2 * (i / 4)) & 3) << 4) - 32;
  }
  int group = 0;
  for (int part = 0; part < 2; ++part, qs += 32) {
    for (int shift = 0; shift < 8; shift += 2) {
      const int bit = 4 * part + shift / 2;
      for (int side = 0; side < 2; ++side) {
        const float step = d * static_cast<float>(scales[group++]);
        for (int i = 16 * side; i < 16 * side + 16; ++i) {
          *y++ = step * static_cast<float>((qs[i] >> shift & 3) - (high[i] >> bit & 1 ? 0 : 4));
        }
      }
    }
  }
}

// Scale and offset of group `j`, six bits each in twelve bytes.
void scale_and_offset(int j, const uint8_t* q, float& scale, float& offset) {
  if (j < 4) {
    scale = static_cast<float>(q[j] & 63);
    offset = static_cast<float>(q[j + 4] & 63);
  } else {
    scale = static_cast<float>((q[j + 4] & 15) | (q[j - 4] >> 6) << 4);
    offset = static_cast<float>((q[j + 4] >> 4) | (q[j] >> 6) << 4);
  }
}

// Q4_K, and Q5_K with a fifth bit in `high`.
void q45_k(const uint8_t* b, const uint8_t* qs, const uint8_t* high, float* y) {
  const float d = half(b), least = half(b + 2);
  for (int group = 0; group < 8; ++group) {
    float scale, offset;
    scale_and_offset(group, b + 4, scale, offset);
    const float step = d * scale, shift = least * offset;
    const uint8_t* q = qs + 32 * (group / 2);
    for (int i = 0; i < 32; ++i) {
      int value = group % 2 == 0 ? q[i] & 15 : q[i] >> 4;
      if (high) value += high[i] >> group & 1 ? 16 : 0;
      *y++ = step * static_cast<float>(value) - shift;
    }
  }
}

void q4_k(const uint8_t* b, float* y) { q45_k(b, b + 16, nullptr, y); }
void q5_k(const uint8_t* b, float* y) { q45_k(b, b + 48, b + 16, y); }

void q6_k(const uint8_t* b, float* y) {
  const float d = half(b + 208);
  for (int part = 0; part < 2; ++part, y += 128) {
    const uint8_t *low = b + 64 * part, *high = b + 128 + 32 * part, *scales = b + 192 + 8 * part;
    for (int i = 0; i < 32; ++i) {
      const int parts[4] = {low[i] & 15, low[i + 32] & 15, low[i] >> 4, low[i + 32] >> 4};
      for (int k = 0; k < 4; ++k) {
        const int value = (parts[k] | (high[i] >> (2 * k) & 3) << 4) - 32;
        y[32 * k + i] = d * static_cast<float>(static_cast<int8_t>(scales[2 * k + i / 16])) * static_cast<float>(value);
      }
    }
  }
}

using Decode = void (*)(const uint8_t*, float*);
constexpr Decode kDecoders[] = {q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k};
static_assert(std::size(kDecoders) == std::size(kRows));

}  // namespace

bool parse_block_type(std::string_view name, BlockType& out) {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    if (name != kRows[i].name) continue;
    out = static_cast<BlockType>(i);
    return true;
  }
  return false;
}

size_t block_elements(BlockType type) { return row(type).elements; }
size_t block_bytes(BlockType type) { return row(type).bytes; }

void decode_blocks(BlockType type, std::span<const uint8_t> blocks, std::span<float> numbers) {
  const size_t count = blocks.size() / block_bytes(type);
  for (size_t i = 0; i < count; ++i) {
    kDecoders[static_cast<size_t>(type)](blocks.data() + i * block_bytes(type),
                                         numbers.data() + i * block_elements(type));
  }
}

}  // namespace mlxk
