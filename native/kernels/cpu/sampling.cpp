// A token drawn from scores, in one primitive: filters by top_p, min_p and top_k, temperature, and the draw. What MLX's
// own operations draw from the same key, to the bit, where these sort the whole vocabulary.
//
// Formulas: native/sampler.cpp, and of the draw mlx::core::random::categorical 0.32.2 for one row: the cumulative
// weights are searched for a uniform number. Sums are made in the order of its Linux builds, one number after the
// other.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/cpu/ranking.h"
#include "kernels/cpu/scores.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The first word of Threefry-2x32 with 20 rounds of a counter of zeros: Salmon et al., SC 2011.
uint32_t random_bits(uint32_t key0, uint32_t key1) {
  constexpr std::array<std::array<int, 4>, 2> kRotations{{{13, 15, 26, 6}, {17, 29, 16, 24}}};
  const std::array<uint32_t, 3> keys{key0, key1, key0 ^ key1 ^ 0x1BD11BDA};
  uint32_t a = keys[0], b = keys[1];
  for (uint32_t round = 0; round < 5; ++round) {
    for (const int bits : kRotations[round % 2]) {
      a += b;
      b = std::rotl(b, bits) ^ a;
    }
    a += keys[(round + 1) % 3];
    b += keys[(round + 2) % 3] + round + 1;
  }
  return a;
}

// Below 1, as mlx::core::random::uniform.
float uniform(uint32_t bits) { return std::min(static_cast<float>(bits) / 4294967296.0f, std::nextafter(1.0f, 0.0f)); }

// Sums of all numbers before each, in float32 and one after the other, kept for every so many of them.
class RunningSum {
 public:
  explicit RunningSum(std::span<const float> numbers) : numbers_(numbers) {
    for (size_t first = 0; first < numbers.size(); first += kStep) {
      starts_.push_back(total_);
      float sum = total_;
      for (const float number : numbers.subspan(first, std::min(kStep, numbers.size() - first))) sum += number;
      total_ = sum;
    }
  }
  float total() const { return total_; }

  // How many numbers have a sum before them that is below `limit`, or at most `limit`.
  template <class Compare>
  size_t count(Compare reaches) const {
    const auto start = std::partition_point(starts_.begin(), starts_.end(), reaches);
    if (start == starts_.begin()) return 0;
    size_t at = static_cast<size_t>(start - starts_.begin() - 1) * kStep;
    for (float sum = *(start - 1); at < numbers_.size() && reaches(sum); ++at) sum += numbers_[at];
    return at;
  }

 private:
  static constexpr size_t kStep = 512;
  std::span<const float> numbers_;
  std::vector<float> starts_;
  float total_ = 0;
};

// Which tokens are left: those above `least`, and the first `ties` of those equal to it.
struct Kept {
  float least = -kInfinity;
  size_t ties = std::numeric_limits<size_t>::max();
};

// Of the calling thread, kept from one token to the next.
struct Memory {
  Scratch scores, weights, values, ids;
  Ranking ranking;
};

class Draw {
 public:
  // x: log-probabilities, none of them NaN; `largest` is finite.
  Draw(std::span<const float> x, float largest, const SamplingFilters& f, Memory& memory)
      : x_(x), largest_(largest), f_(f), memory_(memory) {}

  uint32_t token(uint32_t bits) {
    filter();
    gather();
    const RunningSum sums(weights(values_, largest_ * (1 / f_.temperature)));
    const float drawn = uniform(bits) * sums.total();
    const size_t at = sums.count([&](float before) { return before <= drawn; }) - 1;
    return ids_ ? ids_[at] : static_cast<uint32_t>(at);
  }

 private:
  void filter() {
    const bool nucleus = f_.top_p > 0 && f_.top_p < 1;
    std::span<const float> ranked;
    if (nucleus) {
      const auto [most, sums] = weighty();
      ranked = most;
      const float limit = f_.top_p * sums.total();
      const size_t count = sums.count([&](float before) { return before < limit; });
      kept_.least = ranked[std::max<size_t>(count, 1) - 1];
    }
    if (f_.min_p > 0) kept_.least = std::max(kept_.least, largest_ + std::log(f_.min_p));
    const auto k = static_cast<size_t>(f_.top_k);
    if (k == 0 || k >= x_.size()) return;
    if (!nucleus) {
      ranked = memory_.ranking.descending(x_, largest_, std::max(kept_.least, bound_of_largest(x_, k)));
    }
    if (ranked.size() < k || ranked[k - 1] < kept_.least) return;
    kept_.least = ranked[k - 1];
    kept_.ties =
        k - static_cast<size_t>(std::ranges::lower_bound(ranked, kept_.least, std::greater()) - ranked.begin());
  }

