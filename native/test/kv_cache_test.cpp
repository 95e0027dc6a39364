// Keys and values of one sequence against a list of all positions: appended, taken back, copied and packed in any
// order, what may be looked at is what the list says. Prompts and kept caches: which one is found, cut, replaced.

#include <cmath>
#include <numeric>

#include "check.h"
#include "kv_cache.h"
#include "prefix_cache.h"
#include "random.h"
#include "recurrence.h"

using namespace mlxk;
using mx::Shape;
using test::Random;

namespace {

constexpr int kHeads = 2, kWidth = 32;

// Kept to the end: MLX lets a thread be claimed once.
void claim_thread() {
  [[gnu::used]] static const auto* thread = new mx::Thread(mx::Device::cpu);
  (void)thread;
}

std::vector<float> read(const Array& a) {
  const Array dense = mx::contiguous(a);
  mx::eval({dense});
  const auto values = dense.f32();
  return {values.begin(), values.end()};
}

// Keys or values of positions [1, K, L, D].
Array draw(Random& random, int length) {
  std::vector<float> values(static_cast<size_t>(kHeads * length * kWidth));
  for (float& value : values) value = static_cast<float>(random.below(2000)) / 1000 - 1;
  return mx::from_floats(values, {1, kHeads, length, kWidth});
}

Array packed_and_back(const Array& a, const KVQuantization& q) {
  const mx::QuantizedShape shape{q.group_size, q.bits, "affine"};
  const auto [codes, scales, biases] = mx::quantize(a, shape);
  return mx::dequantize(codes, scales, biases, shape, mx::Type::f32);
}

// A cache and all that was appended to it and not taken back.
struct Pair {
  std::unique_ptr<LayerState> cache;
  Array keys, values;

