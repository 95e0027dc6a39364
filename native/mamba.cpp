// See mamba.h.

#include "mamba.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace mlxk {
namespace {

Array silu(const Array& x) { return x * mx::sigmoid(x); }

Array negative_exp(const Array& a_log) { return -mx::exp(mx::astype(a_log, mx::Type::f32)); }

}  // namespace

TimeStepLimit TimeStepLimit::read(const ConfigReader& c, TimeStepLimit fallback) {
  const Json* pair = c.find("time_step_limit");
  if (!pair) return fallback;
  const auto bound = [&](size_t index) {
    const Json& value = pair->as_array()[index];
    // As transformers 5 spells what JSON has no number for.
    const Json* spelt = value.is_object() ? value.as_object().find("__float__") : nullptr;
    if (spelt && spelt->is_string() && spelt->as_string() == "Infinity") return std::numeric_limits<float>::infinity();
    if (!value.is_number()) return std::nanf("");
    const double number = value.as_double();
    return number > std::numeric_limits<float>::max() ? std::numeric_limits<float>::infinity()
                                                      : static_cast<float>(std::max(number, -1.0));
  };
  c.require(pair->is_array() && pair->as_array().size() == 2, "time_step_limit", "must be a pair of numbers");
  const TimeStepLimit limit{bound(0), bound(1)};
  c.require(limit.low >= 0 && limit.low <= limit.high, "time_step_limit", "must be two numbers, ascending from 0 on");
  return limit;
}

void Mamba2Shape::check(const ConfigReader& c, const Fields& f) const {
  c.require(heads % groups == 0, f.groups, "must divide " + std::string(f.heads));
  heads_width(heads, head_dim, (std::string(f.heads) + " * " + f.head_dim).c_str());
  heads_width(groups, state_size, (std::string(f.groups) + " * " + f.state_size).c_str());
}

Mamba2Mixer::Mamba2Mixer(const Weights& w, const Mamba2Shape& s)
    : shape_(s),
      in_proj_(w["in_proj"], s.hidden_size, s.inner() + s.convolved() + s.heads, s.bias),
      conv1d_(w["conv1d"], s.convolved(), s.kernel, s.conv_bias),
      a_(negative_exp(w.take("A_log", {s.heads}))),
      d_(w.take("D", {s.heads})),
      dt_bias_(w.take("dt_bias", {s.heads})),
      out_proj_(w["out_proj"], s.inner(), s.hidden_size, s.out_bias) {
  if (s.norm == Mamba2Shape::Norm::none) return;
  norm_.emplace(w["norm"], s.inner(), s.norm_eps, s.norm == Mamba2Shape::Norm::by_group ? s.groups : 1);
}

Array Mamba2Mixer::gated(const Array& y, const Array& gate) const {
  if (!norm_) return mx::swiglu(gate, y);
  return shape_.norm_before_gate ? mx::swiglu(gate, (*norm_)(y)) : (*norm_)(mx::swiglu(gate, y));
}

Array Mamba2Mixer::operator()(const Array& x, const LayerCache& cache) const {
  const Mamba2Shape& s = shape_;
  const int batch = x.dim(0), length = x.dim(1), inner = s.inner(), grouped = s.groups * s.state_size;
  const int projected_at[] = {inner, inner + s.convolved()}, convolved_at[] = {inner, inner + grouped};
  const auto projected = mx::split_at(in_proj_(x), projected_at, -1);  // gate, channels, time steps
  const auto parts = mx::split_at(silu(conv1d_(projected[1], cache, 0)), convolved_at, -1);

  const Array input = mx::reshape(parts[0], {batch, length, s.heads, s.head_dim});
  const Array b = mx::reshape(parts[1], {batch, length, s.groups, s.state_size});
  const Array c = mx::reshape(parts[2], {batch, length, s.groups, s.state_size});
  const Array dt = time_steps(projected[2], dt_bias_, s.limit.low, s.limit.high);
  const Array before = recall(cache, 1, {s.heads, s.head_dim, s.state_size}, mx::Type::f32);
  const auto [y, state] = state_space(input, a_, b, c, d_, dt, before);
  remember(cache, 1, state);
  return out_proj_(gated(mx::reshape(y, {batch, length, inner}), projected[0]));
}

MambaMixer::MambaMixer(const Weights& w, const MambaShape& s)
    : shape_(s),
      in_proj_(w["in_proj"], s.hidden_size, 2 * s.inner, s.bias),
      conv1d_(w["conv1d"], s.inner, s.kernel, s.conv_bias),
      x_proj_(w["x_proj"], s.inner, s.time_step_rank + 2 * s.state_size),
      dt_proj_(w["dt_proj"], s.time_step_rank, s.inner, true),
      a_(negative_exp(w.take("A_log", {s.inner, s.state_size}))),
      d_(w.take("D", {s.inner})),
      out_proj_(w["out_proj"], s.inner, s.hidden_size, s.bias) {
  if (s.norm != MambaShape::Norm::learnt) return;
  dt_norm_ = w["dt_layernorm"].take("weight", {s.time_step_rank});
  b_norm_ = w["b_layernorm"].take("weight", {s.state_size});
  c_norm_ = w["c_layernorm"].take("weight", {s.state_size});
}

Array MambaMixer::operator()(const Array& x, const LayerCache& cache) const {
  const MambaShape& s = shape_;
  const auto projected = mx::split(in_proj_(x), 2, -1);
  const Array input = silu(conv1d_(projected[0], cache, 0));
  const int at[] = {s.time_step_rank, s.time_step_rank + s.state_size};
  const auto parts = mx::split_at(x_proj_(input), at, -1);
  const auto normed = [&](const Array& part, const Array& weight) {
    return s.norm == MambaShape::Norm::none ? part : mx::rms_norm(part, weight, s.norm_eps);
  };
  const Array dt = mx::softplus(dt_proj_(normed(parts[0], dt_norm_)));
  const Array b = normed(parts[1], b_norm_), c = normed(parts[2], c_norm_);
  const Array before = recall(cache, 1, {s.inner, s.state_size}, mx::Type::f32);
  const auto [y, state] = selective_scan(input, a_, b, c, d_, dt, before);
  remember(cache, 1, state);
  return out_proj_(mx::swiglu(projected[1], y));
}

int read_time_step_rank(const ConfigReader& c, const char* field, int hidden_size) {
  const Json* value = c.find(field);
  if (!value || (value->is_string() && value->as_string() == "auto")) return (hidden_size + 15) / 16;
  return c.dim(field);
}

}  // namespace mlxk
