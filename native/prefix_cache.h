// What ended generations left behind, for prompts that begin as they did: the caches of their sequences, bounded in
// bytes, the least recently used one going first. Few and long, so they are searched one by one.
// Thread: engine thread only.

#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <vector>

#include "model.h"

namespace mlxk {

// A cache serves the model that filled it, adapters included, and requests that pack it in the same way.
struct PrefixKey {
  const Model* model;
  std::optional<KVQuantization> quantization;
  bool operator==(const PrefixKey&) const = default;
};

class PrefixCache {
 public:
  // Bytes that kept caches may take; none are kept before it is called.
  void limit(uint64_t max_bytes) { max_bytes_ = max_bytes; }

  // The cache of the longest beginning of `prompt` that was kept or that a kept one can be trimmed to, of one token
  // less than the prompt at most; an empty one if there is none. One that is a beginning as it is is handed over: what
  // continues it replaces it. Of others a part is copied.
  std::optional<SequenceCache> take(const PrefixKey& key, std::span<const uint32_t> prompt);
  // Keeps the cache of `tokens`, one for each of its positions, in place of those that it can be trimmed to.
  void keep(const PrefixKey& key, std::vector<uint32_t> tokens, SequenceCache cache);
  // Frees the one that was not used for the longest time; false when there is none.
  bool drop_oldest();
  void forget(const Model* model);

 private:
  struct Entry {
    PrefixKey key;
    std::vector<uint32_t> tokens;
    SequenceCache cache;
    uint64_t bytes;
  };

  uint64_t max_bytes_ = 0;
  std::list<Entry> entries_;  // the latest first
};

}  // namespace mlxk
