// What the architectures of the LFM2 family share: layers that attend and layers of gated convolutions. Reference:
// mlx-lm 0.32.2, models/lfm2.py. Thread: engine thread only.

#pragma once

#include <memory>
#include <vector>

#include "decoder.h"
#include "recurrence.h"
#include "transformer.h"

namespace mlxk {

// out(c * conv(b * x)). Tensors: in_proj (b, c and x one below the other), conv, out_proj. Its state is a
// RecurrentState of one slot.
class GatedConvolution final : public Mixer {
 public:
  GatedConvolution(const Weights& w, int hidden_size, int kernel, bool bias)
      : in_proj_(w["in_proj"], hidden_size, 3 * hidden_size, bias),
        conv_(w["conv"], hidden_size, kernel, bias),
        out_proj_(w["out_proj"], hidden_size, hidden_size, bias) {}

  Array operator()(const Array& x, const LayerCache& cache) const override {
    const auto parts = mx::split(in_proj_(x), 3, -1);
    return out_proj_(parts[1] * conv_(parts[0] * parts[2], cache, 0));
  }

 private:
  Linear in_proj_;
  ShortConvolution conv_;
  Linear out_proj_;
};

// All but the feed-forwards; intermediate_size is the architecture's to read.
struct Lfm2Config : DecoderConfig {
  int conv_L_cache;
  bool conv_bias;
  std::vector<int> full_attn_idxs;

  explicit Lfm2Config(const ConfigReader& c);

  bool attends(int layer) const;
  std::unique_ptr<LayerState> new_state(int layer) const;
  std::unique_ptr<Mixer> mixer(const Weights& w, int layer) const;
};

}  // namespace mlxk
