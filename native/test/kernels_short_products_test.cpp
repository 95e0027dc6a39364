// Many rows of float32 times dense matrices of 16 bits, which some processors multiply in integers of 16 bits.

#include <numeric>

#include "products.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

const std::vector<Type> kMatrixTypes{Type::bf16, Type::f16};

void multiply(Random& random, int rows, int inputs, int outputs, Values x_values, Values w_values) {
  const Type type = random.pick(kMatrixTypes);
  const Array x = make(random, {rows, inputs}, Type::f32, x_values),
              w = make(random, {outputs, inputs}, type, w_values);
  compare(mx::linear(x, w), {rows, outputs}, Type::f32, dense_product(x, w),
          "linear of " + text_of(x) + ", " + text_of(w));
}

// The largest error of y relative to the lengths of the row of x and that of w it comes from.
double error_beside_lengths(const Array& y, const Expected& want, const std::vector<double>& x,
                            const std::vector<double>& w, size_t inputs) {
  const std::vector<double> got = read(y);
  const size_t outputs = w.size() / inputs;
  const auto square = [&](const std::vector<double>& of, size_t row) {
    const auto first = of.begin() + static_cast<long>(row * inputs), last = first + static_cast<long>(inputs);
    return std::inner_product(first, last, first, 0.0);
  };
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double lengths = std::sqrt(square(x, i / outputs) * square(w, i % outputs));
    worst = std::max(worst, std::fabs(got[i] - want.values[i]) / lengths);
  }
  return worst;
}

}  // namespace

TEST("any shape") {
  claim_thread();
  Random random{21};
  for (int n = 0; n < trials(250); ++n) {
    const int inputs = random.one_in(6) ? 300 + static_cast<int>(random.below(400)) : random.pick(kWidths);
    multiply(random, 1 + static_cast<int>(random.below(60)), inputs, 1 + static_cast<int>(random.below(70)),
             Values::ordinary, Values::ordinary);
  }
}

TEST("more rows than share an unpacked panel") {
  claim_thread();
  Random random{22};
  for (const int rows : {479, 480, 481, 492, 500, 960, 961, 1000}) {
    multiply(random, rows, random.pick(kWidths), 1 + static_cast<int>(random.below(40)), Values::ordinary,
             Values::ordinary);
  }
}

TEST("any numbers") {
  claim_thread();
  Random random{23};
  const std::vector<Values> in_matrix{Values::ordinary, Values::ordinary,     Values::zero,
                                      Values::denormal, Values::one_infinity, Values::one_nan};
  for (int n = 0; n < trials(250); ++n) {
    multiply(random, 8 + static_cast<int>(random.below(30)), random.pick(kWidths),
             1 + static_cast<int>(random.below(40)), any_values(random, Type::f32), random.pick(in_matrix));
  }
}

TEST("sums of products as large as they can be") {
  claim_thread();
  const int inputs = 160, outputs = 17, rows = 13;
  for (const Type type : kMatrixTypes) {
    // The largest number below 2: all its bits are set.
    const float most = type == Type::bf16 ? 1.9921875f : 1.9990234375f;
    for (const float sign : {1.f, -1.f}) {
      for (const float others : {1.f, 0.5f, 0.f}) {  // beside one of each group
        std::vector<float> xs(static_cast<size_t>(rows * inputs), others * 3.14159f);
        for (size_t i = 0; i < xs.size(); i += kShortGroup) xs[i] = 3.14159f;
        const std::vector<float> ws(static_cast<size_t>(outputs * inputs), sign * most);
        const Array x = mx::from_floats(xs, {rows, inputs}),
                    w = mx::astype(mx::from_floats(ws, {outputs, inputs}), type);
        compare(mx::linear(x, w), {rows, outputs}, Type::f32, dense_product(x, w), text_of(w) + " of one number");
      }
    }
  }
}

// Models have a few activations a thousand times the others, and rows with a few large weights.
TEST("far nearer to the truth than rows rounded to bfloat16") {
  claim_thread();
  Random random{24};
  const struct {
    float activation, weight;  // of one input; of every 97th
    double part;               // of the other error
  } kCases[] = {{1, 1, 0.05}, {30, 1, 0.05}, {1000, 1, 0.05}, {1, 20, 0.125}, {1000, 20, 0.5}};
  for (const Type type : kMatrixTypes) {
    for (const auto& [activation, weight, part] : kCases) {
      const int inputs = 1024, outputs = 40, rows = 27;
      std::vector<float> ws(static_cast<size_t>(outputs * inputs)), xs(static_cast<size_t>(rows * inputs));
      for (size_t i = 0; i < ws.size(); ++i) ws[i] = normal(random) * 0.03f * (i % 97 == 0 ? weight : 1);
      for (size_t i = 0; i < xs.size(); ++i) xs[i] = normal(random) * (i % inputs == 77 ? activation : 1);
      const Array x = mx::from_floats(xs, {rows, inputs}), w = mx::astype(mx::from_floats(ws, {outputs, inputs}), type);
      const std::vector<double> exact = read(x), matrix = read(w);
      const Expected want = product(exact, matrix, matrix, static_cast<size_t>(inputs)),
                     rounded = product(read(mx::astype(x, Type::bf16)), matrix, matrix, static_cast<size_t>(inputs));
      const Array y = mx::linear(x, w);
      double squares = 0;
      for (size_t i = 0; i < want.values.size(); ++i) squares += std::pow(rounded.values[i] - want.values[i], 2);
      const double ours = root_mean_square_error(y, want),
                   theirs = std::sqrt(squares / static_cast<double>(want.values.size())),
                   beside = error_beside_lengths(y, want, exact, matrix, static_cast<size_t>(inputs));
      std::ostringstream text;
      text << mx::type_name(type) << ", activations of " << activation << ", weights of " << weight
           << ": root mean square error " << ours << " against " << theirs << ", " << beside << " of the lengths";
      test::record(ours < part * theirs && beside < 4e-5, __FILE__, __LINE__, text.str());
    }
  }
}
