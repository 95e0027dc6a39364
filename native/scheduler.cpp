// See scheduler.h.

#include "scheduler.h"

#include <algorithm>
#include <cmath>

#include "prefill.h"

namespace mlxk {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxRows = 32;             // rows decoding together, as mlx-lm's completion_batch_size
constexpr uint64_t kClearCacheSteps = 256;  // MLX's free list is given back this often, as mlx-lm does

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

struct Scheduler::Row {
  Request request;
  const Model& model;
  SequenceCache cache;
  Sampler sampler;
  uint32_t limit;             // tokens this row may produce
  std::vector<int> passes{};  // tokens of each forward pass over the prompt, once it is started
  size_t pass = 0;            // the next of them
  size_t prefilled = 0;       // prompt tokens launched, or found in a kept cache
  size_t cached = 0;          // the latter
  uint32_t launched = 0;      // tokens sampled, read or not
  uint32_t delivered = 0;     // tokens read and sent
  uint64_t credit;            // tokens that may still be launched
  bool cancelled = false, ended = false;
  Clock::time_point started{}, first_token{};
  std::vector<uint32_t> answer{};  // what was delivered, with keep_prefix
  // Where the newest sampled token is.
  std::shared_ptr<Flight> flight{};
  int flight_index = 0;

  bool prefilling() const { return prefilled < request.prompt.size(); }
  bool ready() const { return !ended && !prefilling() && launched < limit && credit > 0; }
};

struct Scheduler::Flight {
  Rows rows;
  Sampled sampled;
  Array scores;  // float32 [V], for a row that asked for scores only
  bool scores_only = false;
};

Scheduler::Scheduler(LoadedModel model, int prefill_step, uint64_t memory_bytes, PrefixCache& prefixes)
    : model_(std::move(model)), prefill_step_(prefill_step), memory_bytes_(memory_bytes), prefixes_(prefixes) {}

Scheduler::~Scheduler() {
  cancel_all();
  prefixes_.forget(model_.model.get());
  for (const auto& [id, model] : adapted_) prefixes_.forget(model.get());
}

void Scheduler::add_adapter(uint64_t id, const std::string& folder) {
  adapted_[id] = model_.source.adapted(read_adapter(folder, [this](uint64_t bytes) { return fits(bytes); }));
}

void Scheduler::check_quantization(const KVQuantization& quantization) {
  if (fitting_ == quantization) return;
  mlxk::check_quantization(*model_.model, quantization);
  fitting_ = quantization;
}

void Scheduler::submit(Request request) {
  const auto adapted = adapted_.find(request.adapter);
  const Model& model = adapted == adapted_.end() ? *model_.model : *adapted->second;
  const auto room = static_cast<uint32_t>(model_.info.context_length) - static_cast<uint32_t>(request.prompt.size());
  auto row = std::make_shared<Row>(Row{.request = {},
                                       .model = model,
                                       .cache = model.new_cache(),
                                       .sampler = Sampler(request.sampling),
                                       .limit = std::min(request.max_tokens, room),
                                       .credit = request.credit});
  row->cache.quantization = request.kv_quantization;
  row->request = std::move(request);
  try {
    if (row->request.kv_quantization) check_quantization(*row->request.kv_quantization);
  } catch (...) {
    const EngineError error = current_error();
    return end(*row, End::error, &error);
  }
  if (row->limit == 0 && !row->request.scores_only) return end(*row, End::length);
  rows_.push_back(row);
}

Scheduler::Row* Scheduler::find(uint64_t id) const {
  for (const auto& row : rows_) {
    if (row->request.id == id) return row.get();
  }
  return nullptr;
}

void Scheduler::cancel(uint64_t id) {
  if (Row* row = find(id)) row->cancelled = true;
}

void Scheduler::credit(uint64_t id, uint64_t tokens) {
  if (Row* row = find(id)) row->credit += tokens;
}

void Scheduler::cancel_all() {
  for (const auto& row : rows_) end(*row, End::abort);
  rows_.clear();
  in_flight_.clear();
  // Waits, so that no launched step outlives the arrays it reads; a failure of that step has no reader left.
  try {
    mx::synchronize();
  } catch (const EngineError&) {
  }
}

bool Scheduler::runnable() const {
  if (!in_flight_.empty()) return true;
  return std::any_of(rows_.begin(), rows_.end(),
                     [](const auto& row) { return row->cancelled || row->prefilling() || row->ready(); });
}

void Scheduler::step() {
  for (const auto& row : rows_) {
    if (row->cancelled) end(*row, End::abort);
  }
  std::erase_if(rows_, [](const auto& row) { return row->ended; });

  std::vector<std::shared_ptr<Flight>> launched = launch_decode();
  if (auto prefill = launch_prefill()) launched.push_back(std::move(prefill));
  for (const auto& flight : std::exchange(in_flight_, std::move(launched))) land(*flight);

  std::erase_if(rows_, [](const auto& row) { return row->ended; });
  if (++steps_ % kClearCacheSteps == 0 || rows_.empty()) mx::clear_cache();
}

// The newest token of each row, [B, 1], still on the device.
Array Scheduler::next_ids(const Rows& rows) const {
  const auto& first = rows.front()->flight;
  bool same = first->rows.size() == rows.size();
  for (size_t i = 0; same && i < rows.size(); ++i) {
    same = rows[i]->flight == first && rows[i]->flight_index == static_cast<int>(i);
  }
  const int count = static_cast<int>(rows.size());
  if (same) return mx::reshape(first->sampled.tokens, {count, 1});
  std::vector<Array> ids;
  for (const auto& row : rows) {
    ids.push_back(mx::slice(row->flight->sampled.tokens, 0, row->flight_index, row->flight_index + 1));
  }
  return mx::reshape(mx::concatenate(ids, 0), {count, 1});
}

// hidden [B, L, D]: samples from the last position of each of the flight's rows.
void Scheduler::launch_sample(const Array& hidden, Flight& flight) {
  const int batch = hidden.dim(0), length = hidden.dim(1);
  const Array last = length == 1 ? hidden : mx::slice(hidden, 1, length - 1, length);
  const Array logits = mx::reshape(flight.rows.front()->model.logits(last), {batch, -1});
  if (flight.scores_only) {
    flight.scores = mx::contiguous(mx::astype(logits, mx::Type::f32));
    mx::async_eval({flight.scores});
    return;
  }
  std::vector<Sampler*> samplers;
  for (const auto& row : flight.rows) samplers.push_back(&row->sampler);
  flight.sampled = sample(logits, samplers);
  mx::async_eval({flight.sampled.tokens, flight.sampled.logprobs});
}

std::vector<std::shared_ptr<Scheduler::Flight>> Scheduler::launch_decode() {
  std::vector<std::pair<const Model*, Rows>> groups;  // rows that share a model run together
  size_t count = 0;
  for (const auto& row : rows_) {
    if (!row->ready() || count == kMaxRows) continue;
    // A cache grows, and is packed, by moving into other buffers, so both are held for a moment.
    const auto& quantization = row->cache.quantization;
    const bool grows =
        row->cache.position % KVCache::kStep == 0 || (quantization && row->cache.position == quantization->start);
    if (grows && !fits(2 * row->cache.bytes())) {
      row->limit = row->launched;
      if (row->delivered == row->launched) end(*row, End::length);
      continue;
    }
    auto group = std::ranges::find(groups, &row->model, &std::pair<const Model*, Rows>::first);
    if (group == groups.end()) group = groups.insert(groups.end(), {&row->model, {}});
    group->second.push_back(row);
    ++count;
  }
  std::vector<std::shared_ptr<Flight>> flights;
  for (const auto& [model, rows] : groups) {
    if (auto flight = launch_decode(*model, rows)) flights.push_back(std::move(flight));
  }
  return flights;
}

std::shared_ptr<Scheduler::Flight> Scheduler::launch_decode(const Model& model, const Rows& rows) {
  auto flight = std::make_shared<Flight>();
  flight->rows = rows;
  try {
    std::vector<SequenceCache*> caches;
    for (const auto& row : flight->rows) caches.push_back(&row->cache);
    Batch batch(caches, 1);
    launch_sample(model.hidden(next_ids(flight->rows), batch), *flight);
  } catch (...) {
    const EngineError error = current_error();
    for (const auto& row : flight->rows) end(*row, End::error, &error);
    return nullptr;
  }
  for (size_t i = 0; i < flight->rows.size(); ++i) {
    Row& row = *flight->rows[i];
    row.flight = flight;
    row.flight_index = static_cast<int>(i);
    ++row.launched;
    --row.credit;
  }
  return flight;
}

std::shared_ptr<Scheduler::Flight> Scheduler::launch_prefill() {
  const auto waiting =
      std::find_if(rows_.begin(), rows_.end(), [](const auto& row) { return !row->ended && row->prefilling(); });
  if (waiting == rows_.end() || waiting - rows_.begin() >= static_cast<std::ptrdiff_t>(kMaxRows)) return nullptr;
  const auto row = *waiting;
  const auto& prompt = row->request.prompt;
  if (row->started == Clock::time_point{}) start(*row);
  try {
    const Model& model = row->model;
    if (row->pass == 0 && row->passes.size() > 1) {
      const auto room = [this](uint64_t bytes) { return mx::active_memory() + bytes <= memory_bytes_; };
      require(*row, prompt_bytes(model, row->cache.quantization, static_cast<int>(prompt.size()), prefill_step_, room));
    }
    const uint64_t own = row->pass == 0 ? 0 : row->cache.bytes();  // before the first pass they may be a kept prefix
    const auto count = static_cast<size_t>(row->passes[row->pass++]);
    const std::span<const uint32_t> chunk(prompt.data() + row->prefilled, count);
    mx::take_work();
    Batch batch({&row->cache}, static_cast<int>(count));
    const Array hidden = model.hidden(mx::from_ids(chunk, {1, static_cast<int>(count)}), batch);
    require(*row, pass_bytes(model, own, row->cache, mx::take_work()));
    row->prefilled += count;
    row->request.listener->prefill(static_cast<int>(row->prefilled), static_cast<int>(prompt.size()));
    if (row->prefilling()) {
      std::vector<Array> states;
      row->cache.collect(states);
      mx::eval(states);  // bounds what is queued to one chunk, so that cancel takes one chunk at most
      return nullptr;
    }
    auto flight = std::make_shared<Flight>();
    flight->rows.push_back(row);
    flight->scores_only = row->request.scores_only;
    launch_sample(hidden, *flight);
    row->flight = flight;
    row->launched = 1;
    row->credit -= std::min<uint64_t>(row->credit, 1);
    return flight;
  } catch (...) {
    const EngineError error = current_error();
    end(*row, End::error, &error);
    return nullptr;
  }
}

void Scheduler::land(Flight& flight) {
  try {
    if (flight.scores_only) {
      Row& row = *flight.rows.front();
      mx::eval({flight.scores});
      if (row.ended) return;
      row.request.listener->scores(flight.scores.f32());
      end(row, End::stop);
      return;
    }
    mx::eval({flight.sampled.tokens, flight.sampled.logprobs});
    const auto tokens = flight.sampled.tokens.u32();
    const auto logprobs = flight.sampled.logprobs.f32();
    for (size_t i = 0; i < flight.rows.size(); ++i) {
      Row& row = *flight.rows[i];
      if (row.ended) continue;  // it stopped at the token before this one
      if (!std::isfinite(logprobs[i]) || tokens[i] >= static_cast<uint32_t>(model_.info.vocab_size)) {
        const EngineError error("internal_error", "non_finite_scores",
                                "the model's scores are not finite at position " +
                                    std::to_string(row.request.prompt.size() + row.delivered) +
                                    "; its weights or its number format are broken");
        end(row, End::error, &error);
        continue;
      }
      if (row.delivered++ == 0) row.first_token = Clock::now();
      if (row.request.keep_prefix) row.answer.push_back(tokens[i]);
      row.request.listener->token(tokens[i], logprobs[i]);
      if (row.request.stop_ids.contains(tokens[i])) {
        end(row, End::stop);
      } else if (row.delivered >= row.limit) {
        end(row, End::length);
      }
    }
  } catch (...) {
    const EngineError error = current_error();
    for (const auto& row : flight.rows) end(*row, End::error, &error);
    // A row that had ended before has left a cache that hangs on this flight.
    prefixes_.forget(&flight.rows.front()->model);
  }
}

void Scheduler::start(Row& row) {
  row.started = Clock::now();
  if (row.request.keep_prefix) {
    if (auto kept = prefixes_.take({&row.model, row.cache.quantization}, row.request.prompt)) {
      row.cache = std::move(*kept);
      row.prefilled = row.cached = static_cast<size_t>(row.cache.position);
    }
  }
  row.passes = prefill_passes(row.model, row.cache.quantization, row.cache.position,
                              static_cast<int>(row.request.prompt.size()), prefill_step_);
}

// Every token that a step was launched with has been read by now, since that step came after the one that made it.
void Scheduler::keep(Row& row) {
  std::vector<uint32_t> tokens = std::move(row.request.prompt);
  tokens.insert(tokens.end(), row.answer.begin(), row.answer.end());
  const auto positions = static_cast<size_t>(row.cache.position);
  if (positions == 0 || positions > tokens.size()) return;
  tokens.resize(positions);
  prefixes_.keep({&row.model, row.cache.quantization}, std::move(tokens), std::move(row.cache));
}

void Scheduler::end(Row& row, End how, const EngineError* error) {
  if (row.ended) return;
  row.ended = true;
  row.flight.reset();  // a flight holds its rows
  const size_t prompt_tokens = row.request.prompt.size();
  if (row.request.keep_prefix && how != End::error) keep(row);
  row.cache.layers.clear();
  const auto now = Clock::now();
  const bool started = row.started != Clock::time_point{}, answered = row.first_token != Clock::time_point{};
  GenerationStats stats;
  stats.prompt_tokens = static_cast<int>(prompt_tokens);
  stats.cached_tokens = static_cast<int>(row.cached);
  stats.completion_tokens = static_cast<int>(row.delivered);
  stats.queue_ms = ms_between(row.request.submitted, started ? row.started : now);
  stats.prefill_ms = started ? ms_between(row.started, answered ? row.first_token : now) : 0;
  stats.decode_ms = answered ? ms_between(row.first_token, now) : 0;
  stats.peak_memory_bytes = mx::peak_memory();
  row.request.listener->end(how, stats, error);
}

void Scheduler::require(const Row& row, uint64_t more_bytes) {
  if (fits(more_bytes)) return;
  fail("insufficient_memory", "prefill_exceeds_budget",
       "a prompt of " + std::to_string(row.request.prompt.size()) + " tokens needs about " +
           std::to_string(more_bytes) + " bytes more, the budget is " + std::to_string(memory_bytes_) + " bytes and " +
           std::to_string(mx::active_memory()) + " are in use");
}

bool Scheduler::fits(uint64_t more_bytes) {
  while (mx::active_memory() + more_bytes > memory_bytes_) {
    if (!prefixes_.drop_oldest()) return false;
  }
  return true;
}

}  // namespace mlxk
