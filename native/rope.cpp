// See rope.h.

#include "rope.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace mlxk {
namespace {

// Wavelengths over 2 pi: base^(2i / dims), which the op inverts.
std::vector<float> wavelengths(int dims, float base) {
  std::vector<float> lambda;
  for (int i = 0; i < dims; i += 2) lambda.push_back(std::pow(base, static_cast<float>(i) / static_cast<float>(dims)));
  return lambda;
}

// Llama 3.1: long waves are slowed by `factor`, short ones kept, those between blended.
std::vector<float> llama3(const ConfigReader& scaling, int dims, float base) {
  const float factor = scaling.positive("factor");
  const float low = scaling.positive("low_freq_factor", 1.0f);
  const float high = scaling.positive("high_freq_factor", 4.0f);
  const float original = scaling.positive("original_max_position_embeddings", 8192.0f);
  scaling.require(high > low, "high_freq_factor", "must be larger than low_freq_factor");
  std::vector<float> lambda = wavelengths(dims, base);
  for (float& l : lambda) {
    const float wave = 2 * std::numbers::pi_v<float> * l;
    if (wave > original / low) {
      l *= factor;
    } else if (wave > original / high) {
      const float smooth = (original / wave - low) / (high - low);
      l /= (1 - smooth) / factor + smooth;
    }
  }
  return lambda;
}

float yarn_magnitude(float factor, float mscale) {
  return factor <= 1 ? 1.0f : 0.1f * mscale * std::log(factor) + 1.0f;
}

// YaRN (arXiv 2309.00071): interpolated and plain wavelengths, blended over a ramp of dimensions.
std::vector<float> yarn(const ConfigReader& scaling, int dims, float base) {
  const float factor = scaling.positive("factor");
  const double original = scaling.positive("original_max_position_embeddings", 4096.0f);
  const auto dimension = [&](double rotations) {
    return dims * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(static_cast<double>(base)));
  };
  const double low = std::max(std::floor(dimension(scaling.positive("beta_fast", 32.0f))), 0.0);
  double high = std::min(std::ceil(dimension(scaling.positive("beta_slow", 1.0f))), dims - 1.0);
  if (low == high) high += 0.001;
  std::vector<float> lambda = wavelengths(dims, base);
  for (size_t i = 0; i < lambda.size(); ++i) {
    const auto ramp = static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    const float keep = 1 - ramp, stretched = factor * lambda[i];
    lambda[i] = stretched * lambda[i] / (stretched * keep + lambda[i] * (1 - keep));
  }
  return lambda;
}

// Gemma 4: the waves of the whole head, of which the longer ones stand still.
std::vector<float> proportional(const ConfigReader& scaling, int dims, float base) {
  const float factor = scaling.positive("factor", 1.0f), share = scaling.positive("partial_rotary_factor", 1.0f);
  scaling.require(share <= 1, "partial_rotary_factor", "must be at most 1");
  std::vector<float> lambda = wavelengths(dims, base);
  const auto rotated = static_cast<size_t>(static_cast<float>(dims) * share + 1) / 2;
  for (size_t i = 0; i < lambda.size(); ++i) {
    lambda[i] = i < rotated ? factor * lambda[i] : std::numeric_limits<float>::infinity();
  }
  return lambda;
}

// LongRoPE (arXiv 2402.13753) as mlx-lm takes it: the factors for long contexts at every length.
std::vector<float> longrope(const ConfigReader& scaling, int dims, float base) {
  std::vector<float> lambda = wavelengths(dims, base);
  if (!scaling.has("long_factor")) return lambda;
  const std::vector<float> factors = scaling.floats("long_factor");
  scaling.require(factors.size() == lambda.size(), "long_factor", "must have one factor for each rotated pair");
  for (size_t i = 0; i < lambda.size(); ++i) {
    scaling.require(factors[i] > 0, "long_factor", "must hold positive factors");
    lambda[i] *= factors[i];
  }
  return lambda;
}

// What LongRoPE multiplies the rotated part by, from the lengths before and after stretching.
float longrope_magnitude(const ConfigReader& config, const ConfigReader& scaling) {
  constexpr const char* kOriginal = "original_max_position_embeddings";
  const ConfigReader& from = config.has(kOriginal) ? config : scaling;
  const float original = from.positive(kOriginal, 4096.0f);
  from.require(original > 1, "original_max_position_embeddings", "must be above 1");
  const float stretch = config.positive("max_position_embeddings", 131072.0f) / original;
  return stretch <= 1 ? 1.0f : std::sqrt(1 + std::log(stretch) / std::log(original));
}

}  // namespace

Rope::Rope(int dims, float theta, bool traditional) {
  parameters_.dims = dims;
  parameters_.traditional = traditional;
  parameters_.base = theta;
}

