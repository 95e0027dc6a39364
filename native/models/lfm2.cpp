// LFM2: hybrid of attention and short convolutions. Reference: mlx-lm, models/lfm2.py.
// Against Llama: most layers mix positions by a gated convolution; q and k are normalized per head.

#include "lfm2.h"

namespace mlxk {
namespace {

struct Config : Lfm2Config {
  explicit Config(const ConfigReader& c) : Lfm2Config(c) { intermediate_size = feed_forward_size(c); }

  std::unique_ptr<FeedForward> feed_forward(const Weights& w, int) const {
    return std::make_unique<GatedMLP>(w["feed_forward"], FeedForwardShape{hidden_size, intermediate_size},
                                      GatedMLP::Names{"w1", "w3", "w2"});
  }

 private:
  static int feed_forward_size(const ConfigReader& c) {
    const int stated = c.dim(c.has("block_ff_dim") ? "block_ff_dim" : "intermediate_size");
    if (!c.flag("block_auto_adjust_ff_dim", true)) return stated;
    const float multiplier = c.positive("block_ffn_dim_multiplier", 1.0f);
    const int multiple = c.dim("block_multiple_of", 256);
    const int scaled = static_cast<int>(multiplier * static_cast<float>(2 * stated / 3));
    c.require(scaled > 0, "block_ffn_dim_multiplier", "must leave a feed-forward of at least one unit");
    return multiple * ((scaled + multiple - 1) / multiple);
  }
};

using Lfm2 = Decoder<Config, PreNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Lfm2, "lfm2");

}  // namespace mlxk
