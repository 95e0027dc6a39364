// Writing and moving positions, over random shapes, layouts and types.

#include "kernel_arrays.h"

using namespace mlxk;
using namespace mlxk::test;

namespace {

// Two to four axes, and one of them before the last.
struct Positions {
  Shape shape;
  int axis;
};

Positions any_positions(Random& random) {
  Positions c;
  const int axes = 2 + static_cast<int>(random.below(3));
  for (int i = 0; i < axes; ++i) c.shape.push_back(1 + static_cast<int>(random.below(random.one_in(4) ? 60 : 7)));
  c.axis = static_cast<int>(random.below(static_cast<uint64_t>(axes - 1)));
  return c;
}

Shape with(Shape shape, int axis, int size) {
  shape[static_cast<size_t>(axis)] = size;
  return shape;
}

const std::vector<Type> kAnyType{Type::f32, Type::bf16, Type::f16, Type::u32, Type::u8};

}  // namespace

TEST("an update is written where it belongs and nowhere else") {
  claim_thread();
  Random random{21};
  for (int n = 0; n < 300; ++n) {
    const Positions c = any_positions(random);
    const Type type = random.pick(kAnyType);
    const int size = c.shape[static_cast<size_t>(c.axis)];
    const int length = 1 + static_cast<int>(random.below(static_cast<uint64_t>(size)));
    const int start = static_cast<int>(random.below(static_cast<uint64_t>(size - length + 1)));
    const auto numbers = [&](const Shape& shape) { return mx::astype(test::make(random, shape, Type::f32), type); };
    Array whole = numbers(c.shape);
    const Array update = numbers(with(c.shape, c.axis, length));
    mx::eval({whole, update});
    const std::vector<double> before = read(whole), written = read(update);
    const bool held = random.one_in(2);
    const Array other = held ? whole : Array();
    whole = mx::slice_update(whole, update, c.axis, start);
    const std::vector<double> after = read(whole);

    size_t inner = 1;
    for (size_t i = static_cast<size_t>(c.axis) + 1; i < c.shape.size(); ++i) inner *= static_cast<size_t>(c.shape[i]);
    bool right = true;
    for (size_t i = 0; i < after.size(); ++i) {
      const size_t position = i / inner % static_cast<size_t>(size), outer = i / inner / static_cast<size_t>(size);
      const auto first = static_cast<size_t>(start), count = static_cast<size_t>(length);
      const bool inside = position >= first && position < first + count;
      right &= after[i] == (inside ? written[(outer * count + position - first) * inner + i % inner] : before[i]);
    }
    CHECK(right);
    if (held) CHECK(read(other) == before);
  }
}

TEST("positions move to the front of an array with room") {
  claim_thread();
  Random random{22};
  for (int n = 0; n < 300; ++n) {
    const Positions c = any_positions(random);
    const int size = c.shape[static_cast<size_t>(c.axis)];
    const int begin = static_cast<int>(random.below(static_cast<uint64_t>(size)));
    const int end = begin + static_cast<int>(random.below(static_cast<uint64_t>(size - begin + 1)));
    const int room = end - begin + 1 + static_cast<int>(random.below(20));
    const Array a = mx::astype(test::make(random, c.shape, Type::f32), random.pick(kAnyType));
    const Array moved = mx::with_room(a, c.axis, begin, end, room);
    CHECK(moved.shape() == with(c.shape, c.axis, room));
    if (end > begin) CHECK(read(mx::slice(moved, c.axis, 0, end - begin)) == read(mx::slice(a, c.axis, begin, end)));
  }
}