Rope::Rope(const ConfigReader& config, int dims, float theta, bool traditional, const char* type) {
  // Newer checkpoints (transformers 5) nest the base and the scaling under rope_parameters.
  const auto nested = config.maybe("rope_parameters");
  const auto scaling = config.has("rope_scaling") ? config.maybe("rope_scaling") : nested;
  const float base =
      nested && nested->has("rope_theta") ? nested->positive("rope_theta") : config.positive("rope_theta", theta);
  scale(config, scaling, dims, base, traditional, type);
}

Rope Rope::of_parameters(const ConfigReader& parameters, int dims, float theta, bool traditional) {
  Rope rope;
  rope.scale(parameters, parameters, dims, parameters.positive("rope_theta", theta), traditional, "default");
  return rope;
}

void Rope::scale(const ConfigReader& config, const std::optional<ConfigReader>& scaling, int dims, float base,
                 bool traditional, const char* default_type) {
  config.require(dims > 0 && dims % 2 == 0, "head_dim", "must be even to be rotated");
  config.require(base > 1, "rope_theta", "must be above 1");

  parameters_.dims = dims;
  parameters_.traditional = traditional;
  const char* type_field = scaling && scaling->has("type") ? "type" : "rope_type";
  const std::string type = scaling ? scaling->text(type_field, default_type) : "default";
  std::vector<float> lambda;
  if (type == "default" || type == "mrope" || type == "dynamic") {
    // The dynamic base differs from the plain one only past max_position_embeddings, which no sequence passes.
    parameters_.base = base;
  } else if (type == "linear") {
    parameters_.base = base;
    parameters_.scale = 1 / scaling->positive("factor");
  } else if (type == "llama3") {
    lambda = llama3(*scaling, dims, base);
  } else if (type == "proportional") {
    lambda = proportional(*scaling, dims, base);
  } else if (type == "yarn" || type == "deepseek_yarn" || type == "telechat3-yarn") {
    lambda = yarn(*scaling, dims, base);
    const float factor = scaling->positive("factor");
    magnitude_ = yarn_magnitude(factor, scaling->number("mscale", 1.0f)) /
                 yarn_magnitude(factor, scaling->number("mscale_all_dim", 0.0f));
  } else if (type == "longrope" || type == "su") {
    lambda = longrope(*scaling, dims, base);
    magnitude_ = scaling->has("long_mscale") ? scaling->positive("long_mscale") : longrope_magnitude(config, *scaling);
  } else {
    scaling->refuse(type_field,
                    "must be one of default, dynamic, linear, llama3, longrope, mrope, proportional, su, yarn, got " +
                        quoted(type));
  }
  if (!lambda.empty()) parameters_.freqs = mx::from_floats(lambda, {static_cast<int>(lambda.size())});
}

float yarn_attention_scale(const ConfigReader& config) {
  const auto scaling = config.maybe(config.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
  if (!scaling) return 1;
  const float mscale = scaling->number("mscale_all_dim", 0.0f);
  const float factor = scaling->positive("factor", 1.0f);
  // transformers 5 states a type in any case; before, DeepSeek's own code asked for none.
  if (!config.has("rope_scaling") && scaling->text("rope_type", scaling->text("type", "default")) == "default")
    return 1;
  if (mscale == 0) return 1;
  const float s = yarn_magnitude(factor, mscale);
  return s * s;
}

Rope Rope::reversed(int dims, float theta) {
  std::vector<float> lambda = wavelengths(dims, theta);
  for (float& l : lambda) l = -l;
  Rope rope;
  rope.parameters_.dims = dims;
  rope.parameters_.freqs = mx::from_floats(lambda, {static_cast<int>(lambda.size())});
  return rope;
}

Rope Rope::ntk_alpha(const ConfigReader& config, int dims, float theta) {
  const float base = config.positive("rope_theta", theta);
  const auto scaling = config.maybe("rope_scaling");
  const float alpha = scaling ? scaling->positive("alpha", 1.0f) : 1.0f;
  config.require(dims > 2 && dims % 2 == 0, "head_dim", "must be even and above 2 to be rotated");
  config.require(base > 1, "rope_theta", "must be above 1");
  const float exponent = static_cast<float>(dims) / static_cast<float>(dims - 2);
  const auto lambda = wavelengths(dims, base * std::pow(alpha, exponent));
  Rope rope;
  rope.parameters_.dims = dims;
  rope.parameters_.freqs = mx::from_floats(lambda, {static_cast<int>(lambda.size())});
  return rope;
}

Array Rope::operator()(const Array& x, const LayerCache& cache) const {
  if (parameters_.dims == 0) return x;
  Array scaled = x;
  if (magnitude_ != 1.0f) {
    std::vector<float> factors(static_cast<size_t>(x.dim(-1)), 1.0f);
    std::fill_n(factors.begin(), parameters_.dims, magnitude_);
    scaled = x * mx::astype(mx::from_floats(factors, {x.dim(-1)}), x.dtype());
  }
  if (const auto offset = cache.batch.common_offset()) return mx::rope(scaled, parameters_, *offset);
  return mx::rope(scaled, parameters_, cache.batch.offsets());
}

}  // namespace mlxk