  int length() const { return keys ? keys.dim(2) : 0; }
};

Array joined(const Array& all, const Array& more) { return all ? mx::concatenate({all, more}, 2) : more; }

// One position in place, as decoding does it, where the cache allows that.
bool append_in_place(Random& random, KVCache& cache, const Array& keys, const Array& values) {
  const auto room = cache.room();
  if (!room) return false;
  const Shape flat{1, 1, kHeads * kWidth};
  mx::CachedAttention options;
  options.at = room->at;
  options.first = room->first;
  const auto attended = mx::fused_cached_attention(mx::reshape(draw(random, 1), flat), mx::reshape(keys, flat),
                                                   mx::reshape(values, flat), room->keys, room->values, options);
  CHECK(attended.has_value());
  if (!attended) return false;
  mx::eval({attended->y});
  cache.appended(attended->keys, attended->values);
  return true;
}

void append(Random& random, Pair& pair, int length, int window, const std::optional<KVQuantization>& quantization) {
  const Array keys = draw(random, length), values = draw(random, length);
  auto& cache = static_cast<KVCache&>(*pair.cache);
  if (length > 1 || quantization || random.one_in(3) || !append_in_place(random, cache, keys, values)) {
    cache.append(keys, values, quantization);
  }
  const auto [seen_keys, seen_values] = cache.visible(length);
  pair.keys = joined(pair.keys, keys);
  pair.values = joined(pair.values, values);
  const int total = pair.length(), first = window > 0 ? std::max(0, total - (window - 1 + length)) : 0;
  const auto expected = [&](const Array& all) {
    return mx::slice(pair.cache->quantized() ? packed_and_back(all, *quantization) : all, 2, first, total);
  };
  CHECK(read(seen_keys) == read(expected(pair.keys)));
  CHECK(read(seen_values) == read(expected(pair.values)));
}

void any_order(Random& random, int window, const std::optional<KVQuantization>& quantization) {
  std::vector<Pair> pairs;
  pairs.push_back({std::make_unique<KVCache>(window), {}, {}});
  int trimmed = 0;
  for (int step = 0; step < 60; ++step) {
    Pair& pair = pairs[random.below(pairs.size())];
    const auto choice = random.below(4);
    if (choice < 2 || pair.length() == 0) {
      int length = 1 + static_cast<int>(random.below(random.one_in(3) ? 200 : 8));
      // A forward pass ends where packing begins.
      if (quantization && pair.length() < quantization->start) {
        length = std::min(length, quantization->start - pair.length());
      }
      append(random, pair, length, window, quantization);
      continue;
    }
    const int count = static_cast<int>(random.below(static_cast<uint64_t>(pair.length()))),
              left = pair.length() - count;
    const bool can = pair.cache->can_trim(count);
    if (window == 0) CHECK_EQ(can, !pair.cache->quantized() || count == 0 || left >= quantization->start);
    if (!can) continue;
    const auto cut = [&](const Array& all) { return left == 0 ? Array() : mx::slice(all, 2, 0, left); };
    if (choice == 2) {
      pair.cache->trim(count);
      pair.keys = cut(pair.keys);
      pair.values = cut(pair.values);
      ++trimmed;
    } else if (pairs.size() < 6) {
      Pair copy{pair.cache->copy(count), cut(pair.keys), cut(pair.values)};
      pairs.push_back(std::move(copy));
    }
  }
  CHECK(trimmed > 0);
}

SequenceCache sequence(std::unique_ptr<LayerState> state, int position) {
  SequenceCache cache{{}, position};
  cache.layers.push_back(std::move(state));
  return cache;
}

SequenceCache filled(Random& random, int length) {
  auto state = std::make_unique<KVCache>();
  state->update(draw(random, length), draw(random, length));
  return sequence(std::move(state), length);
}

std::vector<uint32_t> range(uint32_t first, uint32_t last) {
  std::vector<uint32_t> ids(last - first);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

int taken(PrefixCache& prefixes, const PrefixKey& key, const std::vector<uint32_t>& prompt) {
  const auto cache = prefixes.take(key, prompt);
  return cache ? cache->position : 0;
}

const Model* model_number(uintptr_t number) { return reinterpret_cast<const Model*>(number); }

}  // namespace

TEST("keys and values are what was appended and not taken back, in any order") {
  claim_thread();
  Random random{1};
  for (int round = 0; round < 6; ++round) any_order(random, 0, std::nullopt);
}

TEST("a window can be taken back for as long as it has what the positions before could see") {
  claim_thread();
  Random random{2};
  for (const int window : {1, 2, 7, 16, 300}) {
    for (int round = 0; round < 3; ++round) any_order(random, window, std::nullopt);
  }
}

TEST("a window cannot be taken back to what it has dropped") {
  claim_thread();
  Random random{8};
  Pair pair{std::make_unique<KVCache>(16), {}, {}};
  append(random, pair, 250, 16, std::nullopt);
  CHECK(pair.cache->can_trim(250));
  append(random, pair, 20, 16, std::nullopt);  // moved to new buffers, with the 15 positions that it could see
  CHECK(pair.cache->can_trim(20));
  CHECK(!pair.cache->can_trim(21));
}

TEST("packed keys and values are those of every position by itself, from their start on") {
  claim_thread();
  Random random{3};
  for (const int bits : {4, 8}) {
    for (const int start : {0, 1, 50, 256}) any_order(random, 0, KVQuantization{bits, 32, start});
  }
}

TEST("a copy and its original go their own ways") {
  claim_thread();
  Random random{4};
  Pair pair{std::make_unique<KVCache>(), {}, {}};
  append(random, pair, 20, 0, std::nullopt);
  Pair copy{pair.cache->copy(0), pair.keys, pair.values};
  for (int step = 0; step < 5; ++step) {
    append(random, pair, 3, 0, std::nullopt);
    append(random, copy, 2, 0, std::nullopt);
  }
}

TEST("a recurrent state can be copied and not taken back") {
  claim_thread();
  RecurrentState state(1);
  state.slot(0) = mx::zeros({1, 3}, mx::Type::f32);
  CHECK(state.can_trim(0));
  CHECK(!state.can_trim(1));
  auto copy = state.copy(0);
  state.slot(0) = mx::zeros({1, 4}, mx::Type::f32);
  CHECK_EQ(static_cast<RecurrentState&>(*copy).slot(0).dim(1), 3);
  CHECK(RecurrentState(0).can_trim(5));
}

TEST("of kept caches the one that shares most with a prompt is found") {
  claim_thread();
  Random random{5};
  PrefixCache prefixes;
  prefixes.limit(uint64_t{1} << 30);
  const PrefixKey key{model_number(1), std::nullopt};
  prefixes.keep(key, range(0, 10), filled(random, 10));
  prefixes.keep(key, range(5, 40), filled(random, 35));
  CHECK_EQ(taken(prefixes, key, range(0, 7)), 6);  // one less than the prompt
  CHECK_EQ(taken(prefixes, key, range(0, 7)), 6);  // of which a copy was given
  CHECK_EQ(taken(prefixes, key, range(5, 9)), 3);
  CHECK_EQ(taken(prefixes, key, range(1, 9)), 0);
  CHECK_EQ(taken(prefixes, {model_number(2), std::nullopt}, range(0, 7)), 0);
  CHECK_EQ(taken(prefixes, {model_number(1), KVQuantization{8, 64, 0}}, range(0, 7)), 0);
  CHECK_EQ(taken(prefixes, key, range(0, 30)), 10);  // a whole beginning is handed over
  CHECK_EQ(taken(prefixes, key, range(0, 30)), 0);
  prefixes.forget(model_number(1));
  CHECK_EQ(taken(prefixes, key, range(5, 40)), 0);
  CHECK(!prefixes.drop_oldest());
}

TEST("a longer cache takes the place of its beginnings, unless it cannot be cut back to them") {
  claim_thread();
  Random random{6};
  PrefixCache prefixes;
  prefixes.limit(uint64_t{1} << 30);
  const PrefixKey key{model_number(1), std::nullopt};
  prefixes.keep(key, range(0, 10), filled(random, 10));
  prefixes.keep(key, range(0, 20), filled(random, 20));
  prefixes.keep(key, range(0, 15), filled(random, 15));
  CHECK(prefixes.drop_oldest());
  CHECK(!prefixes.drop_oldest());

  const auto recurrent = [](int position) {
    auto state = std::make_unique<RecurrentState>(1);
    state->slot(0) = mx::zeros({1, 3}, mx::Type::f32);
    return sequence(std::move(state), position);
  };
  prefixes.keep(key, range(0, 10), recurrent(10));
  prefixes.keep(key, range(0, 20), recurrent(20));
  CHECK_EQ(taken(prefixes, key, range(0, 15)), 10);
  CHECK_EQ(taken(prefixes, key, range(0, 30)), 20);
}

TEST("kept caches take no more bytes than they may, the latest staying") {
  claim_thread();
  Random random{7};
  PrefixCache prefixes;
  const PrefixKey key{model_number(1), std::nullopt};
  const size_t one = filled(random, 10).bytes();
  prefixes.keep(key, range(0, 10), filled(random, 10));
  CHECK(!prefixes.drop_oldest());  // none may be kept yet
  prefixes.limit(3 * one);
  for (uint32_t i = 0; i < 5; ++i) prefixes.keep(key, range(100 * i, 100 * i + 10), filled(random, 10));
  const auto prompt = [](uint32_t i) { return range(100 * i, 100 * i + 5); };
  CHECK_EQ(taken(prefixes, key, prompt(1)), 0);
  CHECK_EQ(taken(prefixes, key, prompt(2)), 4);  // and is now the latest
  prefixes.keep(key, range(1000, 1010), filled(random, 10));
  CHECK_EQ(taken(prefixes, key, prompt(2)), 4);
  CHECK_EQ(taken(prefixes, key, prompt(3)), 0);
}
