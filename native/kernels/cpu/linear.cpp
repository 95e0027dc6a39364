// Products with dense or packed weights. The wheel's BLAS is the reference one, about 1 GFLOP/s; the stock kernel for
// packed weights unpacks one number at a time and, in bfloat16, adds in bfloat16.
//
// Of few rows, as in decoding, a product is over before a primitive of its own for what surrounds it would be: so the
// norm before it, the gate or the sum after it, and other products of the same rows are part of one primitive. Numbers
// are rounded where the separate operations round them.

#include <algorithm>
#include <cstring>

#include "kernels/cpu/pending.h"
#include "kernels/cpu/product.h"
#include "kernels/kernels.h"

namespace mlxk::kernels {
namespace {

struct Recipe {
  std::vector<PackedFormat> formats;  // of the matrices
  std::optional<float> norm{};        // epsilon of the norm that x passes first
  bool norm_weight = false;
  enum class Finish { none, gate, sum } finish = Finish::none;
  Activation activation{};  // with gate, of two matrices

  size_t results() const { return finish == Finish::none ? formats.size() : 1; }
};

// Reads rows of x, through the norm where there is one.
class Reader {
 public:
  Reader(const Recipe& recipe, const array& x, const array* weight) : type_(*type_of(x)), rows_(x), eps_(recipe.norm) {
    if (weight) weight_.emplace(*weight);
  }
  // Called once when the data is there.
  void begin() {
    if (!eps_) return;
    normed_.resize(static_cast<size_t>(rows_.width * size_of(type_)));
    if (!weight_) return;
    weights_.resize(static_cast<size_t>(rows_.width));
    weight_->widen(type_, 0, weights_.data(), buffer_);
  }
  void operator()(size_t row, float* to) {  // one thread at a time where there is a norm
    if (!eps_) {
      std::vector<uint8_t> buffer;
      return rows_.widen(type_, row, to, buffer);
    }
    routines().rms_norm(type_, rows_.read(row, buffer_), weight_ ? weights_.data() : nullptr, *eps_, rows_.width,
                        normed_.data());
    routines().widen(type_, normed_.data(), to, rows_.width);
  }
  size_t count() const { return rows_.count; }

 private:
  Type type_;
  Rows rows_;
  std::optional<float> eps_;
  std::optional<Rows> weight_;
  std::vector<float> weights_;
  std::vector<uint8_t> normed_, buffer_;
};

// inputs: x; the norm's weight; w, then scales and biases where the format has them, of every matrix; the addend.
class Linear final : public CpuPrimitives {
 public:
  Linear(mlx::core::Stream stream, Recipe r) : CpuPrimitives(stream, "mlxk::Linear"), recipe(std::move(r)) {}

  const Recipe recipe;

 protected:
  std::function<void()> evaluate(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    const Type type = *type_of(inputs[0]);
    std::vector<MatrixLayout> layouts;
    size_t at = recipe.norm_weight ? 2 : 1;
    for (const PackedFormat& f : recipe.formats) {
      layouts.emplace_back(f.format, f.group, f.bits, inputs, at, inputs[0].shape(-1));
      at += arrays_of(f.format);
    }
    std::vector<Results> results;
    for (array& output : outputs) results.push_back({type, output.data<uint8_t>(), output.shape(-1)});
    const auto addend = recipe.finish == Recipe::Finish::sum ? std::optional<Rows>(inputs.back()) : std::nullopt;
    return [recipe = recipe, type, layouts = std::move(layouts), results = std::move(results), addend,
            reader = Reader(recipe, inputs[0], recipe.norm_weight ? &inputs[1] : nullptr)]() mutable {
      for (MatrixLayout& layout : layouts) layout.read();
      reader.begin();
      const ReadRow read = [&](size_t row, float* to) { reader(row, to); };
      const size_t count = reader.count();
      if (!is_few(count)) {
        for (size_t i = 0; i < layouts.size(); ++i) multiply(layouts[i].matrix(), count, read, results[i], type);
        return;
      }
      std::vector<Product> products;
      for (size_t i = 0; i < layouts.size(); ++i)
        products.push_back({layouts[i].matrix(), results[i % results.size()]});
      const auto finish = finishing(recipe, count, products, addend);
      multiply_together(products, count, read, type, finish);
    };
  }

