// See experts.h.

#include "experts.h"

#include <algorithm>
#include <string>

namespace mlxk {
namespace {

// Below it, sorting the positions by expert costs more than it saves.
constexpr size_t kSortFrom = 64;

// Indices of the k largest along the last axis, in no order.
Array top_k(const Array& scores, int k) {
  const int count = scores.dim(-1);
  return mx::slice(mx::argpartition(scores, count - k, -1), -1, count - k, count);
}

Array normalized(const Array& weights, float epsilon = 0) {
  const Array total = mx::sum(weights, -1, true);
  return weights / (epsilon > 0 ? total + epsilon : total);
}

}  // namespace

void require_top_k(const ConfigReader& c, int k, const char* k_field, int experts) {
  c.require(k >= 1 && k <= experts, k_field,
            "must be at least 1 and at most the number of experts, " + std::to_string(experts) + ", got " +
                std::to_string(k));
}

Routing SoftmaxRouter::operator()(const Array& x) const {
  const Array scores = mx::softmax(gate_(x), -1);
  const Array indices = top_k(scores, k_);
  const Array weights = mx::take_along(scores, indices, -1);
  return {indices, normalize_ ? normalized(weights) : weights};
}

Routing TopKRouter::operator()(const Array& x) const {
  const Array scores = gate_(x);
  const Array indices = top_k(scores, k_);
  return {indices, mx::softmax(mx::take_along(scores, indices, -1), -1)};
}

GroupedTopK read_grouped_top_k(const ConfigReader& c, int experts, const GroupedTopK& defaults) {
  GroupedTopK p{.k = c.count("num_experts_per_tok", defaults.k),
                .groups = c.count("n_group", 1),
                .normalize = c.flag("norm_topk_prob", defaults.normalize),
                .scale = c.positive("routed_scaling_factor", defaults.scale)};
  if (p.groups > 1) p.top_groups = c.count("topk_group", std::min(p.groups, defaults.top_groups));
  if (experts == 0) return p;
  require_top_k(c, p.k, "num_experts_per_tok", experts);
  c.require(experts % p.groups == 0, "n_group", "must divide the number of experts, " + std::to_string(experts));
  c.require(p.top_groups <= p.groups, "topk_group", "must be at most n_group");
  c.require(p.k <= experts / p.groups * p.top_groups, "num_experts_per_tok",
            "must be at most the number of experts in topk_group groups");
  return p;
}

Routing grouped_top_k(const Array& logits, const Array& correction, const GroupedTopK& p) {
  return choose_grouped(p.softmax ? mx::softmax(logits, -1) : mx::sigmoid(logits), correction, p);
}

Routing choose_grouped(const Array& scores, const Array& correction, const GroupedTopK& p) {
  Array choice = correction ? scores + correction : scores;
  if (p.groups > 1 && p.top_groups < p.groups) {
    const mx::Shape flat = choice.shape();
    mx::Shape grouped = flat;
    grouped.back() = p.groups;
    grouped.push_back(flat.back() / p.groups);
    choice = mx::reshape(choice, grouped);
    const int size = grouped.back();
    const Array best = mx::slice(mx::sort(choice, -1), -1, size - std::min(p.by_best ? 1 : 2, size), size);
    const Array group_scores = mx::sum(best, -1, true);
    const int dropped = p.groups - p.top_groups;
    const Array worst = mx::slice(mx::argpartition(group_scores, dropped - 1, -2), -2, 0, dropped);
    choice = mx::put_along(choice, worst, mx::scalar(0, choice.dtype()), -2);
    choice = mx::reshape(choice, flat);
  }
  const Array indices = top_k(choice, p.k);
  Array weights = mx::take_along(scores, indices, -1);
  if (p.normalize && (p.k > 1 || p.normalize_one)) weights = normalized(weights, p.epsilon);
  return {indices, p.scale == 1 ? weights : weights * p.scale};
}

SigmoidRouter::SigmoidRouter(const Weights& w, int hidden_size, int experts, const GroupedTopK& p,
                             const char* correction)
    : gate_(w, hidden_size, experts), parameters_(p) {
  if (correction) correction_ = mx::astype(w.take(correction, {experts}), mx::Type::f32);
}

SigmoidRouter::SigmoidRouter(Linear gate, const Array& correction, const GroupedTopK& p)
    : gate_(std::move(gate)), parameters_(p) {
  if (correction) correction_ = mx::astype(correction, mx::Type::f32);
}

Routing SigmoidRouter::operator()(const Array& x) const {
  return grouped_top_k(mx::astype(gate_(x), mx::Type::f32), correction_, parameters_);
}

void stack_experts(const Weights& w, int experts, std::string_view target) {
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    w.stack("experts", experts, name, std::string(target) + "." + name);
  }
}

