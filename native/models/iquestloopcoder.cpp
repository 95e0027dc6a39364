// IQuest-Coder Loop: dense decoder. Reference: mlx-lm, models/iquestloopcoder.py.
// Against Llama: all layers run twice; the second time a learnt gate mixes, head by head, attention to the keys of the
// first time with attention to the second's own, through a window.

#include <cmath>

#include "decoder.h"
#include "transformer.h"

namespace mlxk {
namespace {

struct Config : DecoderConfig {
  bool attention_bias;
  int loop_window_size;

  explicit Config(const ConfigReader& c)
      : DecoderConfig(c, false),
        attention_bias(c.flag("attention_bias", false)),
        loop_window_size(c.dim("loop_window_size", 64)) {
    c.require(c.count("loop_num", 2) == 2, "loop_num", "must be 2");
    mlp_bias = c.flag("mlp_bias", false);
    rope = Rope(c, head_dim, 500000.0f);
  }

  // The first run of layer i remembers in state 2 i, the second in 2 i + 1.
  static constexpr int kStatesPerLayer = 2;
  std::unique_ptr<LayerState> new_state(int index) const {
    return std::make_unique<KVCache>(index % 2 == 0 ? 0 : loop_window_size);
  }
};

// Tensors: q_proj, k_proj, v_proj, o_proj; of `gate`, weight [H, D] and bias [H].
class LoopAttention {
 public:
  LoopAttention(const Config& c, const Weights& w, const Weights& gate)
      : heads_(c.num_attention_heads),
        kv_heads_(c.num_key_value_heads),
        rope_(c.rope),
        q_proj_(w["q_proj"], c.hidden_size, heads_width(heads_, c.head_dim), c.attention_bias),
        k_proj_(w["k_proj"], c.hidden_size, heads_width(kv_heads_, c.head_dim), c.attention_bias),
        v_proj_(w["v_proj"], c.hidden_size, heads_width(kv_heads_, c.head_dim), c.attention_bias),
        o_proj_(w["o_proj"], heads_width(heads_, c.head_dim), c.hidden_size, c.attention_bias),
        gate_weight_(mx::expand_dims(gate.take("weight", {heads_, c.head_dim}), -1)),
        gate_bias_(mx::reshape(gate.take("bias", {heads_}), {heads_, 1, 1})),
        everything_{.scale = 1 / std::sqrt(static_cast<float>(c.head_dim))},
        nearby_{.scale = everything_.scale, .window = c.loop_window_size} {}

  Array first(const Array& x, const LayerCache& cache) const {
    return joined(attention(query(x, cache), key(x, cache), value(x), cache, everything_));
  }
  Array second(const Array& x, const LayerCache& first_run, const LayerCache& second_run) const {
    const Array q = query(x, second_run);
    const Array gate = mx::sigmoid(mx::matmul(q, gate_weight_) + gate_bias_);  // [B, H, L, 1]
    const Array far = shared_attention(q, first_run, everything_);
    const Array near = attention(q, key(x, second_run), value(x), second_run, nearby_);
    return joined(gate * far + (-gate + 1.0f) * near);
  }

 private:
  static Array heads(const Array& projected, int count) {
    return mx::swapaxes(mx::reshape(projected, {projected.dim(0), projected.dim(1), count, -1}), 1, 2);
  }
  Array query(const Array& x, const LayerCache& cache) const { return rope_(heads(q_proj_(x), heads_), cache); }
  Array key(const Array& x, const LayerCache& cache) const { return rope_(heads(k_proj_(x), kv_heads_), cache); }
  Array value(const Array& x) const { return heads(v_proj_(x), kv_heads_); }
  Array joined(const Array& attended) const {
    return o_proj_(mx::reshape(mx::swapaxes(attended, 1, 2), {attended.dim(0), attended.dim(2), -1}));
  }

  int heads_, kv_heads_;
  Rope rope_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  Array gate_weight_, gate_bias_;
  AttentionOptions everything_, nearby_;
};

class Block {
 public:
  Block(const Config& c, const Weights& w, int)
      : input_layernorm_(c.norm(w["input_layernorm"])),
        self_attn_(c, w["self_attn"], w["loop_gate"]),
        post_attention_layernorm_(c.norm(w["post_attention_layernorm"])),
        mlp_(w["mlp"], c.hidden_size, c.intermediate_size, c.mlp_bias) {}

  Array operator()(const Array& x, const LayerCache& cache) const {
    return with_feed_forward(x + self_attn_.first(input_layernorm_(x), cache));
  }
  Array again(const Array& x, const LayerCache& cache) const {
    const LayerCache second{cache.batch, cache.layer + 1};
    return with_feed_forward(x + self_attn_.second(input_layernorm_(x), cache, second));
  }

 private:
  Array with_feed_forward(const Array& h) const { return h + mlp_(post_attention_layernorm_(h)); }

  RMSNorm input_layernorm_;
  LoopAttention self_attn_;
  RMSNorm post_attention_layernorm_;
  GatedMLP mlp_;
};

class IQuestLoopCoder final : public Decoder<Config, Block> {
 public:
  IQuestLoopCoder(const ConfigReader& reader, const Weights& w) : IQuestLoopCoder(Config(reader), w) {}

  Array hidden(const Array& ids, Batch& batch) const override {
    Array h = embed(ids, batch);
    const auto state = [&](size_t layer) {
      return LayerCache{batch, static_cast<int>(layer) * Config::kStatesPerLayer};
    };
    for (size_t i = 0; i < blocks().size(); ++i) h = blocks()[i](h, state(i));
    for (size_t i = 0; i < blocks().size(); ++i) h = blocks()[i].again(h, state(i));
    batch.advance();
    return normalized(h);
  }

 private:
  IQuestLoopCoder(const Config& c, const Weights& w) : Decoder(c, with_gates(c, w["model"], w)) {}

  // The gates stand beside the layers in a checkpoint, inside them here.
  static const Weights& with_gates(const Config& c, const Weights& model, const Weights& w) {
    for (int i = 0; i < c.num_hidden_layers; ++i) {
      const std::string number = std::to_string(i);
      model.rename("gate_projections." + number, "layers." + number + ".loop_gate");
    }
    return w;
  }
};

}  // namespace

MLXK_MODEL(IQuestLoopCoder, "iquestloopcoder");

}  // namespace mlxk
