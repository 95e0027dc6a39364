// Vectors of the instruction set this file is compiled for. Everything below isa/ is compiled once for each, in a
// namespace named after it (MLXK_ISA) and with that set's compiler flags, and so must not define anything that another
// copy could share: no templates or inline functions of the standard library, only these, pointers and builtins.
//
// Arithmetic, comparison and `mask ? a : b` are the compiler's own on these types.

#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/numbers.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace mlxk::kernels::MLXK_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kLanes = kVectorBytes / 4;

using F = float __attribute__((vector_size(kVectorBytes)));
using I = int32_t __attribute__((vector_size(kVectorBytes)));
using U = uint32_t __attribute__((vector_size(kVectorBytes)));
using Shorts = int16_t __attribute__((vector_size(kVectorBytes)));
using Halves = uint16_t __attribute__((vector_size(kVectorBytes / 2)));  // as many as F has lanes

inline F splat(float x) { return x - F{}; }  // - keeps the sign of zero
inline U splat(uint32_t x) { return x + U{}; }

template <class V, class T>
inline V read_vector(const T* from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

// To nearest, ties to even.
inline F16 to_f16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half = 0;
  if (magnitude > 0x7f800000) {
    half = 0x7e00;
  } else if (magnitude >= 0x477ff000) {  // rounds to 65536 or more
    half = 0x7c00;
  } else if (magnitude < 0x38800000) {  // a denormal: adding 0.5 moves its bits to the end
    half = __builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude) + 0.5f) - 0x3f000000;
  } else {
    half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  return {static_cast<uint16_t>(half | (bits >> 16 & 0x8000))};
}

// --- from and to memory, in any number format ------------------------------------------------------------------------

inline F load(const float* x) { return read_vector<F>(x); }
inline F load(const Bf16* x) {
#if defined(__AVX512F__)
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  return reinterpret_cast<F>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#else
  return reinterpret_cast<F>(__builtin_convertvector(read_vector<Halves>(x), U) << 16);
#endif
}
inline F load(const F16* x) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
#elif defined(__aarch64__)
  return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(x))));
#else
  const U bits = __builtin_convertvector(read_vector<Halves>(x), U), magnitude = bits & 0x7fff;
  const U special = magnitude > 0x7bff;  // infinity or not a number
  const F value = reinterpret_cast<F>(magnitude << 13) * 0x1p112f;
  const U finite = reinterpret_cast<U>(value), infinite = magnitude << 13 | 0x7f800000;
  return reinterpret_cast<F>((special & infinite) | (~special & finite) | (bits & 0x8000) << 16);
#endif
}

// The numbers of type T in the low halves of lanes whose high halves are zero.
inline F widen_low(U bits, Bf16*) { return reinterpret_cast<F>(bits << 16); }
inline F widen_low(U bits, F16*) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(bits)));
#else
  const Halves halves = __builtin_convertvector(bits, Halves);
  return load(reinterpret_cast<const F16*>(&halves));
#endif
}

inline void store(float* to, F v) { __builtin_memcpy(to, &v, sizeof v); }
inline void store(Bf16* to, F v) {  // to nearest, ties to even
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  const bfloat16x4_t halves = vcvt_bf16_f32(v);
  __builtin_memcpy(to, &halves, sizeof halves);
#else
  const U bits = reinterpret_cast<U>(v), is_nan = reinterpret_cast<U>(v != v);
  const U rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
  const U chosen = (is_nan & quiet) | (~is_nan & rounded);
#if defined(__AVX512F__)
  const __m256i halves = _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(chosen));
#else
  const Halves halves = __builtin_convertvector(chosen, Halves);
#endif
  __builtin_memcpy(to, &halves, sizeof halves);
#endif
}
inline void store(F16* to, F v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
  vst1_u16(reinterpret_cast<uint16_t*>(to), vreinterpret_u16_f16(vcvt_f16_f32(v)));
#else
  for (int i = 0; i < kLanes; ++i) to[i] = to_f16(v[i]);
#endif
}

// The first `count` numbers of a vector, the others zero; `count` from 0 to kLanes.
template <class T>
inline F load_some(const T* x, int count) {
  T buffer[kLanes] = {};
  __builtin_memcpy(buffer, x, static_cast<size_t>(count) * sizeof(T));
  return load(buffer);
}
template <class T>
inline void store_some(T* to, F v, int count) {
  T buffer[kLanes];
  store(buffer, v);
  __builtin_memcpy(to, buffer, static_cast<size_t>(count) * sizeof(T));
}

inline float value_of_one(float x) { return x; }
inline float value_of_one(Bf16 x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x.bits) << 16); }
inline float value_of_one(F16 x) { return load_some(&x, 1)[0]; }

