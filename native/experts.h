// Mixtures of experts: routers that choose k experts a position, the experts' stacked matrices, and the feed-forward
// made of both. Formulas: mlx-lm 0.32.2, models/switch_layers.py and the families' own files.
// Thread: engine thread only.

#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "transformer.h"

namespace mlxk {

// For every position the experts chosen and the weight of each: indices uint32 [.., k], weights [.., k].
struct Routing {
  Array indices, weights;
};

class Router {
 public:
  virtual ~Router() = default;
  virtual Routing operator()(const Array& x) const = 0;  // x [.., D]
};

// Throws config_invalid, naming the fields, unless 1 <= k <= experts.
void require_top_k(const ConfigReader& c, int k, const char* k_field, int experts);

// Softmax over all experts, the k largest of it; `normalize`: scaled to sum to one. Tensors: those of a Linear.
class SoftmaxRouter : public Router {
 public:
  SoftmaxRouter(const Weights& w, int hidden_size, int experts, int k, bool normalize, bool bias = false)
      : gate_(w, hidden_size, experts, bias), k_(k), normalize_(normalize) {}
  Routing operator()(const Array& x) const override;

 private:
  Linear gate_;
  int k_;
  bool normalize_;
};

// The k largest scores, softmax over those. Tensors: those of a Linear.
class TopKRouter : public Router {
 public:
  TopKRouter(const Weights& w, int hidden_size, int experts, int k, bool bias = false)
      : gate_(w, hidden_size, experts, bias), k_(k) {}
  Routing operator()(const Array& x) const override;

 private:
  Linear gate_;
  int k_;
};

// DeepSeek-V3's, arXiv 2412.19437 section 2.1.2: sigmoid scores, a learnt correction that counts for the choice alone,
// and groups of experts of which the best take part.
struct GroupedTopK {
  int k;
  int groups = 1, top_groups = 1;
  bool normalize = true;
  bool normalize_one = false;  // the weight of a single expert too
  float scale = 1;
  float epsilon = 0;     // added to the sum that normalizes
  bool softmax = false;  // instead of the sigmoid
  bool by_best = false;  // a group counts by its best expert instead of its best two
};

// Reads num_experts_per_tok, n_group, topk_group, norm_topk_prob and routed_scaling_factor. `defaults`: k,
// top_groups, normalize and scale where the config has no such field; the families differ.
GroupedTopK read_grouped_top_k(const ConfigReader& c, int experts, const GroupedTopK& defaults = {.k = 1});

// logits and correction float32; correction [experts], may be empty.
Routing grouped_top_k(const Array& logits, const Array& correction, const GroupedTopK& p);
// The same from scores that are not the sigmoid or softmax of logits.
Routing choose_grouped(const Array& scores, const Array& correction, const GroupedTopK& p);

// Tensors: weight, a bare matrix; e_score_correction_bias where the architecture has one.
class SigmoidRouter : public Router {
 public:
  SigmoidRouter(const Weights& w, int hidden_size, int experts, const GroupedTopK& p,
                const char* correction = "e_score_correction_bias");
  // Where a checkpoint keeps the two elsewhere.
  SigmoidRouter(Linear gate, const Array& correction, const GroupedTopK& p);
  Routing operator()(const Array& x) const override;

 private:
  Linear gate_;
  Array correction_;
  GroupedTopK parameters_;
};

struct ExpertsShape {
  int hidden_size, intermediate_size, experts;
  bool bias = false;
};

// Joins experts.0 to experts.N of a mixture's scope to `target`, where a checkpoint has them one by one.
void stack_experts(const Weights& w, int experts, std::string_view target = "switch_mlp");

// Takes apart what a checkpoint holds of all experts in two tensors, experts.gate_up_proj (gate first) and
// experts.down_proj, into the modules of `target`. `transposed`: they are [experts, in, out].
void split_fused_experts(const Weights& w, const ExpertsShape& shape, bool transposed,
                         std::string_view target = "switch_mlp");

// The sum of the chosen experts' outputs by their weights.
class Experts {
 public:
  virtual ~Experts() = default;
  Array operator()(const Array& x, const Routing& routing) const;

 protected:
  // A matrix of every expert. Tensors: weight and bias, stacked [experts, ..].
  class Projection {
   public:
    Projection(const Weights& w, int experts, int in, int out, bool bias);
    Array operator()(const Array& x, const Array& indices, bool sorted) const;

   private:
    StackedMatrix matrix_;
    Array bias_;  // [experts, out]
  };

 private:
  // x [.., 1, D] through the experts of `indices`; `sorted` tells that these ascend.
  virtual Array each(const Array& x, const Array& indices, bool sorted) const = 0;
};

// Experts that are gated feed-forwards. Tensors: gate_proj, up_proj, down_proj.
class GatedExperts : public Experts {
 public:
  GatedExperts(const Weights& w, const ExpertsShape& shape, Gate gate);
  GatedExperts(const Weights& w, const ExpertsShape& shape, Activation activation = Activation::silu)
      : GatedExperts(w, shape, Gate(activation)) {}

 private:
  Array each(const Array& x, const Array& indices, bool sorted) const override;

  Projection gate_proj_, up_proj_, down_proj_;
  Gate gate_;
};

// Experts that are plain feed-forwards. Tensors: fc1, fc2.
class PlainExperts : public Experts {
 public:
  PlainExperts(const Weights& w, const ExpertsShape& shape, Activation activation);

 private:
  Array each(const Array& x, const Array& indices, bool sorted) const override;

  Projection fc1_, fc2_;
  mx::Unary activation_;
};

// experts(x) + shared(x), the second where there is one, scaled by the sigmoid of its own gate where there is that.
class SparseMoE : public FeedForward {
 public:
  SparseMoE(std::unique_ptr<Router> router, GatedExperts experts, std::unique_ptr<FeedForward> shared = nullptr,
            std::optional<Linear> shared_gate = std::nullopt)
      : SparseMoE(std::move(router), std::make_unique<GatedExperts>(std::move(experts)), std::move(shared),
                  std::move(shared_gate)) {}
  SparseMoE(std::unique_ptr<Router> router, std::unique_ptr<Experts> experts,
            std::unique_ptr<FeedForward> shared = nullptr, std::optional<Linear> shared_gate = std::nullopt)
      : router_(std::move(router)),
        experts_(std::move(experts)),
        shared_(std::move(shared)),
        shared_gate_(std::move(shared_gate)) {}
  Array operator()(const Array& x) const override;

 private:
  std::unique_ptr<Router> router_;
  std::unique_ptr<Experts> experts_;
  std::unique_ptr<FeedForward> shared_;
  std::optional<Linear> shared_gate_;
};

// The experts that every position passes through, as one feed-forward of `count` times their width; none where `count`
// is 0.
std::unique_ptr<FeedForward> shared_experts(const Weights& w, int count, const FeedForwardShape& one);

// A mixture as DeepSeek-V3 names its parts: gate, switch_mlp (or experts one by one), shared_experts as one
// feed-forward of `shared` times the experts' width. `corrected`: the router has an e_score_correction_bias.
std::unique_ptr<FeedForward> grouped_moe(const Weights& w, const ExpertsShape& shape, const GroupedTopK& routing,
                                         int shared, bool corrected = true);

// A mixture as Qwen names its parts: gate, switch_mlp (or experts one by one), shared_expert behind shared_expert_gate;
// the router is a SoftmaxRouter. `shared`: the width of the shared expert.
std::unique_ptr<FeedForward> shared_expert_moe(const Weights& w, const ExpertsShape& shape, int k, bool normalize,
                                               int shared);

}  // namespace mlxk
