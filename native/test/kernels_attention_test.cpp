// Attention against a float64 reference, over random shapes, layouts, masks and values.

#include "attention_reference.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

// From more rows (positions times heads that share keys) on, weights may be rounded to bfloat16.
constexpr int kFewRows = 8;

enum class By { stock_call, own_call };

void attend(Random& random, int queries, int seen, mx::Mask mode, By by = By::stock_call) {
  const Type type = random.pick(kTypes);
  const auto size = [&](uint64_t most) { return 1 + static_cast<int>(random.below(most)); };
  AttentionReference r;
  r.mode = mode;
  r.queries = queries;
  r.seen = seen;
  r.batch = size(3);
  r.groups = size(3);
  r.heads = r.groups * size(4);
  r.width = size(70);
  r.v_width = type != Type::f16 && random.one_in(3) ? size(70) : r.width;
  const float scale = random.one_in(4) ? 3.0f : 1 / std::sqrt(static_cast<float>(r.width));
  r.scale = static_cast<double>(scale);
  r.may_round = type == Type::bf16 && queries * r.heads / r.groups > kFewRows;
  const auto kind = [&](bool finite) {  // scores of large values would have no digit right
    const Values v = any_values(random, type);
    const bool infinite = v == Values::one_nan || v == Values::one_infinity;
    return v == Values::large || (finite && infinite) ? Values::ordinary : v;
  };
  // What is masked may still hold anything but is not tried with NaN and infinities, which the stock operation spreads
  // as well.
  const bool finite = mode != mx::Mask::none;
  const Array q = make(random, {r.batch, r.heads, queries, r.width}, type, kind(finite));
  const Array k = make(random, {r.batch, r.groups, seen, r.width}, type, kind(finite));
  const Array v = make(random, {r.batch, r.groups, seen, r.v_width}, type, kind(finite));
  const Array sinks = random.one_in(3) ? make(random, {r.heads}, type) : Array();
  Array mask;
  if (mode == mx::Mask::array) {  // a window, and the key of the query's own position always
    const int window = size(static_cast<uint64_t>(seen));
    std::vector<uint32_t> bits;
    for (int query = 0; query < queries; ++query) {
      const int last = seen - queries + query;
      for (int key = 0; key < seen; ++key) {
        r.mask.push_back(key <= last && key > last - window && (key == last || !random.one_in(4)));
        bits.push_back(r.mask.back());
      }
    }
    mask = mx::astype(mx::from_ids(bits, {queries, seen}), Type::boolean);
  }
  r.q = read(q);
  r.k = read(k);
  r.v = read(v);
  if (sinks) r.sinks = read(sinks);
  if (by == By::own_call) {
    const float cap = random.pick(std::vector<float>{0, 2, 50});
    r.window = random.one_in(2) ? size(static_cast<uint64_t>(seen)) : 0;
    r.soft_cap = static_cast<double>(cap);
    const Array got = mx::fused_causal_attention(q, k, v, scale, r.window, cap, sinks);
    if (got)
      compare(got, {r.batch, r.heads, queries, r.v_width}, type, r.result(), "window " + std::to_string(r.window));
    return;
  }
  compare(mx::attention(q, k, v, scale, mode, mask, sinks), {r.batch, r.heads, queries, r.v_width}, type, r.result(),
          "attention of " + text_of(q) + " over " + text_of(k) + ", " + text_of(v));
}

}  // namespace

TEST("attention of one position") {
  claim_thread();
  Random random{6};
  for (int n = 0; n < trials(250); ++n) attend(random, 1, 1 + static_cast<int>(random.below(70)), mx::Mask::none);
}

TEST("attention of one position over a context that is split") {
  claim_thread();
  Random random{14};
  for (int n = 0; n < trials(10); ++n) attend(random, 1, 1000 + static_cast<int>(random.below(1200)), mx::Mask::none);
}

TEST("causal attention of many positions") {
  claim_thread();
  Random random{15};
  for (int n = 0; n < trials(120); ++n) {
    const int queries = 1 + static_cast<int>(random.below(random.one_in(4) ? 150 : 30));
    attend(random, queries, queries + static_cast<int>(random.below(random.one_in(4) ? 200 : 40)), mx::Mask::causal);
  }
}

TEST("attention behind a mask") {
  claim_thread();
  Random random{16};
  for (int n = 0; n < trials(120); ++n) {
    const int queries = 1 + static_cast<int>(random.below(60));
    attend(random, queries, queries + static_cast<int>(random.below(100)), mx::Mask::array);
  }
}

TEST("attention through a window, with capped scores") {
  claim_thread();
  Random random{17};
  for (int n = 0; n < trials(120); ++n) {
    const int queries = random.one_in(3) ? 1 : 1 + static_cast<int>(random.below(60));
    attend(random, queries, queries + static_cast<int>(random.below(150)), mx::Mask::causal, By::own_call);
  }
}

// What makes rounding weights permissible: MLX rounds scores, weights and their sums to bfloat16.
TEST("prompts of bfloat16 are nearer to the truth than by the stock operations") {
  claim_thread();
  Random random{20};
  for (const int seen : {64, 500}) {
    AttentionReference r;
    r.mode = mx::Mask::none;
    r.batch = r.groups = r.heads = 1;
    r.queries = 40;
    r.seen = seen;
    r.width = r.v_width = 64;
    r.scale = 0.125;
    const auto bf16 = [&](int rows) {
      return mx::astype(
          mx::from_floats(draw(random, static_cast<size_t>(rows * 64), Values::ordinary), {1, 1, rows, 64}),
          Type::bf16);
    };
    const Array q = bf16(r.queries), k = bf16(seen), v = bf16(seen);
    r.q = read(q);
    r.k = read(k);
    r.v = read(v);
    const Expected want = r.result();
    const auto error = [&](const Array& y) {
      const std::vector<double> got = read(y);
      double squares = 0;
      for (size_t i = 0; i < got.size(); ++i) squares += (got[i] - want.values[i]) * (got[i] - want.values[i]);
      return std::sqrt(squares / static_cast<double>(got.size()));
    };
    const Array scores = mx::matmul(q * 0.125f, mx::swapaxes(k, 2, 3));
    const double ours = error(mx::attention(q, k, v, 0.125f, mx::Mask::none, {}, {})),
                 theirs = error(mx::matmul(mx::softmax(scores, -1), v));
    std::ostringstream text;
    text << seen << " keys: root mean square error " << ours << " against " << theirs;
    test::record(ours < theirs, __FILE__, __LINE__, text.str());
  }
}
