// See expert_products.h.

#include "kernels/cpu/expert_products.h"

#include <cstring>
#include <numeric>

namespace mlxk::kernels {
namespace {

constexpr size_t kTogether = 4;  // fewer rows than this are read one by one, on all threads at once

Scratch& result_memory() {
  static thread_local Scratch memory;
  return memory;
}
Scratch& sum_memory() {
  static thread_local Scratch memory;
  return memory;
}

uint8_t* number(const Results& y, size_t row, size_t column) {
  return y.data + (static_cast<int64_t>(row) * y.row_stride + static_cast<int64_t>(column)) * size_of(y.type);
}

// The sum of rows [first_row, first_row + weights.size()) of y by their weights, from output `first` to `last`; the
// products and their sum have the type of both, or else float32.
void add_up(const Results& y, size_t first_row, const std::vector<float>& weights, Type weight_type, size_t first,
            size_t last, uint8_t* to) {
  const Routines& r = routines();
  const auto count = static_cast<int64_t>(last - first);
  const Type type = weight_type == y.type ? y.type : Type::f32;
  float *term = sum_memory().floats(2 * count), *sum = term + count;
  const auto rounded = [&](float* numbers) {
    if (type == Type::f32) return;
    r.narrow(type, numbers, to, count);
    r.widen(type, to, numbers, count);
  };
  for (size_t i = 0; i < weights.size(); ++i) {
    float* const into = i == 0 ? sum : term;
    r.widen(y.type, number(y, first_row + i, first), into, count);
    for (int64_t at = 0; at < count; ++at) into[at] *= weights[i];
    rounded(into);
    if (i == 0) continue;
    r.add(Type::f32, sum, term, sum, count);
    rounded(sum);
  }
  r.narrow(y.type, sum, to, count);
}

}  // namespace

void Projection::add_bias(const Results& y, size_t row, uint32_t expert, size_t first, size_t last) const {
  if (!bias) return;
  const auto count = static_cast<int64_t>(last - first);
  std::vector<uint8_t> buffer;
  const uint8_t* from = bias->read(expert, buffer) + static_cast<int64_t>(first) * size_of(bias_type);
  uint8_t* const to = number(y, row, first);
  if (bias_type != y.type) {
    float* wide = sum_memory().floats(count);
    routines().widen(bias_type, from, wide, count);
    from = reinterpret_cast<const uint8_t*>(wide);
  }
  routines().add(y.type, to, from, to, count);
}

void ExpertsWork::operator()() {
  for (Projection& p : projections) p.layout.read();
  std::vector<uint8_t> buffer;
  picked = reinterpret_cast<const uint32_t*>(indices.read(buffer));
  if (recipe.finish == ExpertsRecipe::Finish::none) return product(projections.front(), y);
  const int64_t outputs = y.row_stride;
  const Results between{type, result_memory().bytes(static_cast<int64_t>(count()) * outputs * size_of(type)), outputs};
  recipe.finish == ExpertsRecipe::Finish::gate ? gate(between) : sum(between);
}

void ExpertsWork::read(size_t row, float* to) const {
  std::vector<uint8_t> buffer;
  rows.widen(type, row, to, buffer);
}

template <class Body>
void ExpertsWork::for_experts(const Body& body) const {
  std::vector<size_t> order(count());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return expert(a) < expert(b); });
  for (size_t first = 0, last; first < order.size(); first = last) {
    for (last = first + 1; last < order.size() && expert(order[last]) == expert(order[first]);) ++last;
    body(std::span<const size_t>(order).subspan(first, last - first));
  }
}

bool ExpertsWork::all_single() const {
  bool all = true;
  for_experts([&](std::span<const size_t> same) { all = all && same.size() < kTogether; });
  return all && std::ranges::all_of(projections, [&](const Projection& p) {
           return alike(p.layout.matrix(), projections.front().layout.matrix());
         });
}

// Rows of x that single products need, each once.
class ExpertsWork::SingleRows {
 public:
  explicit SingleRows(const ExpertsWork& work) : work_(work), slots_(work.rows.count, kNone) {}
  size_t slot(size_t row) {
    size_t& slot = slots_[work_.source(row)];
    if (slot == kNone) {
      slot = rows_.size();
      rows_.push_back(work_.source(row));
    }
    return slot;
  }
  void multiply(const std::vector<RowProduct>& products, size_t bundle, const BundleFinish& finish) const {
    multiply_rows(
        products, bundle, rows_.size(), [&](size_t slot, float* to) { work_.read(rows_[slot], to); }, work_.type,
        finish);
  }

