// What one instruction set offers: plain functions over pointers, and the description of what they point to. Every
// copy of isa/ fills one such table. Knows no arrays and no threads: callers split the work and bring the memory.

#pragma once

#include <cstdint>

#include "kernels/cpu/numbers.h"

namespace mlxk::kernels {

// How a matrix [outputs, inputs] is stored. Packed codes fill each row from its low bits up, in MLX's layout.
enum class Format {
  dense,
  affine,  // code * scale + bias, of 2, 3, 4, 5, 6 or 8 bits; scales and biases of `type`
  mxfp4,   // e2m1 * e8m0 scale of each 32
  mxfp8,   // e4m3 * e8m0 scale of each 32
  nvfp4,   // e2m1 * e4m3 scale of each 16
};

struct Matrix {
  Format format;
  Type type;
  int outputs, inputs;
  int group, bits, groups;  // groups of each row; all 0 in dense ones
  const uint8_t* data;
  int64_t row_bytes;
  const uint8_t *scales, *biases;  // [outputs, inputs / group]; biases of affine ones alone
};

// Where results go: number `column` of row `row`.
struct Results {
  Type type;
  uint8_t* data;
  int64_t row_stride;  // in numbers
};

// Rows that are prepared side by side for `dots`.
constexpr int kTileRows = 12;

// The short numbers that many rows are multiplied in, where there are instructions that sum products of such.
enum class Dots {
  none,
  pairs,     // bfloat16 as it is, of rows and a dense matrix
  shorts,    // integers of 16 bits with scales, nearly as exact as float32, of any rows and a dense matrix of 16 bits
  integers,  // of 8 bits with scales, of rows of 16 bits and a packed matrix
};

// clipped_silu is gpt-oss's, which clips both operands: see rows.cpp.
enum class Activation { silu, gelu, gelu_tanh, clipped_silu };

// One row of queries per (position, head of the group), all of the heads that share a head of keys and values.
struct Attention {
  Type type;
  int width, value_width;  // of one head
  int group;               // heads of queries to one of keys
  int queries, keys;       // positions
  float scale;
  float soft_cap;    // scores become cap * tanh(score / cap); 0 for none
  bool causal;       // the last query sees the last key
  int window;        // and only this many keys; 0 for all
  const bool* mask;  // [queries, keys], true attends; null for none
  int64_t mask_query_step, mask_key_step;
  const float* sinks;  // [group]: scores that take part without a value; null for none
};

// Strides are in numbers; the last axis is dense.
struct AttentionPointers {
  const uint8_t *q, *k, *v;
  int64_t q_position, q_head, k_position, v_position;
};

// One head of a recurrence over `length` positions, all of float32; steps are from one position to the next.
struct DeltaHead {
  int key_width, value_width, gates, length;  // gates: 1, or one for each of key_width
  int64_t key_step, value_step, gate_step, beta_step;
  const float *q, *k, *v, *g, *beta;
};
struct StateSpaceHead {
  int width, states, length;
  int64_t x_step, group_step, dt_step;
  float a, d;
  const float *x, *b, *c, *dt;
};

struct ScanChannel {
  int states, length;
  int64_t x_step, group_step;  // dt steps as x does
  float d;
  const float *a, *x, *dt, *b, *c;
};
struct WkvHead {
  int width, length;
  int64_t step;
  const float *r, *w, *k, *v, *a, *b;
};

// Numbers from one row of sums of values to the next.
static constexpr int64_t attention_stride(int value_width) { return (value_width + 31) / 32 * 32; }

struct Routines {
  const char* name;

  // Both convert `count` numbers between `type` and float32.
  void (*widen)(Type type, const void* from, float* to, int64_t count);
  void (*narrow)(Type type, const float* from, void* to, int64_t count);

  // One row each, `weight` and `bias` of float32 or null.
  void (*rms_norm)(Type type, const void* x, const float* weight, float eps, int width, void* y);
  void (*layer_norm)(Type type, const void* x, const float* weight, const float* bias, float eps, int width, void* y);
  void (*softmax)(Type type, const void* x, int width, void* y);

