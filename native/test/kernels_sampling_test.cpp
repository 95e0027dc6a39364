// Tokens drawn by one primitive, against those that MLX's own operations draw from the same random state: every one of
// them, over random scores with ties, peaks and impossible tokens, and all filters.

#include <bit>

#include "kernel_arrays.h"
#include "kernels/cpu/isa.h"
#include "sampler.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

const std::vector<int> kThreads{1, 4};

float normal(Random& random) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform(random, 0, 1);
  return static_cast<float>(sum);
}

// Scores [rows, vocab] as models have them, and as they should not.
Array any_scores(Random& random, int rows, int vocab, Type type) {
  std::vector<float> scores(static_cast<size_t>(rows * vocab));
  const double spread = random.pick(std::vector<double>{0, 0.01, 0.5, 1, 1, 3, 3, 10, 1000});
  const double step = random.one_in(4) ? spread / 4 : 0;  // ties, many of them
  for (float& score : scores) {
    score = normal(random) * static_cast<float>(spread);
    if (step > 0) score = static_cast<float>(std::round(score / step) * step);
  }
  if (random.one_in(3)) {
    for (uint64_t n = random.below(4); n < 4; ++n) scores[random.below(scores.size())] += 8;
  }
  if (random.one_in(4)) {
    for (int row = 0; row < rows; ++row) {
      for (int i = 1; i < vocab; ++i) {
        if (!random.one_in(3)) scores[static_cast<size_t>(row * vocab + i)] = -std::numeric_limits<float>::infinity();
      }
    }
  }
  const Array dense = mx::astype(mx::from_floats(scores, {rows, vocab}), type);
  return random.one_in(4) ? mx::slice(mx::concatenate({dense, dense}, 0), 0, 0, rows) : dense;
}

SamplingParams any_params(Random& random, int vocab) {
  SamplingParams p;
  p.seed = random.next();
  p.temperature = random.pick(std::vector<float>{0.05f, 0.7f, 1, 1, 2, 50});
  if (random.one_in(2)) p.top_p = random.pick(std::vector<float>{1e-6f, 0.1f, 0.5f, 0.9f, 0.95f, 0.999f, 0.9999999f});
  if (random.one_in(2)) p.min_p = random.pick(std::vector<float>{1e-6f, 0.001f, 0.05f, 0.5f, 1});
  if (random.one_in(2))
    p.top_k = 1 + static_cast<int>(random.below(static_cast<uint64_t>(random.one_in(2) ? 50 : vocab)));
  return p;
}

std::string text_of(const SamplingParams& p) {
  std::ostringstream text;
  text << "temperature " << p.temperature << ", top_p " << p.top_p << ", min_p " << p.min_p << ", top_k " << p.top_k
       << ", seed " << p.seed;
  return text.str();
}

void draw(Random& random, int rows, int vocab) {
  mx::set_cpu_threads(random.pick(kThreads));
  const Array logits = any_scores(random, rows, vocab, random.pick(kTypes));
  std::vector<SamplingParams> params;
  std::vector<Sampler> ours, theirs;
  std::vector<Sampler*> samplers;
  for (int row = 0; row < rows; ++row) {
    params.push_back(any_params(random, vocab));
    if (rows > 1 && random.one_in(4)) params.back().temperature = 0;
    ours.emplace_back(params.back());
    theirs.emplace_back(params.back());
  }
  for (Sampler& sampler : ours) samplers.push_back(&sampler);
  const Array scores = mx::astype(logits, Type::f32), logprobs = scores - mx::logsumexp(scores, -1, true);
  const std::vector<double> probabilities = read(logprobs);
  // The random state moves on alike.
  for (int n = 0; n < 3; ++n) {
    const Sampled got = sample(logits, samplers);
    mx::eval({got.tokens, got.logprobs});
    CHECK_EQ(got.tokens.size(), static_cast<size_t>(rows));
    for (int row = 0; row < rows; ++row) {
      const auto at = static_cast<size_t>(row);
      const Array want = theirs[at](mx::slice(logprobs, 0, row, row + 1));
      mx::eval({want});
      const uint32_t token = got.tokens.u32()[at];
      test::record(token == want.u32()[0], __FILE__, __LINE__,
                   std::to_string(token) + " is not " + std::to_string(want.u32()[0]) + " of " + std::to_string(vocab) +
                       ", " + text_of(params[at]));
      if (token >= static_cast<uint32_t>(vocab)) continue;
      CHECK_EQ(got.logprobs.f32()[at], static_cast<float>(probabilities[at * static_cast<size_t>(vocab) + token]));
    }
  }
}

}  // namespace

TEST("exponentials are MLX's") {
  claim_thread();
  Random random{41};
  std::vector<float> x(1 << 16);
  for (int n = 0; n < trials(20); ++n) {
    for (float& v : x) {
      v = n == 0 ? std::bit_cast<float>(static_cast<uint32_t>(random.next()))
                 : static_cast<float>(uniform(random, -95, 95));
    }
    x[7] = std::numeric_limits<float>::infinity();
    x[8] = -x[7];
    x[9] = 0;
    const Array want = mx::exp(mx::from_floats(x, {static_cast<int>(x.size())}));
    mx::eval({want});
    std::vector<float> got(x.size());
    kernels::routines().exponentials(x.data(), 0, got.data(), static_cast<int64_t>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const float right = want.f32()[i];
      if (got[i] == right || (std::isnan(got[i]) && std::isnan(right))) continue;
      std::ostringstream text;
      text << "exp of " << x[i] << ": " << got[i] << " is not " << right;
      return test::record(false, __FILE__, __LINE__, text.str());
    }
  }
  test::record(true, __FILE__, __LINE__, "exponentials");
}

TEST("tokens are those of MLX's operations") {
  claim_thread();
  Random random{42};
  for (int n = 0; n < trials(1200); ++n) {
    const int vocab = 1 + static_cast<int>(random.below(random.one_in(3) ? 20 : 5000));
    draw(random, random.one_in(4) ? 1 + static_cast<int>(random.below(4)) : 1, vocab);
  }
}

TEST("tokens of a large vocabulary are those of MLX's operations") {
  claim_thread();
  Random random{43};
  for (int n = 0; n < trials(20); ++n) draw(random, 1, 151936);
}

TEST("scores that are no numbers give no log-probability") {
  claim_thread();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float one : {infinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> scores(1000, 1.0f);
    scores[500] = one;
    Sampler sampler({.temperature = 1, .top_p = 0.9f, .top_k = 20, .min_p = 0.1f, .seed = 1});
    const Sampled got = sample(mx::from_floats(scores, {1, 1000}), {&sampler});
    mx::eval({got.tokens, got.logprobs});
    CHECK(got.tokens.u32()[0] < 1000);
    CHECK(!std::isfinite(got.logprobs.f32()[0]));
  }
}

TEST("a temperature next to nothing is left to MLX's operations") {
  claim_thread();
  Sampler one({.temperature = 1, .seed = 5}), tiny({.temperature = 1e-35f, .seed = 5}),
      again({.temperature = 1, .seed = 5});
  const Array scores = mx::from_floats(std::vector<float>{1, 5, 2, 1, 5, 2}, {2, 3});
  const Sampled got = sample(scores, {&one, &tiny}), alone = sample(mx::slice(scores, 0, 0, 1), {&again});
  mx::eval({got.tokens, got.logprobs, alone.tokens});
  CHECK_EQ(got.tokens.u32()[0], alone.tokens.u32()[0]);
}
