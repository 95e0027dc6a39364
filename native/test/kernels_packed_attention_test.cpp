// Attention over packed keys and values against a float64 reference over the numbers that their codes stand for.

#include "attention_reference.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

// The parts of packed `a`, as slices of longer buffers where `room` says so.
mx::Quantized packed(const Array& a, const mx::QuantizedShape& shape, int room) {
  mx::Quantized parts = mx::quantize(a, shape);
  if (room == 0) return parts;
  for (Array* part : {&parts.weight, &parts.scales, &parts.biases}) {
    Shape more = part->shape();
    more[2] = room;
    *part = mx::slice(mx::concatenate({*part, mx::zeros(more, part->dtype())}, 2), 2, 0, a.dim(2));
  }
  return parts;
}

std::vector<double> numbers(const mx::Quantized& a, const mx::QuantizedShape& shape) {
  const auto wide = [](const Array& part) { return mx::astype(part, Type::f32); };
  return read(mx::dequantize(a.weight, wide(a.scales), wide(a.biases), shape, Type::f32));
}

void attend(Random& random, int bits, int group_size, int queries, int seen) {
  const Type type = random.pick(kTypes);
  const auto size = [&](uint64_t most) { return 1 + static_cast<int>(random.below(most)); };
  AttentionReference c;
  c.packed = true;
  c.batch = random.one_in(4) ? 2 : 1;
  c.groups = size(3);
  c.heads = c.groups * size(5);
  c.queries = queries;
  c.seen = seen;
  c.width = group_size * size(3);
  c.v_width = random.one_in(3) ? group_size * size(3) : c.width;
  const float scale = 1 / std::sqrt(static_cast<float>(c.width)), cap = random.one_in(3) ? 20.0f : 0.0f;
  c.scale = static_cast<double>(scale);
  c.soft_cap = static_cast<double>(cap);
  const mx::QuantizedShape shape{group_size, bits, "affine"};
  const Array q = make(random, {c.batch, c.heads, queries, c.width}, type);
  const int room = random.one_in(2) ? size(40) : 0;
  const mx::PackedKeysValues kv{packed(make(random, {c.batch, c.groups, seen, c.width}, type), shape, room),
                                packed(make(random, {c.batch, c.groups, seen, c.v_width}, type), shape, room), shape};
  const Array sinks = random.one_in(3) ? make(random, {c.heads}, type) : Array();
  c.q = read(q);
  c.k = numbers(kv.keys, shape);
  c.v = numbers(kv.values, shape);
  if (sinks) c.sinks = read(sinks);
  const Array got = mx::fused_packed_attention(q, kv, scale, cap, sinks);
  if (!got) return;  // MLXK_KERNELS=off
  compare(got, {c.batch, c.heads, queries, c.v_width}, type, c.result(),
          std::to_string(bits) + " bits in groups of " + std::to_string(group_size) + ", " + text_of(q) + " over " +
              std::to_string(seen));
}

}  // namespace

TEST("attention over packed keys and values, of every number of bits and group size") {
  claim_thread();
  Random random{21};
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const int group_size : {32, 64, 128}) {
      for (int n = 0; n < 4; ++n) attend(random, bits, group_size, 1, 1 + static_cast<int>(random.below(90)));
    }
  }
}

TEST("attention of several positions over packed keys and values") {
  claim_thread();
  Random random{22};
  for (int n = 0; n < 30; ++n) {
    const int queries = 2 + static_cast<int>(random.below(12));
    attend(random, random.one_in(2) ? 4 : 8, 32, queries, queries + static_cast<int>(random.below(60)));
  }
}

TEST("attention over packed keys and values of a context in several pieces") {
  claim_thread();
  Random random{23};
  for (int n = 0; n < 12; ++n) {
    const int queries = random.one_in(2) ? 1 : 3;
    attend(random, random.one_in(2) ? 4 : 8, 64, queries, 250 + static_cast<int>(random.below(900)));
  }
}

TEST("what the kernel does not take is left to the stock operations") {
  claim_thread();
  Random random{24};
  const mx::QuantizedShape shape{32, 8, "affine"};
  const auto keys = [&](Type type) { return packed(make(random, {1, 2, 40, 64}, type), shape, 0); };
  const auto attended = [&](const Shape& q, const mx::PackedKeysValues& kv, const Array& sinks = {}) {
    return static_cast<bool>(mx::fused_packed_attention(make(random, q, Type::f32), kv, 1, 0, sinks));
  };
  const mx::PackedKeysValues kv{keys(Type::f32), keys(Type::f32), shape};
  CHECK_EQ(attended({1, 4, 1, 64}, kv), mx::cpu_isa() != "off");
  CHECK(!attended({1, 4, 1, 32}, kv));   // another width
  CHECK(!attended({1, 3, 1, 64}, kv));   // heads that do not divide
  CHECK(!attended({1, 4, 41, 64}, kv));  // more queries than keys
  CHECK(!attended({1, 8, 40, 64}, kv));  // many queries
  CHECK(!attended({2, 4, 1, 64}, kv));   // another batch
  CHECK(!attended({1, 4, 1, 64}, {keys(Type::bf16), keys(Type::f32), shape}));
  CHECK(!attended({1, 4, 1, 64}, {kv.keys, kv.values, {32, 4, "affine"}}));
  CHECK(!attended({1, 4, 1, 64}, kv, mx::zeros({3}, Type::f32)));
}