void split_fused_experts(const Weights& w, const ExpertsShape& s, bool transposed, std::string_view target) {
  for (const char* name : {"gate_up_proj", "down_proj"}) {
    const std::string from = std::string("experts.") + name;
    if (!w.has(from)) continue;
    w.rename(from, from + ".weight");
    const Array& given = w.peek(from + ".weight");
    if (transposed && given.ndim() == 3) w.put(from + ".weight", mx::contiguous(mx::swapaxes(given, 1, 2)));
  }
  const std::string to(target);
  w.split("experts.gate_up_proj", {{to + ".gate_proj", s.intermediate_size}, {to + ".up_proj", s.intermediate_size}});
  if (target != "experts") w.rename("experts.down_proj", to + ".down_proj");
}

Experts::Projection::Projection(const Weights& w, int experts, int in, int out, bool bias)
    : matrix_(w, experts, out, in) {
  if (bias) bias_ = w.take("bias", {experts, out});
}

Array Experts::Projection::operator()(const Array& x, const Array& indices, bool sorted) const {
  return matrix_.gather(x, indices, sorted, bias_);
}

GatedExperts::GatedExperts(const Weights& w, const ExpertsShape& s, Gate gate)
    : gate_proj_(w["gate_proj"], s.experts, s.hidden_size, s.intermediate_size, s.bias),
      up_proj_(w["up_proj"], s.experts, s.hidden_size, s.intermediate_size, s.bias),
      down_proj_(w["down_proj"], s.experts, s.intermediate_size, s.hidden_size, s.bias),
      gate_(std::move(gate)) {}

Array GatedExperts::each(const Array& x, const Array& indices, bool sorted) const {
  return down_proj_(gate_(gate_proj_(x, indices, sorted), up_proj_(x, indices, sorted)), indices, sorted);
}

PlainExperts::PlainExperts(const Weights& w, const ExpertsShape& s, Activation activation)
    : fc1_(w["fc1"], s.experts, s.hidden_size, s.intermediate_size, s.bias),
      fc2_(w["fc2"], s.experts, s.intermediate_size, s.hidden_size, s.bias),
      activation_(activate(activation)) {}

Array PlainExperts::each(const Array& x, const Array& indices, bool sorted) const {
  return fc2_(activation_(fc1_(x, indices, sorted)), indices, sorted);
}

Array Experts::operator()(const Array& x, const Routing& routing) const {
  const mx::Shape chosen = routing.indices.shape();  // [.., k]
  const int width = x.dim(-1), k = chosen.back();
  const bool sorted = routing.indices.size() >= kSortFrom;

  Array rows = mx::reshape(x, {-1, 1, 1, width});         // [N, 1, 1, D]
  Array indices = mx::reshape(routing.indices, {-1, k});  // [N, k]
  Array order;
  if (sorted) {
    indices = mx::reshape(indices, {-1});
    order = mx::argsort(indices, 0);
    indices = mx::take(indices, order, 0);
    const uint32_t each = static_cast<uint32_t>(k);
    rows = mx::take(mx::reshape(rows, {-1, 1, width}), mx::floor_divide(order, mx::from_ids({&each, 1}, {1})), 0);
  }
  Array y = each(rows, indices, sorted);
  if (sorted) y = mx::reshape(mx::take(y, mx::argsort(order, 0), 0), {-1, k, 1, width});
  return mx::reshape(mx::weighted_sum(y, mx::reshape(routing.weights, {-1, k})), x.shape());
}

Array SparseMoE::operator()(const Array& x) const {
  const Array routed = (*experts_)(x, (*router_)(x));
  if (!shared_) return routed;
  const Array shared = (*shared_)(x);
  return routed + (shared_gate_ ? mx::sigmoid((*shared_gate_)(x)) * shared : shared);
}

std::unique_ptr<FeedForward> shared_experts(const Weights& w, int count, const FeedForwardShape& one) {
  if (count == 0) return nullptr;
  FeedForwardShape all = one;
  all.intermediate_size = heads_width(count, one.intermediate_size, "shared experts * their intermediate size");
  return std::make_unique<GatedMLP>(w, all, GatedMLP::Names{});
}

std::unique_ptr<FeedForward> grouped_moe(const Weights& w, const ExpertsShape& s, const GroupedTopK& routing,
                                         int shared, bool corrected) {
  stack_experts(w, s.experts);
  auto router = std::make_unique<SigmoidRouter>(w["gate"], s.hidden_size, s.experts, routing,
                                                corrected ? "e_score_correction_bias" : nullptr);
  return std::make_unique<SparseMoE>(std::move(router), GatedExperts(w["switch_mlp"], s),
                                     shared_experts(w["shared_experts"], shared, {s.hidden_size, s.intermediate_size}));
}

std::unique_ptr<FeedForward> shared_expert_moe(const Weights& w, const ExpertsShape& s, int k, bool normalize,
                                               int shared) {
  stack_experts(w, s.experts);
  return std::make_unique<SparseMoE>(std::make_unique<SoftmaxRouter>(w["gate"], s.hidden_size, s.experts, k, normalize),
                                     GatedExperts(w["switch_mlp"], s),
                                     std::make_unique<GatedMLP>(w["shared_expert"], s.hidden_size, shared),
                                     Linear(w["shared_expert_gate"], s.hidden_size, 1));
}

}  // namespace mlxk
