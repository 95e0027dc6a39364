// Products of rows with the matrices that indices pick for them, as a mixture of experts needs: rows of one expert are
// multiplied together, so that its matrix is unpacked once.
//
// In decoding the few positions pick experts of their own, whose products are small: the gate of two of them, and the
// sum of a position's experts by their weights, are part of one primitive and run in one region of the pool, all
// experts together. Numbers are rounded where the separate operations round them.

#include "kernels/cpu/expert_products.h"
#include "kernels/cpu/pending.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

// The batch of x that each index is for: the batch axes of x broadcast to the shape of the indices.
std::vector<size_t> sources_of(const array& x, const array& indices) {
  const mlx::core::Shape& shape = indices.shape();
  std::vector<size_t> steps(shape.size(), 0), sources(indices.size());
  for (size_t step = 1, i = 0; i + 2 < x.ndim(); ++i) {
    const int size = x.shape(-3 - static_cast<int>(i));
    if (size != 1) steps[shape.size() - 1 - i] = step;
    step *= static_cast<size_t>(size);
  }
  for (size_t at = 0; at < sources.size(); ++at) {
    size_t rest = at;
    for (size_t axis = shape.size(); axis-- > 0; rest /= static_cast<size_t>(shape[axis])) {
      sources[at] += rest % static_cast<size_t>(shape[axis]) * steps[axis];
    }
  }
  return sources;
}

// inputs: x; the indices; w, scales and biases where the format has them, and the bias, of every projection; the
// weights.
class GatherLinear final : public CpuPrimitive {
 public:
  GatherLinear(mlx::core::Stream stream, ExpertsRecipe r)
      : CpuPrimitive(stream, "mlxk::GatherLinear"), recipe(std::move(r)) {}

  const ExpertsRecipe recipe;

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, array& output) override {
    const array &x = inputs[0], &indices = inputs[1];
    const Type type = *type_of(output);
    ExpertsWork work{.recipe = recipe,
                     .type = type,
                     .rows = Rows(x),
                     .per_item = static_cast<size_t>(x.shape(-2)),
                     .sources = sources_of(x, indices),
                     .indices = Packed(indices),
                     .experts = static_cast<uint32_t>(inputs[2].shape(0)),
                     .projections = {},
                     .y = {type, output.data<uint8_t>(), output.shape(-1)}};
    size_t at = 2;
    for (const PackedFormat& f : recipe.formats) {
      work.projections.push_back({MatrixLayout(f.format, f.group, f.bits, inputs, at, x.shape(-1))});
      at += arrays_of(f.format);
      if (!recipe.bias) continue;
      work.projections.back().bias_type = *type_of(inputs[at]);
      work.projections.back().bias.emplace(inputs[at++]);
    }
    if (recipe.finish == ExpertsRecipe::Finish::sum) {
      work.weight_type = *type_of(inputs[at]);
      work.weights.emplace(inputs[at]);
    }
    return work;
  }
};

// Whether the batch axes of x broadcast to the shape of the indices.
bool fits(const array& x, const array& indices) {
  if (x.ndim() < 2 || x.ndim() - 2 > indices.ndim()) return false;
  for (size_t i = 0; i + 2 < x.ndim(); ++i) {
    const int size = x.shape(-3 - static_cast<int>(i));
    if (size != 1 && size != indices.shape(-1 - static_cast<int>(i))) return false;
  }
  return true;
}

// `parts`: w, then scales and biases where there are any.
void* make_gather(const array& x, std::vector<array> parts, const void* bias, const void* indices,
                  const PackedFormat& format, const void* stream) {
  const array w = parts[0], picked = unwrap(indices);
  if (w.ndim() != 3 || picked.dtype() != mlx::core::uint32 || picked.size() == 0 || !fits(x, picked)) return nullptr;
  if (bias != nullptr) {
    const array& b = unwrap(bias);
    // One of another type would change that of the sum.
    const bool typed = b.dtype() == x.dtype() || x.dtype() == mlx::core::float32;
    if (!has_kernel(b) || !typed || b.shape() != mlx::core::Shape{w.shape(0), w.shape(1)}) return nullptr;
    parts.push_back(b);
  }
  mlx::core::Shape shape = picked.shape();
  shape.push_back(x.shape(-2));
  shape.push_back(w.shape(1));
  std::vector<array> inputs{x, picked};
  inputs.insert(inputs.end(), parts.begin(), parts.end());
  return make<GatherLinear>(std::move(shape), x.dtype(), std::move(inputs), stream,
                            ExpertsRecipe{.formats = {format}, .bias = bias != nullptr});
}

