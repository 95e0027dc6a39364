// Attention in float64, which the kernels are compared with.

#pragma once

#include "kernel_arrays.h"

namespace mlxk::test {

// Softmax over what a query may look at, then the sum of values.
struct AttentionReference {
  int batch = 1, groups = 1, heads = 1, queries = 1, seen = 1, width = 1, v_width = 1;
  double scale = 1, soft_cap = 0;
  int window = 0;
  mx::Mask mode = mx::Mask::causal;
  bool may_round = false;  // weights to bfloat16
  bool packed = false;     // keys and values are codes
  std::vector<double> q, k, v, sinks;
  std::vector<bool> mask;  // [queries, seen]

  bool visible(int query, int key) const {
    if (mode == mx::Mask::causal) {
      const int last = seen - queries + query;
      return key <= last && (window == 0 || key > last - window);
    }
    return mode == mx::Mask::none || mask[static_cast<size_t>(query * seen + key)];
  }

  Expected result() const {
    Expected want;
    for (int b = 0; b < batch; ++b) {
      for (int head = 0; head < heads; ++head) {
        for (int query = 0; query < queries; ++query) add_row(b, head, query, want);
      }
    }
    return want;
  }

  void add_row(int b, int head, int query, Expected& want) const {
    const auto cached = static_cast<size_t>((b * groups + head / (heads / groups)) * seen);
    const auto row = static_cast<size_t>(((b * heads + head) * queries + query) * width);
    std::vector<double> scores;
    double best = sinks.empty() ? -std::numeric_limits<double>::infinity() : sinks[static_cast<size_t>(head)];
    double score_size = std::fabs(sinks.empty() ? 0 : best), total = 0;
    for (int t = 0; t < seen; ++t) {
      double score = 0, terms = 0;
      for (size_t i = 0; i < static_cast<size_t>(width); ++i) {
        const double term = q[row + i] * scale * k[(cached + static_cast<size_t>(t)) * static_cast<size_t>(width) + i];
        score += term;
        terms += std::fabs(term);
      }
      if (soft_cap > 0) {
        score = soft_cap * std::tanh(score / soft_cap);
        terms += soft_cap;  // what its rounding is relative to
      }
      if (!visible(query, t)) score = -std::numeric_limits<double>::infinity();
      scores.push_back(score);
      best = std::max(best, score);
      if (visible(query, t) && std::isfinite(score)) score_size = std::max(score_size, terms);
    }
    for (double& score : scores) total += score = std::exp(score - best);
    if (!sinks.empty()) total += std::exp(sinks[static_cast<size_t>(head)] - best);
    double largest = 0;
    if (packed) {
      for (const double value : v) largest = std::max(largest, std::fabs(value));
    }
    for (int i = 0; i < v_width; ++i) {
      double sum = 0, terms = 0;
      for (size_t t = 0; t < scores.size(); ++t) {
        if (scores[t] == 0 && !visible(query, static_cast<int>(t))) continue;
        const size_t at = (cached + t) * static_cast<size_t>(v_width) + static_cast<size_t>(i);
        const double term = scores[t] / total * v[at];
        sum += term;
        terms += std::fabs(term);
      }
      // A code times its scale is rounded once or twice, by as much as the largest value has.
      want.add(sum, terms * (1 + score_size) + (packed ? largest : 0));
      // Half a step of bfloat16 for a weight and for their total; products below the least normal number are zero.
      if (may_round) want.slack.push_back(0x1p-8 * terms + 2 * seen * 0x1p-126);
    }
  }
};

}  // namespace mlxk::test
