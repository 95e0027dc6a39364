// What kernels are not made for goes to MLX, which says what is wrong with it.

#include "kernel_arrays.h"

using namespace mlxk;
using namespace mlxk::test;

TEST("operands that do not fit are refused, not read past their end") {
  claim_thread();
  const auto zeros = [](const Shape& shape) { return mx::zeros(shape, Type::f32); };
  const auto refused = [](auto body) { CHECK_REFUSED((mx::eval({body()}), 0), "mlx_error", "MLX: "); };
  refused([&] { return mx::rms_norm(zeros({2, 8}), zeros({7}), 1e-6f); });
  refused([&] { return mx::linear(zeros({2, 8}), zeros({3, 7})); });
  refused([&] { return mx::swiglu(zeros({2, 8}), zeros({2, 7})); });
  const Array words = mx::zeros({3, 8}, Type::u32);  // 64 inputs of 4 bits
  refused([&] { return mx::quantized_matmul(zeros({2, 32}), words, zeros({3, 1}), zeros({3, 1}), {64, 4, "affine"}); });
  refused([&] { return mx::quantized_matmul(zeros({2, 64}), words, zeros({3, 1}), zeros({3, 2}), {32, 4, "affine"}); });
  const Array indices = mx::from_ids(std::vector<uint32_t>{1, 0}, {1, 2});
  const auto pick = [&](const Shape& x, const Array& bias) {
    return mx::gather_linear(zeros(x), zeros({2, 3, 8}), indices, false, bias);
  };
  refused([&] { return pick({1, 3, 1, 8}, {}); });
  refused([&] { return pick({1, 1, 1, 8}, zeros({2, 4})); });
  refused([&] { return mx::weighted_sum(pick({1, 1, 1, 8}, zeros({2, 3})), zeros({1, 3})); });
  refused([&] { return mx::weighted_sum(pick({1, 1, 2, 8}, {}), zeros({1, 3})); });
  const Array q = zeros({1, 4, 1, 8});
  const auto attend = [&](const Shape& k, const Shape& v) {
    return mx::attention(q, zeros(k), zeros(v), 1, mx::Mask::none, {});
  };
  refused([&] { return attend({1, 2, 5, 7}, {1, 2, 5, 8}); });
  refused([&] { return attend({1, 3, 5, 8}, {1, 3, 5, 8}); });
  refused([&] { return attend({1, 2, 5, 8}, {1, 1, 5, 8}); });
  mx::RopeParameters p;
  p.dims = 8;
  p.freqs = zeros({3});
  refused([&] { return mx::rope(zeros({1, 2, 3, 8}), p, 0); });
  p.freqs = {};
  p.base = 100.0f;
  refused([&] { return mx::rope(zeros({2, 2, 3, 8}), p, mx::from_ints(std::vector<int32_t>{1, 2, 3}, {3})); });
}