// The product that will compute `a`, if it is of few positions and nothing follows it.
GatherLinear* plain_gather(const array& a) {
  auto* product = pending<GatherLinear>(a);
  if (product == nullptr || product->recipe.finish != ExpertsRecipe::Finish::none) return nullptr;
  const array& indices = a.inputs()[1];
  return indices.ndim() > 0 && is_few(indices.size() / static_cast<size_t>(indices.shape(-1))) ? product : nullptr;
}

}  // namespace

void* gather_linear(const void* x, const void* w, const void* bias, const void* indices, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(w);
  if (!fits_dense(a, b) || b.ndim() != 3 || b.shape(2) != a.shape(-1) || b.size() == 0) return nullptr;
  return make_gather(a, {b}, bias, indices, {Format::dense, 0, 0}, stream);
}

void* gather_quantized_linear(const void* x, const MatrixHandles& m, const void* bias, const void* indices,
                              const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(x), &b = unwrap(m.w), &s = unwrap(m.scales);
  const array* c = m.biases ? &unwrap(m.biases) : nullptr;
  const auto format = packed_format(m.mode, m.group_size, m.bits, a, b, s, c);
  if (!format) return nullptr;
  std::vector<array> parts{b, s};
  if (c) parts.push_back(*c);
  return make_gather(a, std::move(parts), bias, indices, *format, stream);
}

void* gated_gathers(Activation activation, const array& gate, const array& up) {
  GatherLinear *first = plain_gather(gate), *second = plain_gather(up);
  if (first == nullptr || second == nullptr || gate.id() == up.id() || gate.shape() != up.shape()) return nullptr;
  const std::vector<array>&of_gate = gate.inputs(), &of_up = up.inputs();
  const bool same_rows = of_gate[0].id() == of_up[0].id() && of_gate[1].id() == of_up[1].id();
  if (!same_rows || first->recipe.bias != second->recipe.bias) return nullptr;
  if (of_gate[2].shape(0) != of_up[2].shape(0)) return nullptr;
  ExpertsRecipe recipe = first->recipe;
  recipe.formats.push_back(second->recipe.formats.front());
  recipe.finish = ExpertsRecipe::Finish::gate;
  recipe.activation = activation;
  std::vector<array> inputs = of_gate;
  inputs.insert(inputs.end(), of_up.begin() + 2, of_up.end());
  return new array(up.shape(), up.dtype(), std::make_shared<GatherLinear>(second->stream(), std::move(recipe)),
                   std::move(inputs));
}

void* weighted_sum(const void* y, const void* weights, const void* stream) {
  if (!wanted_on(stream)) return nullptr;
  const array &a = unwrap(y), &w = unwrap(weights);
  GatherLinear* product = plain_gather(a);
  if (product == nullptr || !has_kernel(w) || a.shape(-2) != 1 || w.shape() != a.inputs()[1].shape()) return nullptr;
  ExpertsRecipe recipe = product->recipe;
  recipe.finish = ExpertsRecipe::Finish::sum;
  mlx::core::Shape shape(w.shape().begin(), w.shape().end() - 1);
  shape.push_back(a.shape(-1));
  std::vector<array> inputs = a.inputs();
  inputs.push_back(w);
  return new array(std::move(shape), a.dtype(), std::make_shared<GatherLinear>(product->stream(), std::move(recipe)),
                   std::move(inputs));
}

}  // namespace mlxk::kernels