 private:
  // What is done to outputs of the products once they are there; a gate's first factor goes to memory of this thread.
  static Finish finishing(const Recipe& recipe, size_t count, std::vector<Product>& products,
                          const std::optional<Rows>& addend) {
    const Results y = products.back().y;
    const int64_t item = size_of(y.type), row_bytes = y.row_stride * item;
    if (recipe.finish == Recipe::Finish::gate) {
      static thread_local Scratch memory;
      uint8_t* const gates = memory.bytes(static_cast<int64_t>(count) * row_bytes);
      products.front().y.data = gates;
      return [=, activation = recipe.activation](size_t first, size_t last) {
        for (int64_t at = static_cast<int64_t>(first) * item, row = 0; row < static_cast<int64_t>(count); ++row) {
          uint8_t* const up = y.data + row * row_bytes + at;
          routines().gate(y.type, activation, gates + row * row_bytes + at, up, up, static_cast<int64_t>(last - first));
        }
      };
    }
    if (recipe.finish == Recipe::Finish::sum) {
      return [=, &addend](size_t first, size_t last) {
        std::vector<uint8_t> buffer;
        for (size_t row = 0; row < count; ++row) {
          const int64_t at = static_cast<int64_t>(first) * item;
          uint8_t* const to = y.data + static_cast<int64_t>(row) * row_bytes + at;
          routines().add(y.type, addend->read(row % addend->count, buffer) + at, to, to,
                         static_cast<int64_t>(last - first));
        }
      };
    }
    return nullptr;
  }
};

// The format of a matrix for rows of x, or nothing.
std::optional<PackedFormat> format_of(const array& x, const MatrixHandles& m) {
  const array& w = unwrap(m.w);
  if (w.ndim() != 2 || w.size() == 0) return std::nullopt;
  if (m.scales) {
    return packed_format(m.mode, m.group_size, m.bits, x, w, unwrap(m.scales), m.biases ? &unwrap(m.biases) : nullptr);
  }
  if (!fits_dense(x, w) || w.shape(1) != x.shape(-1)) return std::nullopt;
  return PackedFormat{Format::dense, 0, 0};
}

mlx::core::Shape with_last(const array& x, int last) {
  mlx::core::Shape shape = x.shape();
  shape.back() = last;
  return shape;
}

bool has_few_rows(const array& a) { return is_few(a.size() / static_cast<size_t>(a.shape(-1))); }

// The product of one matrix that will compute `a`, if it is of few rows and nothing follows it.
Linear* plain_product(const array& a) {
  auto* product = pending<Linear>(a);
  if (product == nullptr || !has_few_rows(a) || product->recipe.formats.size() != 1) return nullptr;
  return product->recipe.finish == Recipe::Finish::none ? product : nullptr;
}

array continued(const array& a, Linear& product, Recipe recipe, std::vector<array> inputs) {
  return {a.shape(), a.dtype(), std::make_shared<Linear>(product.stream(), std::move(recipe)), std::move(inputs)};
}

}  // namespace

std::vector<void*> linears(const void* x, std::span<const MatrixHandles> matrices, const void* stream) {
  if (!wanted_on(stream) || matrices.empty()) return {};
  const array& a = unwrap(x);
  Recipe recipe;
  for (const MatrixHandles& m : matrices) {
    const auto format = format_of(a, m);
    if (!format) return {};
    recipe.formats.push_back(*format);
  }
  std::vector<array> inputs{a};
  if (const auto norm = pending_norm(a); norm && has_few_rows(a)) {
    inputs = {norm->x};
    recipe.norm = norm->eps;
    recipe.norm_weight = norm->weight.has_value();
    if (norm->weight) inputs.push_back(*norm->weight);
  }
  std::vector<mlx::core::Shape> shapes;
  for (const MatrixHandles& m : matrices) {
    for (const void* part : {m.w, m.scales, m.biases}) {
      if (part != nullptr) inputs.push_back(unwrap(part));
    }
    shapes.push_back(with_last(a, unwrap(m.w).shape(0)));
  }
  const std::vector<mlx::core::Dtype> types(shapes.size(), a.dtype());
  const auto made = array::make_arrays(std::move(shapes), types,
                                       std::make_shared<Linear>(stream_of(stream), std::move(recipe)), inputs);
  std::vector<void*> handles;
  for (const array& y : made) handles.push_back(new array(y));
  return handles;
}

void* gated_products(Activation activation, const array& gate, const array& up) {
  Linear *first = plain_product(gate), *second = plain_product(up);
  if (first == nullptr || second == nullptr || gate.id() == up.id()) return nullptr;
  const Recipe &of_gate = first->recipe, &of_up = second->recipe;
  if (of_gate.norm != of_up.norm || of_gate.norm_weight != of_up.norm_weight) return nullptr;
  const size_t rows = of_gate.norm_weight ? 2 : 1;  // inputs before the matrices
  for (size_t i = 0; i < rows; ++i) {
    if (gate.inputs()[i].id() != up.inputs()[i].id()) return nullptr;
  }
  Recipe recipe = of_gate;
  recipe.formats.push_back(of_up.formats.front());
  recipe.finish = Recipe::Finish::gate;
  recipe.activation = activation;
  std::vector<array> inputs = gate.inputs();
  inputs.insert(inputs.end(), up.inputs().begin() + static_cast<int64_t>(rows), up.inputs().end());
  return new array(continued(up, *second, std::move(recipe), std::move(inputs)));
}

void* product_sum(const array& a, const array& b) {
  Linear* product = plain_product(b);
  if (product == nullptr) return nullptr;
  const bool vector = a.ndim() == 1 && a.shape(0) == b.shape(-1);
  if (a.dtype() != b.dtype() || a.id() == b.id() || !(vector || a.shape() == b.shape())) return nullptr;
  Recipe recipe = product->recipe;
  recipe.finish = Recipe::Finish::sum;
  std::vector<array> inputs = b.inputs();
  inputs.push_back(a);
  return new array(continued(b, *product, std::move(recipe), std::move(inputs)));
}

}  // namespace mlxk::kernels
