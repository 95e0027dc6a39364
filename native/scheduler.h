// Continuous batching for one model: requests become rows, rows join and leave between steps, a single request is a
// batch of one. Each step is launched before the one before it is read, so that the host builds step n+1 while the
// device runs step n. Knows token ids only. Thread: engine thread only.

#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "error.h"
#include "loader.h"
#include "prefix_cache.h"
#include "sampler.h"

namespace mlxk {

enum class End { stop, length, abort, error };

struct GenerationStats {
  int prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double queue_ms = 0, prefill_ms = 0, decode_ms = 0;
  uint64_t peak_memory_bytes = 0;
};

// Where a request's results go. Called on the engine thread; nothing follows `end`.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual void prefill(int done, int total) = 0;
  virtual void token(uint32_t id, float logprob) = 0;
  virtual void scores(std::span<const float> logits) = 0;  // only for `scores_only`
  virtual void end(End end, const GenerationStats& stats, const EngineError* error) = 0;
};

struct Request {
  uint64_t id = 0;
  std::vector<uint32_t> prompt;  // not empty, every id below the model's vocab_size
  SamplingParams sampling;
  uint32_t max_tokens = 0;
  std::unordered_set<uint32_t> stop_ids;
  uint64_t credit = 0;       // tokens that may be sent before the reader asks for more
  bool scores_only = false;  // the scores after the prompt instead of a generation
  uint64_t adapter = 0;      // one that was added; 0: the model as it is
  std::optional<KVQuantization> kv_quantization{};
  bool keep_prefix = false;  // begins with what earlier requests kept, and keeps its own
  std::shared_ptr<Listener> listener;
  std::chrono::steady_clock::time_point submitted = std::chrono::steady_clock::now();
};

class Scheduler {
 public:
  // prefill_step: prompt tokens per forward pass; memory_bytes: budget for everything MLX holds. `prefixes` outlives
  // the scheduler and gives way to what runs.
  Scheduler(LoadedModel model, int prefill_step, uint64_t memory_bytes, PrefixCache& prefixes);
  ~Scheduler();

  // Reads an adapter's folder and keeps the model with it beside the model, whose weights they share. Throws what
  // read_adapter and ModelSource::adapted throw.
  void add_adapter(uint64_t id, const std::string& folder);
  // Throws what mlxk::check_quantization throws.
  void check_quantization(const KVQuantization& quantization);
  void submit(Request request);
  void cancel(uint64_t id);
  void credit(uint64_t id, uint64_t tokens);
  // Ends everything with `abort`; what the device still runs is waited for.
  void cancel_all();

  // False when nothing can be done until a request, a cancel or credit arrives.
  bool runnable() const;
  // Launches one decode step for all ready rows and one prefill chunk, then reads what was launched before.
  void step();

 private:
  struct Row;
  struct Flight;  // a launched forward pass whose tokens were not read yet
  using Rows = std::vector<std::shared_ptr<Row>>;

  std::vector<std::shared_ptr<Flight>> launch_decode();
  std::shared_ptr<Flight> launch_decode(const Model& model, const Rows& rows);
  std::shared_ptr<Flight> launch_prefill();
  void launch_sample(const Array& hidden, Flight& flight);
  Array next_ids(const Rows& rows) const;
  void land(Flight& flight);
  void end(Row& row, End how, const EngineError* error = nullptr);
  void start(Row& row);
  void keep(Row& row);
  // Throws insufficient_memory / prefill_exceeds_budget.
  void require(const Row& row, uint64_t more_bytes);
  bool fits(uint64_t more_bytes);
  Row* find(uint64_t id) const;

  LoadedModel model_;
  std::map<uint64_t, std::unique_ptr<Model>> adapted_;
  std::optional<KVQuantization> fitting_;  // the last one that was found to fit
  int prefill_step_;
  uint64_t memory_bytes_;
  PrefixCache& prefixes_;
  Rows rows_;  // in order of arrival
  std::vector<std::shared_ptr<Flight>> in_flight_;
  uint64_t steps_ = 0;
};

}  // namespace mlxk
