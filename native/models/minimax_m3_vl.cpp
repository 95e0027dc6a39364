// MiniMax-M3: mixture of experts, the text tower of the multimodal checkpoints. Reference: mlx-lm,
// models/minimax_m3_vl.py.
// Against MiniMax-M2: norms of each head, with weights less one; some layers attend to the blocks of positions that
// small heads of their own choose; experts with gpt-oss's gate, and shared ones.

#include <cmath>
#include <limits>

#include "decoder.h"
#include "experts.h"

namespace mlxk {
namespace {

struct IndexShape {
  int heads, head_dim, block_size, topk_blocks, local_blocks;
};

struct Config : DecoderConfig {
  int dense_intermediate_size, shared_intermediate_size, num_local_experts;
  bool use_qk_norm;
  float swiglu_alpha, swiglu_limit;
  GroupedTopK routing;
  std::vector<bool> sparse_attention, sparse_mlp;
  IndexShape index{};
  Rope index_rope;

  explicit Config(const ConfigReader& c);

  static constexpr int kStatesPerLayer = 2;  // keys and values, the keys that blocks are chosen by

  Gate gate() const;
  std::unique_ptr<Mixer> mixer(const Weights& layer, int index) const;
  std::unique_ptr<FeedForward> feed_forward(const Weights& layer, int index) const;
};

// Which layers are sparse: by a list of names, of which `dense` is not, or by a list of 0 and 1, or all.
std::vector<bool> read_sparse(const ConfigReader& c, const char* kinds, const char* dense, const char* sparse,
                              const std::optional<ConfigReader>& flags, const char* field, int layers) {
  const auto count = static_cast<size_t>(layers);
  std::vector<bool> out;
  if (c.has(kinds)) {
    for (const std::string& kind : c.texts(kinds)) {
      c.require(kind == dense || kind == sparse, kinds, std::string("must hold ") + dense + " or " + sparse);
      out.push_back(kind == sparse);
    }
    c.require(out.size() == count, kinds, "must have one entry for each of num_hidden_layers");
  } else if (flags && flags->has(field)) {
    for (const int flag : flags->ints(field, 0, 1)) out.push_back(flag != 0);
    flags->require(out.size() == count, field, "must have one entry for each of num_hidden_layers");
  } else {
    out.assign(count, true);
  }
  return out;
}

Config::Config(const ConfigReader& c)
    : DecoderConfig(c.or_else({{"num_key_value_heads", 4}, {"head_dim", 128}}),
                    DecoderFields{.default_norm_eps = 1e-6f}),
      dense_intermediate_size(c.dim("dense_intermediate_size", 12288)),
      shared_intermediate_size(c.dim("shared_intermediate_size", 3072)),
      num_local_experts(c.count("num_local_experts", 128)),
      use_qk_norm(c.flag("use_qk_norm", true)),
      swiglu_alpha(c.number("swiglu_alpha", 1.702f)),
      swiglu_limit(c.positive("swiglu_limit", 7.0f)),
      routing{.k = c.count("num_experts_per_tok", 4),
              .normalize_one = true,
              .scale = c.positive("routed_scaling_factor", 2.0f),
              .epsilon = 1e-20f},
      sparse_mlp(read_sparse(c, "mlp_layer_types", "dense", "sparse", c, "moe_layer_freq", num_hidden_layers)) {
  require_top_k(c, routing.k, "num_experts_per_tok", num_local_experts);
  if (c.flag("use_gemma_norm", true)) norm_offset = 1;
  const auto parameters = c.maybe("rope_parameters");
  int rotated = rotary_dims(parameters && parameters->has("partial_rotary_factor") ? *parameters : c, head_dim,
                            "partial_rotary_factor", 0.5f);
  if (c.has("rotary_dim")) rotated = c.integer("rotary_dim", rotated, 1, head_dim);
  rope = Rope(c, rotated, 5000000.0f);

  // The same fields under two names.
  const auto nested = c.maybe("sparse_attention_config");
  const auto read = [&](const char* inner, const char* outer, int fallback, int min) {
    if (nested && nested->has(inner)) return nested->integer(inner, fallback, min, 1 << 20);
    return c.integer(outer, fallback, min, 1 << 20);
  };
  index.block_size = read("sparse_block_size", "index_block_size", 0, 1);
  if (index.block_size == 0) {
    sparse_attention.assign(static_cast<size_t>(num_hidden_layers), false);
    return;
  }
  index.heads = read("sparse_num_index_heads", "index_n_heads", 1, 1);
  index.head_dim = read("sparse_index_dim", "index_head_dim", 128, 1);
  index.topk_blocks = read("sparse_topk_blocks", "index_topk_blocks", 1, 1);
  index.local_blocks = read("sparse_local_block", "index_local_blocks", 1, 0);
  c.require(num_attention_heads % index.heads == 0, "index_n_heads", "must divide num_attention_heads");
  index_rope = Rope(c, std::min(rotated, index.head_dim), 5000000.0f);
  sparse_attention =
      read_sparse(c, "layer_types", "full_attention", "minimax_m3_sparse",
                  nested ? nested : std::optional<ConfigReader>(c), "sparse_attention_freq", num_hidden_layers);
}

// Tensors: q_proj, k_proj, v_proj, o_proj; q_norm and k_norm with use_qk_norm; index_q_proj, index_k_proj, index_q_norm
// and index_k_norm of a layer that chooses.
class Attention final : public Mixer {
 public:
  Attention(const Config& c, const Weights& w, bool sparse);
  Array operator()(const Array& x, const LayerCache& cache) const override;