 private:
  static constexpr size_t kNone = ~size_t{0};
  const ExpertsWork& work_;
  std::vector<size_t> slots_, rows_;
};

Product ExpertsWork::single(const Projection& p, const Results& to, size_t row) const {
  return {p.layout.matrix(expert(row)), {to.type, number(to, row, 0), to.row_stride}};
}

void ExpertsWork::product(const Projection& p, const Results& to) const {
  const auto outputs = static_cast<size_t>(to.row_stride);
  SingleRows singles(*this);
  std::vector<RowProduct> products;
  std::vector<size_t> single_rows;
  std::vector<uint8_t> together;
  for_experts([&](std::span<const size_t> same) {
    if (same.size() < kTogether) {
      for (const size_t row : same) {
        products.push_back({single(p, to, row), singles.slot(row)});
        single_rows.push_back(row);
      }
      return;
    }
    together.resize(same.size() * outputs * static_cast<size_t>(size_of(to.type)));
    const Results all{to.type, together.data(), to.row_stride};
    multiply(
        p.layout.matrix(expert(same.front())), same.size(), [&](size_t i, float* x) { read(source(same[i]), x); }, all,
        type);
    for (size_t i = 0; i < same.size(); ++i) {
      p.add_bias(all, i, expert(same[i]), 0, outputs);
      std::memcpy(number(to, same[i], 0), number(all, i, 0), outputs * static_cast<size_t>(size_of(to.type)));
    }
  });
  singles.multiply(products, 1, [&](size_t i, size_t first, size_t last) {
    p.add_bias(to, single_rows[i], expert(single_rows[i]), first, last);
  });
}

void ExpertsWork::gate(const Results& gates) const {
  const auto finish = [&](size_t row, size_t first, size_t last) {
    uint8_t* const up = number(y, row, first);
    routines().gate(type, recipe.activation, number(gates, row, first), up, up, static_cast<int64_t>(last - first));
  };
  const auto outputs = static_cast<size_t>(y.row_stride);
  if (!all_single()) {
    product(projections[0], gates);
    product(projections[1], y);
    for (size_t row = 0; row < count(); ++row) finish(row, 0, outputs);
    return;
  }
  SingleRows singles(*this);
  std::vector<RowProduct> products;
  for (size_t row = 0; row < count(); ++row) {
    products.push_back({single(projections[0], gates, row), singles.slot(row)});
    products.push_back({single(projections[1], y, row), singles.slot(row)});
  }
  singles.multiply(products, 2, [&](size_t row, size_t first, size_t last) {
    projections[0].add_bias(gates, row, expert(row), first, last);
    projections[1].add_bias(y, row, expert(row), first, last);
    finish(row, first, last);
  });
}

void ExpertsWork::sum(const Results& products_of) const {
  const Projection& p = projections.front();
  const auto each = static_cast<size_t>(weights->width), outputs = static_cast<size_t>(y.row_stride);
  std::vector<std::vector<float>> shares(weights->count, std::vector<float>(each));
  std::vector<uint8_t> buffer;
  for (size_t i = 0; i < shares.size(); ++i) weights->widen(weight_type, i, shares[i].data(), buffer);
  const auto finish = [&](size_t i, size_t first, size_t last) {
    add_up(products_of, i * each, shares[i], weight_type, first, last, number(y, i, first));
  };
  if (!all_single()) {
    product(p, products_of);
    for (size_t i = 0; i < shares.size(); ++i) finish(i, 0, outputs);
    return;
  }
  SingleRows singles(*this);
  std::vector<RowProduct> products;
  for (size_t row = 0; row < count(); ++row) products.push_back({single(p, products_of, row), singles.slot(row)});
  singles.multiply(products, each, [&](size_t i, size_t first, size_t last) {
    for (size_t row = i * each; row < (i + 1) * each; ++row) {
      p.add_bias(products_of, row, expert(row), first, last);
    }
    finish(i, first, last);
  });
}

}  // namespace mlxk::kernels
