// Nanbeige: dense decoder. Reference: mlx-lm, models/nanbeige.py.
// Against Llama: all layers run several times over, each time with keys and values of their own.

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias, skip_loop_final_norm;
  int num_loops;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        skip_loop_final_norm(c.flag("skip_loop_final_norm", false)),
        num_loops(c.integer("num_loops", 1, 1, kMostLoops)) {
    if (c.has("loop_loss_weights")) {
      // One weight for every loop but the first.
      const size_t extra = c.floats("loop_loss_weights").size();
      c.require(extra < kMostLoops, "loop_loss_weights", "must have fewer than 64 entries");
      if (extra > 0) num_loops = static_cast<int>(extra) + 1;
    }
    for (const char* field : {"enable_double_loop_split", "loop_share_kv", "enable_depth_attention"}) {
      c.require(!c.flag(field, false), field, "must be false: mlxk does not run it");
    }
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 10000.0f);
  }

  AttentionShape attention(int) const {
    auto shape = AttentionShape::of(*this);
    shape.qkv_bias = shape.o_bias = attention_bias;
    return shape;
  }

 private:
  static constexpr int kMostLoops = 64;
};

class Nanbeige final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  using Decoder::Decoder;

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed(ids, batch);
    int state = 0;
    for (int loop = 0; loop < config().num_loops; ++loop) {
      for (const auto& block : blocks()) h = block(h, {batch, state++});
      if (!config().skip_loop_final_norm) h = normalized(h);
    }
    batch.advance();
    return config().skip_loop_final_norm ? normalized(h) : h;
  }

  SequenceCache new_cache() const override {
    SequenceCache cache;
    for (int i = 0; i < config().num_loops * config().num_hidden_layers; ++i) {
      cache.layers.push_back(config().new_state(i));
    }
    return cache;
  }
};

}  // namespace

MLXK_MODEL(Nanbeige, "nanbeige");

}  // namespace mlxk