 private:
  // Queries [1, H, L, d] and new keys of the index heads, of one row. Boolean [1, H, L, T], true attends; empty where
  // every block is seen.
  Array block_mask(const Array& q, const Array& new_keys, const LayerCache& cache, int row) const;
  Array attend(const std::vector<Array>& row, const LayerCache& cache, int index) const;

  Config config_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  std::optional<Linear> index_q_proj_, index_k_proj_;
  std::optional<RMSNorm> q_norm_, k_norm_, index_q_norm_, index_k_norm_;
};

Attention::Attention(const Config& c, const Weights& w, bool sparse)
    : config_(c),
      q_proj_(w["q_proj"], c.hidden_size, heads_width(c.num_attention_heads, c.head_dim)),
      k_proj_(w["k_proj"], c.hidden_size, heads_width(c.num_key_value_heads, c.head_dim)),
      v_proj_(w["v_proj"], c.hidden_size, heads_width(c.num_key_value_heads, c.head_dim)),
      o_proj_(w["o_proj"], heads_width(c.num_attention_heads, c.head_dim), c.hidden_size) {
  const auto norm = [&](const char* name, int dims) { return RMSNorm(w[name], dims, c.rms_norm_eps, c.norm_offset); };
  if (c.use_qk_norm) {
    q_norm_ = norm("q_norm", c.head_dim);
    k_norm_ = norm("k_norm", c.head_dim);
  }
  if (!sparse) return;
  index_q_proj_.emplace(w["index_q_proj"], c.hidden_size, heads_width(c.index.heads, c.index.head_dim));
  index_k_proj_.emplace(w["index_k_proj"], c.hidden_size, c.index.head_dim);
  index_q_norm_ = norm("index_q_norm", c.index.head_dim);
  index_k_norm_ = norm("index_k_norm", c.index.head_dim);
}

Array Attention::operator()(const Array& x, const LayerCache& cache) const {
  const int batch = x.dim(0), length = x.dim(1);
  const auto heads = [&](const Linear& projection, int dims) {
    return mx::swapaxes(mx::reshape(projection(x), {batch, length, -1, dims}), 1, 2);
  };
  const auto rotated = [&](const Linear& projection, int dims, const std::optional<RMSNorm>& norm, const Rope& rope) {
    const Array h = heads(projection, dims);
    return rope(norm ? (*norm)(h) : h, cache);
  };
  const int dims = config_.head_dim, index_dims = config_.index.head_dim;
  std::vector<Array> parts{rotated(q_proj_, dims, q_norm_, config_.rope), rotated(k_proj_, dims, k_norm_, config_.rope),
                           heads(v_proj_, dims)};
  if (index_q_proj_) {
    parts.push_back(rotated(*index_q_proj_, index_dims, index_q_norm_, config_.index_rope));
    parts.push_back(rotated(*index_k_proj_, index_dims, index_k_norm_, config_.index_rope));
  }
  const Array out =
      by_row(cache, parts, [&](const std::vector<Array>& row, int index) { return attend(row, cache, index); });
  return o_proj_(mx::reshape(mx::swapaxes(out, 1, 2), {batch, length, -1}));
}

Array Attention::attend(const std::vector<Array>& row, const LayerCache& cache, int index) const {
  const Array mask = index_q_proj_ ? block_mask(row[3], row[4], cache, index) : Array();
  const auto& quantization = cache.batch.row(index).quantization;
  const auto [keys, values] = cache.state<KVCache>(index).update(row[1], row[2], quantization);
  const float scale = 1 / std::sqrt(static_cast<float>(config_.head_dim));
  if (mask) return mx::attention(row[0], keys, values, scale, mx::Mask::array, mask);
  const auto mode = row[0].dim(2) == 1 ? mx::Mask::none : mx::Mask::causal;
  return mx::attention(row[0], keys, values, scale, mode, {});
}

Array Attention::block_mask(const Array& q, const Array& new_keys, const LayerCache& cache, int row) const {
  const IndexShape& s = config_.index;
  const int length = q.dim(2), heads = q.dim(1);
  const LayerCache own{cache.batch, cache.layer + 1};
  const Array nothing = mx::zeros({1, 1, length, 0}, new_keys.dtype());
  const Array keys = own.state<KVCache>(row).update(new_keys, nothing).first;
  const int seen = keys.dim(2), blocks = (seen + s.block_size - 1) / s.block_size;
  if (s.topk_blocks >= blocks) return {};

  const Array never = mx::scalar(-std::numeric_limits<float>::infinity(), mx::Type::f32);
  const Array always = mx::scalar(std::numeric_limits<float>::infinity(), mx::Type::f32);
  const Array causal = cache.batch.window_mask(seen, seen);  // [L, T]
  const Array match = mx::matmul(mx::astype(q, mx::Type::f32), mx::swapaxes(mx::astype(keys, mx::Type::f32), -1, -2));
  Array scores = mx::where(causal, match, never);
  const int missing = blocks * s.block_size - seen;  // of the last block
  if (missing > 0) scores = mx::concatenate({scores, mx::broadcast_to(never, {1, heads, length, missing})}, -1);
  Array best = mx::max(mx::reshape(scores, {1, heads, length, blocks, s.block_size}), -1, false);
  if (s.local_blocks > 0) {
    const int32_t size = s.block_size, near = s.local_blocks;
    const Array position = mx::expand_dims(mx::arange(seen - length, seen, mx::Type::i32), 1);
    const Array block = mx::floor_divide(position, mx::from_ints({&size, 1}, {1}));
    const Array ids = mx::expand_dims(mx::arange(0, blocks, mx::Type::i32), 0);
    const Array local =
        mx::logical_and(mx::less_equal(ids, block), mx::less(block - mx::from_ints({&near, 1}, {1}), ids));
    best = mx::where(local, always, best);
  }
  const int from = blocks - s.topk_blocks;
  const Array chosen = mx::slice(mx::argpartition(best, from, -1), -1, from, blocks);
  const Array none = mx::zeros({1, heads, length, blocks}, mx::Type::boolean);
  const Array kept = mx::put_along(none, chosen, mx::scalar(1, mx::Type::boolean), -1);
  const Array positions = mx::slice(mx::repeat(kept, s.block_size, -1), -1, 0, seen);
  return mx::repeat(mx::logical_and(positions, causal), config_.num_attention_heads / heads, 1);
}

std::unique_ptr<Mixer> Config::mixer(const Weights& layer, int at) const {
  return std::make_unique<Attention>(*this, layer["self_attn"], sparse_attention[static_cast<size_t>(at)]);
}

Gate Config::gate() const {
  return Gate([alpha = swiglu_alpha, limit = swiglu_limit](const Array& gate, const Array& up) {
    const Array held = mx::minimum(gate, mx::scalar(limit, gate.dtype()));
    return (mx::clip(up, -limit, limit) + 1.0f) * (held * mx::sigmoid(held * alpha));
  });
}

// Checkpoints may hold gate and up in one matrix, and the shared expert behind the others.
void split_original(const Config& c, const Weights& w) {
  for (const char* name : {"gate_up_proj", "gate_proj", "up_proj", "down_proj"}) {
    const Weights all = w["switch_mlp"][name], shared = w["shared_experts"][name];
    for (const char* leaf : {"weight", "scales", "biases"}) {
      if (!all.has(leaf) || all.peek(leaf).ndim() != 3 || all.peek(leaf).dim(0) != c.num_local_experts + 1) continue;
      const Array tensor = all.peek(leaf);
      const auto parts = mx::split_at(tensor, std::vector<int>{c.num_local_experts}, 0);
      all.put(leaf, mx::contiguous(parts[0]));
      shared.put(leaf, mx::contiguous(mx::reshape(parts[1], {tensor.dim(1), tensor.dim(2)})));
    }
  }
  const int routed = c.intermediate_size, shared = c.shared_intermediate_size;
  w["switch_mlp"].split("gate_up_proj", {{"gate_proj", routed}, {"up_proj", routed}});
  w["shared_experts"].split("gate_up_proj", {{"gate_proj", shared}, {"up_proj", shared}});
  w.stack("experts", c.num_local_experts, "w1", "switch_mlp.gate_proj");
  w.stack("experts", c.num_local_experts, "w2", "switch_mlp.down_proj");
  w.stack("experts", c.num_local_experts, "w3", "switch_mlp.up_proj");
}

std::unique_ptr<FeedForward> Config::feed_forward(const Weights& layer, int at) const {
  const Weights w = layer["block_sparse_moe"];
  if (!sparse_mlp[static_cast<size_t>(at)]) {
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) w.rename(name, std::string("mlp.") + name);
    layer.rename("block_sparse_moe.mlp", "mlp");
    return std::make_unique<GatedMLP>(layer["mlp"], FeedForwardShape{hidden_size, dense_intermediate_size}, gate());
  }
  split_original(*this, w);
  return std::make_unique<SparseMoE>(
      std::make_unique<SigmoidRouter>(Linear(w["gate"], hidden_size, num_local_experts),
                                      w.take("e_score_correction_bias", {num_local_experts}), routing),
      GatedExperts(w["switch_mlp"], {hidden_size, intermediate_size, num_local_experts}, gate()),
      std::make_unique<GatedMLP>(w["shared_experts"], FeedForwardShape{hidden_size, shared_intermediate_size}, gate()));
}

class MiniMaxM3 final : public Decoder<Config, PreNormBlock<Config>> {
 public:
  MiniMaxM3(const ConfigReader& reader, const Weights& w)
      : Decoder(Config(reader.child("text_config")), language_tower(w)) {}
};

}  // namespace

MLXK_MODEL(MiniMaxM3, "minimax_m3_vl");

}  // namespace mlxk
