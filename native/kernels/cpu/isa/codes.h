// From packed codes to numbers.

#pragma once

#include "kernels/cpu/isa/simd.h"
#include "kernels/cpu/routines.h"

namespace mlxk::kernels::MLXK_ISA {

// --- single codes to numbers, in each lane; bits above the code's are ignored
// --------------------------------------------

template <int kBits>
struct AffineCode {
  static F value(U code) {
    constexpr uint32_t kMask = (1u << kBits) - 1;
#if defined(__AVX512F__)
    if constexpr (kBits == 4) {
      const F table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
      return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(code), table);
    }
#endif
    return __builtin_convertvector(reinterpret_cast<I>(code & kMask), F);
  }
};

// OCP e2m1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
struct E2M1Code {
  static F value(U code) {
#if defined(__AVX512F__)
    const F table = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};
    return _mm512_permutexvar_ps(reinterpret_cast<__m512i>(code), table);
#else
    const F normal = reinterpret_cast<F>(((code & 7) << 22) + (126u << 23));
    const F size = reinterpret_cast<I>(code & 6) == 0 ? 2.0f * normal - 1.0f : normal;
    return reinterpret_cast<F>(reinterpret_cast<U>(size) | (code & 8) << 28);
#endif
  }
};

// Twice those numbers plus 12: bytes that are not negative.
inline constexpr uint8_t kE2M1FromZero[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// OCP e4m3, its NaN read as 480 as MLX does.
struct E4M3Code {
  static F value(U code) {
    const F normal = reinterpret_cast<F>(((code & 0x7f) << 20) + (120u << 23));
    const F size = reinterpret_cast<I>(code & 0x78) == 0 ? 2.0f * normal - 0x1p-6f : normal;
    return reinterpret_cast<F>(reinterpret_cast<U>(size) | (code & 0x80) << 24);
  }
};

// --- codes in their own order
// --------------------------------------------------------------------------------------------

// Codes [at, at + kLanes) of a row; `at` a multiple of kLanes.
template <int kBits>
inline U codes_at(const uint8_t* row, int64_t row_bytes, int64_t at) {
  constexpr uint32_t kMask = (1u << kBits) - 1;
  const int64_t byte = at * kBits / 8;
  if constexpr (kLanes == 4) {  // which may begin within a byte, and fit 32 bits
    uint64_t bits = 0;
    const int64_t left = row_bytes - byte;
    __builtin_memcpy(&bits, row + byte, static_cast<size_t>(left < 8 ? left : 8));
    const I lanes = {0, 1, 2, 3};
    return splat(static_cast<uint32_t>(bits >> at * kBits % 8)) >> reinterpret_cast<U>(lanes * kBits) & kMask;
  }
  // Of the 16 bytes that hold them, those of each code to its lane.
  struct Pattern {
    alignas(kVectorBytes) uint8_t bytes[kVectorBytes] = {};
    alignas(kVectorBytes) uint32_t shifts[kLanes] = {};
    constexpr Pattern() {
      for (int lane = 0; lane < kLanes; ++lane) {
        const int bit = lane * kBits;
        for (int i = 0; i < 4; ++i) {
          bytes[4 * lane + i] = static_cast<uint8_t>(i < 2 && bit / 8 + i < 16 ? bit / 8 + i : 0x80);
        }
        shifts[lane] = static_cast<uint32_t>(bit % 8);
      }
    }
  };
  static constexpr Pattern kPattern;
  uint8_t rest[16];
  const uint8_t* from = row + byte;
  if (byte + 16 > row_bytes) {
    __builtin_memset(rest, 0, sizeof rest);
    __builtin_memcpy(rest, from, static_cast<size_t>(row_bytes - byte));
    from = rest;
  }
  return look_up(from, read_vector<U>(kPattern.bytes)) >> read_vector<U>(kPattern.shifts) & kMask;
}

// --- scales
// --------------------------------------------------------------------------------------------------------------

// Numbers of all 256 bytes. Computed by the compiler: code of this instruction set must not run on loading.
struct ByteTable {
  float values[256] = {};
};
constexpr ByteTable e8m0_table() {
  ByteTable table;
  for (uint32_t code = 0; code < 256; ++code) {
    table.values[code] = __builtin_bit_cast(float, code == 0 ? 0x400000u : code << 23);
  }
  return table;
}
constexpr ByteTable e4m3_table() {
  ByteTable table;
  for (uint32_t code = 0; code < 256; ++code) {
    const uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
    float size = exponent == 0 ? static_cast<float>(mantissa) * 0x1p-9f
                               : __builtin_bit_cast(float, (exponent + 120) << 23 | mantissa << 20);
    table.values[code] = code & 0x80 ? -size : size;
  }
  return table;
}
inline constexpr ByteTable kE8M0 = e8m0_table(), kE4M3 = e4m3_table();

// Scales (or biases) of one output in float32: `count` of them, then zeros up to a multiple of kLanes.
inline void widen_scales(const Matrix& w, const uint8_t* scales, int output, float* to) {
  const int count = w.groups, padded = (count + kLanes - 1) / kLanes * kLanes;
  const int64_t first = static_cast<int64_t>(output) * count;
  const auto convert = [&](const auto* from) {
    int at = 0;
    for (; at + kLanes <= count; at += kLanes) store(to + at, load(from + first + at));
    if (at < count) store(to + at, load_some(from + first + at, count - at));
  };
  if (w.format == Format::affine) {
    switch (w.type) {
      case Type::f32: return convert(reinterpret_cast<const float*>(scales));
      case Type::f16: return convert(reinterpret_cast<const F16*>(scales));
      case Type::bf16: return convert(reinterpret_cast<const Bf16*>(scales));
    }
  }
  const float* table = w.format == Format::nvfp4 ? kE4M3.values : kE8M0.values;
  for (int i = 0; i < count; ++i) to[i] = table[scales[first + i]];
  for (int i = count; i < padded; ++i) to[i] = 0;
}

// --- whole rows
// ----------------------------------------------------------------------------------------------------------

// Calls body(T*) with a null pointer of the number type.
template <class Body>
inline void by_type(Type type, Body body) {
  switch (type) {
    case Type::f32: return body(static_cast<float*>(nullptr));
    case Type::f16: return body(static_cast<F16*>(nullptr));
    case Type::bf16: return body(static_cast<Bf16*>(nullptr));
  }
}

template <int kBits, class Code>
inline void expand(const Matrix& w, int output, const float* scales, const float* biases, float* to) {
  const uint8_t* row = w.data + output * w.row_bytes;
  for (int g = 0; g < w.groups; ++g) {
    const F scale = splat(scales[g]), bias = splat(biases ? biases[g] : 0.0f);
    for (int at = g * w.group; at < (g + 1) * w.group; at += kLanes) {
      store(to + at, Code::value(codes_at<kBits>(row, w.row_bytes, at)) * scale + bias);
    }
  }
}

// One row of any matrix in float32. `scratch`: two times groups() rounded up to kLanes.
inline void expand_row(const Matrix& w, int output, float* to, float* scratch) {
  if (w.format == Format::dense) {
    return by_type(w.type, [&]<class T>(T*) {
      const T* row = reinterpret_cast<const T*>(w.data + output * w.row_bytes);
      for_vectors(w.inputs, [&](auto get, auto put) { put(to, get(row)); });
    });
  }
  float *scales = scratch, *biases = w.biases ? scratch + (w.groups + kLanes - 1) / kLanes * kLanes : nullptr;
  widen_scales(w, w.scales, output, scales);
  if (biases) widen_scales(w, w.biases, output, biases);
  if (w.format == Format::mxfp8) return expand<8, E4M3Code>(w, output, scales, biases, to);
  if (w.format != Format::affine) return expand<4, E2M1Code>(w, output, scales, biases, to);
  switch (w.bits) {
    case 2: return expand<2, AffineCode<2>>(w, output, scales, biases, to);
    case 3: return expand<3, AffineCode<3>>(w, output, scales, biases, to);
    case 4: return expand<4, AffineCode<4>>(w, output, scales, biases, to);
    case 5: return expand<5, AffineCode<5>>(w, output, scales, biases, to);
    case 6: return expand<6, AffineCode<6>>(w, output, scales, biases, to);
    case 8: return expand<8, AffineCode<8>>(w, output, scales, biases, to);
  }
}

}  // namespace mlxk::kernels::MLXK_ISA
