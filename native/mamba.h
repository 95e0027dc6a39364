// The mixers of Mamba (arXiv 2312.00752) and Mamba-2 (arXiv 2405.21060). Reference: mlx-lm 0.32.2, models/mamba.py and
// models/mamba2.py. Thread: engine thread only.

#pragma once

#include "recurrence.h"
#include "transformer.h"

namespace mlxk {

// What time steps are held within.
struct TimeStepLimit {
  float low, high;

  // Reads time_step_limit, a pair of which the second may be infinite.
  static TimeStepLimit read(const ConfigReader& c, TimeStepLimit fallback);
};

struct Mamba2Shape {
  enum class Norm { none, whole, by_group };  // of what the recurrence gives, after its gate; by_group: group by group

  int hidden_size, heads, head_dim, groups, state_size, kernel;  // groups divides heads
  bool conv_bias = false, bias = false, out_bias = false;        // bias: of in_proj
  TimeStepLimit limit{0.001f, 100.0f};
  Norm norm = Norm::whole;
  bool norm_before_gate = false;
  float norm_eps = 0;

  int inner() const { return heads * head_dim; }
  int convolved() const { return inner() + 2 * groups * state_size; }
  // The fields that an architecture has these sizes in.
  struct Fields {
    const char *heads, *head_dim, *groups, *state_size;
  };
  // Throws config_invalid, naming the fields, where the sizes do not fit.
  void check(const ConfigReader& c, const Fields& fields) const;
};

// Tensors: in_proj (gate, convolved channels and time steps one below the other), conv1d, A_log, D, dt_bias, norm,
// out_proj. Its state is a RecurrentState of kSlots.
class Mamba2Mixer : public Mixer {
 public:
  static constexpr int kSlots = 2;  // the convolution's inputs, the recurrence

  Mamba2Mixer(const Weights& w, const Mamba2Shape& shape);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 private:
  Array gated(const Array& y, const Array& gate) const;

  Mamba2Shape shape_;
  Linear in_proj_;
  ShortConvolution conv1d_;
  Array a_;  // -exp(A_log), float32
  Array d_, dt_bias_;
  std::optional<GroupRMSNorm> norm_;
  Linear out_proj_;
};

struct MambaShape {
  enum class Norm { none, plain, learnt };  // of time steps, B and C; learnt: dt_layernorm, b_layernorm, c_layernorm

  int hidden_size, inner, state_size, kernel, time_step_rank;
  bool conv_bias = true, bias = false;  // bias: of in_proj and out_proj
  Norm norm = Norm::none;
  float norm_eps = 0;
};

// Tensors: in_proj, conv1d, x_proj, dt_proj, A_log [inner, state_size], D, out_proj. Its state is a RecurrentState of
// kSlots.
class MambaMixer : public Mixer {
 public:
  static constexpr int kSlots = 2;  // the convolution's inputs, the recurrence

  MambaMixer(const Weights& w, const MambaShape& shape);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 private:
  MambaShape shape_;
  Linear in_proj_;
  ShortConvolution conv1d_;
  Linear x_proj_, dt_proj_;
  Array a_;  // -exp(A_log), float32
  Array d_;
  Array dt_norm_, b_norm_, c_norm_;  // empty where they are all ones
  Linear out_proj_;
};

// Reads a rank that may be "auto": a sixteenth of hidden_size, rounded up.
int read_time_step_rank(const ConfigReader& c, const char* field, int hidden_size);

// A decoder of nothing but such mixers: h + mixer(norm(h)). Tensors: norm, mixer. Config: a DecoderConfig with
// `mixer(const Weights&, int layer) const`.
template <class Config>
class MixerBlock {
 public:
  MixerBlock(const Config& c, const Weights& w, int layer)
      : norm_(c.norm(w["norm"])), mixer_(c.mixer(w["mixer"], layer)) {}
  Array operator()(const Array& x, const LayerCache& cache) const { return x + (*mixer_)(norm_(x), cache); }

 private:
  typename Config::Norm norm_;
  std::unique_ptr<Mixer> mixer_;
};

}  // namespace mlxk