// body(load, store) for `count` numbers in vectors: `load(p)` reads p[at ..], `store(p, v)` writes there, both as many
// numbers as there are.
template <class Body>
inline void for_vectors(int64_t count, Body body) {
  int64_t at = 0;
  for (; at + kLanes <= count; at += kLanes) {
    body([at](const auto* p) { return load(p + at); }, [at](auto* p, F v) { store(p + at, v); });
  }
  if (const int rest = static_cast<int>(count - at); rest > 0) {
    body([at, rest](const auto* p) { return load_some(p + at, rest); },
         [at, rest](auto* p, F v) { store_some(p + at, v, rest); });
  }
}

// --- integers
// ---------------------------------------------------------------------------------------------------------

// Whether that is one instruction: with two, float32 is as fast.
#if defined(__AVX512VNNI__)
constexpr bool kMultipliesShorts = true;
#else
constexpr bool kMultipliesShorts = false;
#endif

// sums + the two products of 16-bit halves in each lane, signed.
inline I add_products(I sums, U a, U b) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<I>(
      _mm512_dpwssd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512BW__)
  return sums + reinterpret_cast<I>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return sums + reinterpret_cast<I>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return sums + reinterpret_cast<I>(_mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#elif defined(__aarch64__)
  const int16x8_t left = vreinterpretq_s16_u32(a), right = vreinterpretq_s16_u32(b);
  return sums + vpaddq_s32(vmull_s16(vget_low_s16(left), vget_low_s16(right)), vmull_high_s16(left, right));
#else
  const I left = reinterpret_cast<I>(a), right = reinterpret_cast<I>(b);
  return sums + (left << 16 >> 16) * (right << 16 >> 16) + (left >> 16) * (right >> 16);
#endif
}

// --- bfloat16 in pairs: words of two numbers, the first in the low half

// Whether there is an instruction for it; without one float32 is faster.
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
constexpr bool kMultipliesPairs = true;
#else
constexpr bool kMultipliesPairs = false;
#endif

// sums + both products of each lane. Numbers and products below 2^-126 may count as zero.
inline F add_pair_products(F sums, U a, U b) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
  return vbfdotq_f32(sums, vreinterpretq_bf16_u32(a), vreinterpretq_bf16_u32(b));
#else
  const auto high = [](U pairs) { return reinterpret_cast<F>(pairs & 0xffff0000u); };
  const auto low = [](U pairs) { return reinterpret_cast<F>(pairs << 16); };
  return sums + low(a) * low(b) + high(a) * high(b);
#endif
}

// --- bytes in fours

// Whether there is an instruction for it.
#if defined(__AVX512VNNI__) || defined(__ARM_FEATURE_DOTPROD)
constexpr bool kMultipliesFours = true;
#else
constexpr bool kMultipliesFours = false;
#endif

// Whether it takes the bytes of `a` as signed; else they are not. Those of `b` are.
#if defined(__ARM_FEATURE_DOTPROD) && !defined(__ARM_FEATURE_MATMUL_INT8)
constexpr bool kSignedFours = true;
#else
constexpr bool kSignedFours = false;
#endif

// sums + the four products of each lane.
inline I add_four_products(I sums, U a, U b) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<I>(
      _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__ARM_FEATURE_MATMUL_INT8)
  return vusdotq_s32(sums, vreinterpretq_u8_u32(a), vreinterpretq_s8_u32(b));
#elif defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(sums, vreinterpretq_s8_u32(a), vreinterpretq_s8_u32(b));
#else
  for (int i = 0; i < 4; ++i) {
    sums += reinterpret_cast<I>(a >> 8 * i & 0xff) * (reinterpret_cast<I>(b << (24 - 8 * i)) >> 24);
  }
  return sums;
#endif
}

// The low byte of each lane.
inline void store_bytes(void* to, U v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(static_cast<__m128i*>(to), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v)));
#else
  using Bytes = uint8_t __attribute__((vector_size(kLanes)));
  const Bytes bytes = __builtin_convertvector(v, Bytes);
  __builtin_memcpy(to, &bytes, sizeof bytes);
#endif
}

// --- bytes by tables

// Whether `look_up` is one instruction.
#if defined(__AVX2__) || defined(__aarch64__)
constexpr bool kLooksUp = true;
#else
constexpr bool kLooksUp = false;
#endif

// Each byte of `places` becomes that of the table's 16, from 128 on zero; places between are not to be asked for.
inline U look_up(const uint8_t* table, U places) {
#if defined(__AVX512BW__)
  const __m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return reinterpret_cast<U>(_mm512_shuffle_epi8(bytes, reinterpret_cast<__m512i>(places)));
#elif defined(__AVX2__)
  const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return reinterpret_cast<U>(_mm256_shuffle_epi8(bytes, reinterpret_cast<__m256i>(places)));
#elif defined(__aarch64__)
  return vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(table), vreinterpretq_u8_u32(places)));
