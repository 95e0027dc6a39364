// Rows times the matrices of the experts that were picked for them, once the data is there: what the primitive of
// gather_linear.cpp does. Knows no graph.

#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

#include "kernels/cpu/product.h"

namespace mlxk::kernels {

struct ExpertsRecipe {
  std::vector<PackedFormat> formats;  // of the matrices of every expert: one, or gate and up
  bool bias = false;                  // each has one
  enum class Finish { none, gate, sum } finish = Finish::none;
  Activation activation{};  // with gate
};

// A matrix of every expert, and its bias.
struct Projection {
  MatrixLayout layout;
  Type bias_type{};
  std::optional<Rows> bias{};

  // y += the bias of `expert`, from output `first` to `last` of row `row`.
  void add_bias(const Results& y, size_t row, uint32_t expert, size_t first, size_t last) const;
};

// One evaluation: for every index, `per_item` rows of x through the matrices that it picks.
struct ExpertsWork {
  ExpertsRecipe recipe;
  Type type;
  Rows rows;  // of x
  size_t per_item;
  std::vector<size_t> sources;  // of each index, its batch of x
  Packed indices;
  uint32_t experts;
  std::vector<Projection> projections;
  Results y;
  std::optional<Rows> weights{};  // with sum: [.., k], for as many indices
  Type weight_type{};
  const uint32_t* picked = nullptr;

  void operator()();

 private:
  class SingleRows;

  size_t count() const { return sources.size() * per_item; }
  // Row of x that row `row` of the result comes from. An index past the end is read as the last, as it is in no valid
  // model and must not be read beyond the array.
  size_t source(size_t row) const { return sources[row / per_item] * per_item + row % per_item; }
  uint32_t expert(size_t row) const { return std::min(picked[row / per_item], experts - 1); }
  void read(size_t row, float* to) const;
  // body(rows of one expert), in the order of experts.
  template <class Body>
  void for_experts(const Body& body) const;
  bool all_single() const;
  Product single(const Projection& p, const Results& to, size_t row) const;

  void product(const Projection& p, const Results& to) const;
  // y = activation(first) * second; the first factor goes to `gates`.
  void gate(const Results& gates) const;
  // A row of y for as many rows of products as there are weights in a row.
  void sum(const Results& products_of) const;
};

}  // namespace mlxk::kernels
