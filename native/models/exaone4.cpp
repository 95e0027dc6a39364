// EXAONE 4: dense decoder. Reference: mlx-lm, models/exaone4.py.
// Against Llama: norms stand after attention and feed-forward; q and k are normalized per head. With a
// sliding_window_pattern of L and G, the L layers slide and the G layers rotate nothing.

#include <algorithm>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  std::string pattern;  // empty: every layer attends to everything and rotates

  explicit Config(const ConfigReader& c) : DecoderConfig(c, false), pattern(c.text("sliding_window_pattern", "")) {
    rope = Rope(c, head_dim, 1000000.0f);
    const bool known = std::all_of(pattern.begin(), pattern.end(), [](char l) { return l == 'L' || l == 'G'; });
    c.require(known, "sliding_window_pattern", "must be written in L and G");
    for (int i = 0; i < num_hidden_layers; ++i) windows.push_back(is('L', i) ? c.dim("sliding_window") : 0);
  }

  bool is(char kind, int layer) const {
    return !pattern.empty() && pattern[static_cast<size_t>(layer) % pattern.size()] == kind;
  }

  AttentionShape attention(int layer) const {
    auto shape = AttentionShape::of(*this, layer);
    shape.qk_norm = QKNorm::per_head;
    return shape;
  }
  Rope layer_rope(int layer) const { return is('G', layer) ? Rope() : rope; }
};

using Exaone4 = Decoder<Config, PostNormBlock<Config>>;

}  // namespace

MLXK_MODEL(Exaone4, "exaone4");

}  // namespace mlxk