#else
  uint8_t bytes[kVectorBytes];
  __builtin_memcpy(bytes, &places, sizeof bytes);
  for (uint8_t& byte : bytes) byte = byte < 128 ? table[byte] : 0;
  return read_vector<U>(bytes);
#endif
}

struct Sixteen {
  uint8_t bytes[16];
};
// from.bytes[order.bytes[i]] for each i.
inline Sixteen reordered(const Sixteen& from, const Sixteen& order) {
  Sixteen to;
#if defined(__AVX2__)
  const auto bytes = [](const Sixteen& s) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.bytes)); };
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to.bytes), _mm_shuffle_epi8(bytes(from), bytes(order)));
#elif defined(__aarch64__)
  vst1q_u8(to.bytes, vqtbl1q_u8(vld1q_u8(from.bytes), vld1q_u8(order.bytes)));
#else
  for (int i = 0; i < 16; ++i) to.bytes[i] = from.bytes[order.bytes[i]];
#endif
  return to;
}

inline I to_integers(F x) {  // to nearest
#if defined(__AVX512F__)
  return reinterpret_cast<I>(_mm512_cvtps_epi32(x));
#else
  const F magic = splat(0x1.8p23f);
  return reinterpret_cast<I>(x + magic) - reinterpret_cast<I>(magic);
#endif
}

// --- across lanes
// ------------------------------------------------------------------------------------------------------

inline float sum(F v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(v);
#elif defined(__aarch64__)
  return vaddvq_f32(v);
#else
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) v[i] += v[i + half];
  }
  return v[0];
#endif
}

inline int32_t sum(I v) {
  int32_t total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

inline float largest(F v) {  // of numbers
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(v);
#else
  float most = v[0];
  for (int i = 1; i < kLanes; ++i) most = v[i] > most ? v[i] : most;
  return most;
#endif
}

// Lane i is from[i / run]; `run` divides kLanes or is larger, and as many numbers as that asks for can be read.
inline F repeat_each(const float* from, int run) {
  F v;
  if (run >= kLanes) return splat(*from);
#if defined(__AVX512F__)
  const I lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const int shift = __builtin_ctz(static_cast<unsigned>(run));
  const __mmask16 present = static_cast<__mmask16>((1u << (kLanes >> shift)) - 1);
  v = _mm512_permutexvar_ps(reinterpret_cast<__m512i>(lanes >> shift), _mm512_maskz_loadu_ps(present, from));
#else
  for (int i = 0; i < kLanes; ++i) v[i] = from[i / run];
#endif
  return v;
}

// rows[i][j] becomes rows[j][i].
inline void transpose(U (&rows)[kLanes]) {
  U other[kLanes];
  for (int stage = 1; stage < kLanes; stage *= 2) {  // each stage is a perfect shuffle of the rows' halves
    for (int i = 0; i < kLanes / 2; ++i) {
      const U a = rows[i], b = rows[i + kLanes / 2];
#if defined(__AVX512F__)
      other[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      other[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
      other[2 * i] = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
      other[2 * i + 1] = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
      other[2 * i] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      other[2 * i + 1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
    }
    for (int i = 0; i < kLanes; ++i) rows[i] = other[i];
  }
}

// --- functions
// ---------------------------------------------------------------------------------------------------------

inline F least_of(F a, F b) { return b < a ? b : a; }  // a where one is not a number
inline F most_of(F a, F b) { return b > a ? b : a; }

inline F absolute(F x) { return reinterpret_cast<F>(reinterpret_cast<U>(x) & 0x7fffffff); }

// e^x within two units of the last place; overflows to infinity and underflows through denormals to zero.
inline F exp(F x) {
  const F bounded = least_of(most_of(x, splat(-110.0f)), splat(100.0f));
  const F magic = splat(0x1.8p23f);  // adding it rounds to an integer
  const F n = (bounded * 0x1.715476p0f + magic) - magic;
  const F r = (bounded - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;  // ln 2 in two parts
  // Taylor's polynomial: |r| is at most ln(2) / 2, where the next term is below a quarter of a unit.
  F p = splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // Twice half the power of two, since the whole may be no normal number.
  const I whole = __builtin_convertvector(n, I), half = whole >> 1;
  const auto power = [](I e) { return reinterpret_cast<F>((e + 127) << 23); };
  const F result = p * power(half) * power(whole - half);
  return x == x ? result : x;
}

inline F sigmoid(F x) { return 1.0f / (1.0f + exp(-x)); }

inline F tanh(F x) {
  const F size = absolute(x), square = x * x;
  // Near zero the exponential's form would lose all digits.
  const F small = x * (1.0f + square * (-1.0f / 3 + square * (2.0f / 15 - square * (17.0f / 315))));
  const F large = 1.0f - 2.0f / (exp(2.0f * size) + 1.0f);
  const F with_sign = x < 0.0f ? -large : large;
  return size < 0.15f ? small : with_sign;
}

}  // namespace mlxk::kernels::MLXK_ISA
