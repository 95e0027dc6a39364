// See sampler.h.

#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlxk {
namespace {

Array minus_infinity() { return mx::scalar(-std::numeric_limits<float>::infinity(), mx::Type::f32); }
Array constant(float value) { return mx::scalar(value, mx::Type::f32); }

// Keeps the smallest set of most likely tokens whose mass reaches p of the whole; ties at the edge all stay.
Array nucleus(const Array& logprobs, float p) {
  const Array sorted = mx::sort(logprobs, -1);
  const Array probs = mx::exp(sorted);
  const Array mass_above = mx::cumsum(probs, -1, true, false);
  const Array total = mx::slice(mass_above, -1, 0, 1) + mx::slice(probs, -1, 0, 1);
  const Array dropped = mx::sum(mx::greater_equal(mass_above, constant(p) * total), -1, true);
  const Array threshold = mx::take_along(sorted, dropped, -1);
  return mx::where(mx::less(logprobs, threshold), minus_infinity(), logprobs);
}

// Keeps tokens at least min_p times as likely as the most likely one.
Array above_share(const Array& logprobs, float min_p) {
  const Array floor = mx::max(logprobs, -1, true) + constant(std::log(min_p));
  return mx::where(mx::less(logprobs, floor), minus_infinity(), logprobs);
}

Array most_likely(const Array& logprobs, int k) {
  const int vocab = logprobs.dim(-1);
  if (k >= vocab) return logprobs;
  const Array order = mx::argpartition(-logprobs, k - 1, -1);
  return mx::put_along(logprobs, mx::slice(order, -1, k, vocab), minus_infinity(), -1);
}

}  // namespace

Sampler::Sampler(const SamplingParams& params) : params_(params) {
  if (!greedy()) key_ = mx::random_key(params.seed);
}

Array Sampler::operator()(const Array& logprobs) {
  if (greedy()) return mx::argmax(logprobs, -1);
  Array kept = logprobs;
  if (params_.top_p > 0 && params_.top_p < 1) kept = nucleus(kept, params_.top_p);
  if (params_.min_p > 0) kept = above_share(kept, params_.min_p);
  if (params_.top_k > 0) kept = most_likely(kept, params_.top_k);
  auto [next, draw] = mx::random_split(key_);
  key_ = next;
  return mx::categorical(kept * constant(1 / params_.temperature), draw);
}

std::optional<std::pair<Array, Array>> Sampler::fused(const Array& scores) {
  if (greedy()) return mx::fused_greedy(scores);
  const auto [next, draw] = mx::random_split(key_);
  auto chosen = mx::fused_sample(scores, draw, {params_.temperature, params_.top_p, params_.min_p, params_.top_k});
  if (chosen) key_ = next;
  return chosen;
}

namespace {

// By one primitive a row, or nothing.
std::optional<Sampled> fused_sample(const Array& logits, const std::vector<Sampler*>& samplers) {
  const int rows = logits.dim(0);
  std::vector<Array> tokens, logprobs;
  std::vector<Sampler> before;
  for (int row = 0; row < rows; ++row) {
    Sampler& sampler = *samplers[static_cast<size_t>(row)];
    before.push_back(sampler);
    const auto chosen = sampler.fused(rows == 1 ? logits : mx::slice(logits, 0, row, row + 1));
    if (!chosen) {
      for (size_t i = 0; i < before.size(); ++i) *samplers[i] = before[i];
      return std::nullopt;
    }
    tokens.push_back(chosen->first);
    logprobs.push_back(chosen->second);
  }
  if (rows == 1) return Sampled{tokens.front(), logprobs.front()};
  return Sampled{mx::concatenate(tokens, 0), mx::concatenate(logprobs, 0)};
}

}  // namespace

Sampled sample(const Array& logits, const std::vector<Sampler*>& samplers) {
  const bool greedy = std::all_of(samplers.begin(), samplers.end(), [](const Sampler* s) { return s->greedy(); });
  if (greedy) {
    if (const auto chosen = mx::fused_greedy(logits)) return {chosen->first, chosen->second};
  } else if (auto chosen = fused_sample(logits, samplers)) {
    return *chosen;
  }
  const Array scores = mx::astype(logits, mx::Type::f32);
  const Array total = mx::logsumexp(scores, -1, true);  // [B, 1]
  const int rows = scores.dim(0);
  Array tokens;
  if (greedy) {
    tokens = mx::argmax(scores, -1);
  } else {
    const Array logprobs = scores - total;
    std::vector<Array> chosen;
    for (int row = 0; row < rows; ++row) {
      chosen.push_back(
          (*samplers[static_cast<size_t>(row)])(rows == 1 ? logprobs : mx::slice(logprobs, 0, row, row + 1)));
    }
    tokens = rows == 1 ? chosen.front() : mx::concatenate(chosen, 0);
  }
  const Array score = mx::take_along(scores, mx::expand_dims(tokens, 1), -1);  // [B, 1]
  return {tokens, mx::reshape(score - total, {rows})};
}

}  // namespace mlxk
