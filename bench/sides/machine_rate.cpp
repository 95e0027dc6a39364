// What the machine can do at most, for the same cores at the same time: bytes read a second from memory, and float32
// operations a second. Prints one JSON line. Argument: number of threads.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

namespace {

using Vector [[gnu::vector_size(64)]] = float;

double seconds(int threads, const std::function<void(int)>& body) {
  double best = 1e9;
  for (int run = 0; run < 5; ++run) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(body, i);
    body(0);
    for (std::thread& other : others) other.join();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  const size_t size = (size_t{256} << 20) / sizeof(Vector);
  std::vector<Vector> memory(size, Vector{} + 1);
  std::vector<float> sink(static_cast<size_t>(threads) * 16);

  const double reading = seconds(threads, [&](int thread) {
    const size_t each = size / static_cast<size_t>(threads), from = each * static_cast<size_t>(thread);
    Vector sums[8] = {};
    for (size_t i = from; i + 8 <= from + each; i += 8) {
      for (size_t j = 0; j < 8; ++j) sums[j] += memory[i + j];
    }
    for (const Vector& sum : sums) sink[static_cast<size_t>(thread) * 16] += sum[0];
  });

  constexpr int kRounds = 4'000'000, kChains = 12;
  const double computing = seconds(threads, [&](int thread) {
    Vector a{}, b{}, c{}, d{}, e{}, f{}, g{}, h{}, i{}, j{}, k{}, l{};
    const Vector x = Vector{} + 0.999f, y = Vector{} + 0.001f;
    for (int round = 0; round < kRounds; ++round) {
      a = a * x + y, b = b * x + y, c = c * x + y, d = d * x + y, e = e * x + y, f = f * x + y;
      g = g * x + y, h = h * x + y, i = i * x + y, j = j * x + y, k = k * x + y, l = l * x + y;
    }
    sink[static_cast<size_t>(thread) * 16] += (a + b + c + d + e + f + g + h + i + j + k + l)[0];
  });

  const double operations = 2.0 * 16 * kChains * kRounds * threads;
  std::printf("{\"readGBps\": %.2f, \"fp32GFlops\": %.1f, \"check\": %d}\n",
              static_cast<double>(size * sizeof(Vector)) / reading / 1e9, operations / computing / 1e9, sink[0] > 0);
}