  // The largest ones in order, and their probabilities: all that change the sum of all. A term below half a unit of the
  // sum's last place leaves it as it is, and so do the smaller ones after it.
  std::pair<std::span<const float>, RunningSum> weighty() {
    // Probabilities have a sum of 1; only where rounding put them far from it does the first bound not do.
    for (const float bound : {-17.5f, largest_ - 17.5f}) {
      const auto ranked = memory_.ranking.descending(x_, largest_, bound);
      RunningSum sums(weights(ranked, 0));
      if (std::exp(bound) * 1.01f < sums.total() * 0x1p-25f) return {ranked, std::move(sums)};
    }
    const auto ranked = memory_.ranking.descending(x_, largest_, -kInfinity);
    return {ranked, RunningSum(weights(ranked, 0))};
  }

  std::span<const float> weights(std::span<const float> x, float most) {
    float* const w = memory_.weights.floats(static_cast<int64_t>(x.size()));
    routines().exponentials(x.data(), most, w, static_cast<int64_t>(x.size()));
    return {w, x.size()};
  }

  // What is kept, tempered, and where it stands; all of it stands in order where nothing is dropped.
  void gather() {
    const float scale = 1 / f_.temperature;
    float* const values = memory_.values.floats(static_cast<int64_t>(x_.size()));
    values_ = {values, x_.size()};
    if (kept_.least == -kInfinity && kept_.ties >= x_.size()) {
      for (size_t i = 0; i < x_.size(); ++i) values[i] = x_[i] * scale;
      return;
    }
    ids_ = reinterpret_cast<uint32_t*>(memory_.ids.bytes(static_cast<int64_t>(4 * x_.size())));
    size_t count = 0;
    for (size_t i = 0; i < x_.size(); ++i) {  // without a branch: which ones are kept is hard to foresee
      values[count] = x_[i];
      ids_[count] = static_cast<uint32_t>(i);
      count += x_[i] >= kept_.least ? 1 : 0;
    }
    size_t left = 0, ties = kept_.ties;
    for (size_t i = 0; i < count; ++i) {
      if (values[i] == kept_.least && ties-- == 0) {
        ties = 0;
        continue;
      }
      values[left] = values[i] * scale;
      ids_[left++] = ids_[i];
    }
    values_ = values_.first(left);
  }

  std::span<const float> x_;
  float largest_;
  SamplingFilters f_;
  Memory& memory_;
  Kept kept_;
  std::span<const float> values_;
  uint32_t* ids_ = nullptr;  // null where all tokens are kept
};

// inputs: scores [1, V], key [2]. outputs: the token [1] and its log-probability [1].
class Sample final : public CpuPrimitives {
 public:
  Sample(mlx::core::Stream stream, const SamplingFilters& filters)
      : CpuPrimitives(stream, "mlxk::Sample"), filters_(filters) {}

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    return [filters = filters_, type = *type_of(inputs[0]), row = Rows(inputs[0]), key = Packed(inputs[1]),
            token = outputs[0].data<uint32_t>(), logprob = outputs[1].data<float>()] {
      std::vector<uint8_t> buffer;
      static thread_local Memory memory;
      const std::span<float> x(memory.scores.floats(row.width), static_cast<size_t>(row.width));
      row.widen(type, 0, x.data(), buffer);
      const Summary summary = summary_of(Type::f32, reinterpret_cast<const uint8_t*>(x.data()), x.size());
      const float total = summary.log_sum();
      for (float& score : x) score -= total;
      *token = 0;
      if (std::isfinite(total)) {
        const auto* words = reinterpret_cast<const uint32_t*>(key.read(buffer));
        *token = Draw(x, summary.largest - total, filters, memory).token(random_bits(words[0], words[1]));
      }
      *logprob = x[*token];
    };
  }

 private:
  SamplingFilters filters_;
};

}  // namespace

std::pair<void*, void*> sample(const void* scores, const void* key, const SamplingFilters& filters,
                               const void* stream) {
  if (!wanted_on(stream)) return {};
  const array &a = unwrap(scores), &k = unwrap(key);
  const bool fits = has_kernel(a) && a.ndim() == 2 && a.shape(0) == 1 && k.dtype() == mlx::core::uint32 &&
                    k.shape() == mlx::core::Shape{2};
  // A temperature that makes 1 / temperature times a log-probability infinite leaves nothing to choose by.
  if (!fits || filters.temperature < 1e-30f) return {};
  const auto made = array::make_arrays({{1}, {1}}, {mlx::core::uint32, mlx::core::float32},
                                       std::make_shared<Sample>(stream_of(stream), filters), {a, k});
  return {new array(made[0]), new array(made[1])};
}

}  // namespace mlxk::kernels
