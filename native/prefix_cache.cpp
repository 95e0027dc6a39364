// See prefix_cache.h.

#include "prefix_cache.h"

#include <algorithm>
#include <utility>

namespace mlxk {
namespace {

constexpr size_t kMaxEntries = 64;  // searching them all costs less than a step

size_t common(std::span<const uint32_t> a, std::span<const uint32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

int surplus(const SequenceCache& cache, size_t tokens) { return cache.position - static_cast<int>(tokens); }

}  // namespace

std::optional<SequenceCache> PrefixCache::take(const PrefixKey& key, std::span<const uint32_t> prompt) {
  const auto usable = prompt.first(prompt.size() - 1);  // the scores after the last token are needed
  auto best = entries_.end();
  size_t longest = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->key != key) continue;
    const size_t shared = common(entry->tokens, usable);
    if (shared <= longest || !entry->cache.can_trim(surplus(entry->cache, shared))) continue;
    best = entry;
    longest = shared;
  }
  if (best == entries_.end()) return std::nullopt;
  if (longest == best->tokens.size()) {
    SequenceCache cache = std::move(best->cache);
    entries_.erase(best);
    return cache;
  }
  entries_.splice(entries_.begin(), entries_, best);
  return best->cache.copy(surplus(best->cache, longest));
}

void PrefixCache::keep(const PrefixKey& key, std::vector<uint32_t> tokens, SequenceCache cache) {
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const size_t shared = entry->key == key ? common(entry->tokens, tokens) : 0;
    if (shared == tokens.size() && entry->cache.can_trim(surplus(entry->cache, shared))) {
      entries_.splice(entries_.begin(), entries_, entry);
      return;
    }
    const bool replaced = shared == entry->tokens.size() && cache.can_trim(surplus(cache, shared));
    entry = replaced ? entries_.erase(entry) : std::next(entry);
  }
  const uint64_t bytes = cache.bytes();
  uint64_t held = bytes;
  for (const Entry& entry : entries_) held += entry.bytes;
  while (!entries_.empty() && (held > max_bytes_ || entries_.size() >= kMaxEntries)) {
    held -= entries_.back().bytes;
    entries_.pop_back();
  }
  if (held <= max_bytes_) entries_.push_front({key, std::move(tokens), std::move(cache), bytes});
}

bool PrefixCache::drop_oldest() {
  if (entries_.empty()) return false;
  entries_.pop_back();
  return true;
}

void PrefixCache::forget(const Model* model) {
  std::erase_if(entries_, [model](const Entry& entry) { return entry.key.model == model; });
}

}  // namespace mlxk