  void (*gate)(Type type, Activation activation, const void* gate, const void* up, void* y, int64_t count);
  void (*add)(Type type, const void* a, const void* b, void* y, int64_t count);
  // Rotates pairs of one row by the angles whose cosines and sines are given; see kernels.h.
  void (*rotate)(Type type, const void* x, const float* cosines, const float* sines, int dims, bool traditional,
                 int width, void* y);
  // Index of the largest of `count` numbers, the first among equals; one that is not a number counts as largest.
  int64_t (*argmax)(Type type, const void* x, int64_t count);
  float (*sum_exponentials)(Type type, const void* x, float most,
                            int64_t count);  // of x - most; `most` as they have it
  // Exponentials of x - most that are those of MLX's own operation to the bit.
  void (*exponentials)(const float* x, float most, float* y, int64_t count);

  // --- y = x times the transpose of w --------------------------------------------------------------------------------
  // Few rows: `prepare_few` brings one row of x into the order in which codes are unpacked, `few` multiplies `rows`
  // (1, 2 or 4) of them, `few_size` apart, with outputs [first, last). `prepare_rounded` rounds the row to integers of
  // 16 bits besides, where `can_round` allows it for the format; false: the row is not finite, or denormal.
  int64_t (*few_size)(const Matrix& w);     // floats that one prepared row takes
  int64_t (*few_scratch)(const Matrix& w);  // floats that `few` needs
  void (*prepare_few)(const Matrix& w, const float* x, float* prepared);
  bool (*can_round)(const Matrix& w);
  bool (*prepare_rounded)(const Matrix& w, const float* x, float* prepared);
  void (*few)(const Matrix& w, const float* prepared, bool rounded, int rows, int first, int last, Results y,
              float* scratch);
  // Many rows of float32, `x_stride` apart.
  int tile_outputs;  // that ranges should be multiples of
  int64_t (*tiles_scratch)(const Matrix& w, int rows);
  void (*tiles)(const Matrix& w, const float* x, int64_t x_stride, int rows, int first, int last, Results y,
                float* scratch);
  // Many rows in short numbers; `x` is the type they came in, which says what may be lost. `prepare_dots` puts row
  // `row` among tiles of kTileRows rows, and says false of one that has no scales (it is not finite, or denormal).
  Dots (*dots_for)(const Matrix& w, Type x);
  int64_t (*dots_size)(Dots kind, const Matrix& w);     // bytes of one tile
  int64_t (*dots_scratch)(Dots kind, const Matrix& w);  // bytes
  bool (*prepare_dots)(Dots kind, const Matrix& w, const float* x, int row, uint8_t* prepared);
  void (*dots)(Dots kind, const Matrix& w, uint8_t* prepared, int rows, int first, int last, Results y,
               uint8_t* scratch);

  // --- attention -----------------------------------------------------------------------------------------------------
  // Rows [first_row, last_row) of queries * group over keys [first_key, last_key): the unnormalized sum of values
  // [rows, attention_stride], and of each row the largest score and the sum of exponentials relative to it.
  int64_t (*attend_scratch)(const Attention& a, int rows);
  void (*attend)(const Attention& a, const AttentionPointers& p, int first_row, int last_row, int first_key,
                 int last_key, float* sums, float* largest, float* totals, float* scratch);
  // One row of head `head` of its group from `parts` ranges of keys, whose rows are `part_step` rows apart.
  void (*finish_attention)(const Attention& a, int head, int parts, int64_t part_step, const float* sums,
                           const float* largest, const float* totals, void* y);

  // The same over the positions of one head in affine codes: q of float32 [rows, width]; the scratch is of floats.
  int64_t (*attend_packed_scratch)(const Attention& a, const Matrix& k, const Matrix& v, int rows);
  void (*attend_packed)(const Attention& a, const Matrix& k, const Matrix& v, const float* q, int first_key,
                        int last_key, float* sums, float* largest, float* totals, float* scratch);

  // --- recurrences ---------------------------------------------------------------------------------------------------
  // Bring `state` forward in place; y is laid out as v, or as x.
  void (*gated_delta)(const DeltaHead& h, float* state, float* y);       // state [value_width, key_width]
  void (*state_space)(const StateSpaceHead& h, float* state, float* y);  // state [width, states]
  void (*selective_scan)(const ScanChannel& h, float* state, float* y);  // state [states]
  void (*wkv7)(const WkvHead& h, float* state, float* y);                // state [width, width]
};

}  // namespace mlxk::kernels
