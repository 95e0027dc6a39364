// See engine.h.

#include "engine.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <future>

#include "memory_budget.h"

namespace mlxk {
namespace {

constexpr int kPrefillStepCpu = 512;   // short enough that cancel and other rows wait less than a second
constexpr int kPrefillStepGpu = 2048;  // as mlx-lm

// Of the budget, MLX may keep this share as freed buffers: its own default lets them grow without bound.
constexpr uint64_t kCacheShare = 4;
// And caches of ended generations this one.
constexpr uint64_t kPrefixShare = 4;

// The engine, once there is one, for whom the process's exit must wait. MLX's objects are destroyed by exit handlers,
// newest first, and some are made long after the engine: so the handler is entered again after each thing that may make
// one. It stays when nobody uses it, because MLX keeps the thread of a stream for good: with an engine for each worker
// that comes and goes, threads would pile up. Never destroyed: what is left of it after the exit handlers holds
// nothing.
struct Running {
  std::mutex mutex;
  std::shared_ptr<Engine> engine;
};

Running& running() {
  static Running& instance = *new Running;
  return instance;
}

uint64_t device_budget() {
  const uint64_t machine = machine_memory_bytes(), gpu = mx::recommended_working_set();
  return gpu > 0 ? std::min<uint64_t>(gpu, machine) : machine;
}

// After a model went.
void release_memory() {
  mx::clear_cache();
  return_freed_memory();
}

}  // namespace

struct Engine::Loading {
  uint64_t owner, model;
  LoadOptions options;
  std::unique_ptr<Loader> loader;
  std::shared_ptr<LoadListener> listener;
  bool done = false;
};

std::shared_ptr<Engine> Engine::acquire() {
  const std::lock_guard lock(running().mutex);
  auto& engine = running().engine;
  if (!engine) engine = std::shared_ptr<Engine>(new Engine());
  return engine;
}

void Engine::stop_before_exit() {
  constexpr int kMost = 64;  // models made after that many have made everything MLX keeps
  static std::atomic<int> entered{0};
  if (entered++ >= kMost) return;
  std::atexit([] {
    std::shared_ptr<Engine> engine;
    {
      const std::lock_guard lock(running().mutex);
      engine = running().engine;
    }
    if (engine) engine->halt();
  });
}

uint64_t Engine::new_id() {
  static std::atomic<uint64_t> next{1};
  return next++;
}

Engine::Engine() : thread_([this] { run(); }) {}

Engine::~Engine() { halt(); }

void Engine::halt() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Engine::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    inbox_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void Engine::run() {
  const mx::Thread thread(mx::default_device());
  const uint64_t budget = device_budget();
  mx::set_memory_limit(budget);
  mx::set_cache_limit(budget / kCacheShare);
  prefixes_.limit(budget / kPrefixShare);
  mx::wire_recommended_memory();
  mx::eval({mx::zeros({1}, mx::Type::f32)});
  stop_before_exit();
  bool busy = false;
  while (true) {
    std::vector<std::function<void()>> jobs;
    {
      std::unique_lock lock(mutex_);
      if (!busy) wake_.wait(lock, [this] { return stopping_ || !inbox_.empty(); });
      jobs.swap(inbox_);
      if (stopping_) break;
    }
    for (auto& job : jobs) job();
    jobs.clear();
    busy = step();
  }
  loading_.clear();
  models_.clear();
  tasks_.clear();
}

bool Engine::step() {
  for (auto& loading : loading_) step_load(*loading);
  std::erase_if(loading_, [](const auto& loading) { return loading->done; });
  for (auto& work : tasks_) step_task(work);
  std::erase_if(tasks_, [](const auto& work) { return work.done; });
  bool busy = !loading_.empty() || !tasks_.empty();
  for (auto& [id, model] : models_) {
    if (!model.scheduler->runnable()) continue;
    model.scheduler->step();
    if (!std::exchange(model.stepped, true)) stop_before_exit();
    busy = busy || model.scheduler->runnable();
  }
  return busy;
}

void Engine::step_load(Loading& loading) {
  try {
    const bool read = loading.loader->step();
    loading.listener->progress(loading.loader->done_bytes(), loading.loader->total_bytes());
    if (!read) return;
    LoadedModel model = loading.loader->finish();
    const ModelInfo info = model.info;
    const int step = loading.options.prefill_step > 0          ? loading.options.prefill_step
                     : mx::default_device() == mx::Device::gpu ? kPrefillStepGpu
                                                               : kPrefillStepCpu;
    auto scheduler = std::make_unique<Scheduler>(std::move(model), step, loading.options.memory_bytes, prefixes_);
    if (const auto& quantization = loading.options.kv_quantization) scheduler->check_quantization(*quantization);
    models_.emplace(loading.model, Resident{loading.owner, std::move(scheduler), false});
    loading.done = true;
    loading.listener->loaded(info);
  } catch (...) {
    loading.done = true;
    loading.listener->failed(current_error());
  }
}

void Engine::step_task(Work& work) {
  try {
    if (!work.task->step()) return;
    work.done = true;
    work.task->finished();
  } catch (...) {
    work.done = true;
    work.task->failed(current_error());
  }
}

// What ended generations left makes room for a model.
std::unique_ptr<Loader> Engine::open(const std::string& folder, const LoadOptions& options) {
  while (true) {
    try {
      return std::make_unique<Loader>(folder, options.context_length, options.memory_bytes);
    } catch (const EngineError& error) {
      if (error.code != "insufficient_memory" || !prefixes_.drop_oldest()) throw;
    }
  }
}

void Engine::load(uint64_t owner, uint64_t model, std::string folder, LoadOptions options,
                  std::shared_ptr<LoadListener> listener) {
  post([this, owner, model, folder = std::move(folder), options, listener = std::move(listener)]() mutable {
    try {
      if (options.memory_bytes == 0) options.memory_bytes = device_budget();
      auto loader = open(folder, options);
      loading_.push_back(std::make_unique<Loading>(Loading{owner, model, options, std::move(loader), listener}));
    } catch (...) {
      listener->failed(current_error());
    }
  });
}

void Engine::cancel_load(uint64_t model) {
  post([this, model] {
    for (auto& loading : loading_) {
      if (loading->model != model) continue;
      loading->done = true;
      loading->listener->failed(EngineError("validation_error", "aborted", "the load was aborted"));
    }
    std::erase_if(loading_, [](const auto& loading) { return loading->done; });
  });
}

void Engine::add_adapter(uint64_t model, uint64_t adapter, std::string folder,
                         std::function<void(const EngineError*)> done) {
  post([this, model, adapter, folder = std::move(folder), done = std::move(done)] {
    try {
      const auto found = models_.find(model);
      if (found == models_.end()) invalid("disposed", "the model was disposed");
      found->second.scheduler->add_adapter(adapter, folder);
      done(nullptr);
    } catch (...) {
      const EngineError error = current_error();
      done(&error);
    }
  });
}

void Engine::generate(uint64_t model, Request request) {
  post([this, model, request = std::move(request)]() mutable {
    const auto found = models_.find(model);
    if (found != models_.end()) {
      found->second.scheduler->submit(std::move(request));
    } else {
      request.listener->end(End::abort, {}, nullptr);  // disposed while the request was on its way
    }
  });
}

void Engine::cancel(uint64_t model, uint64_t request) {
  post([this, model, request] {
    if (const auto found = models_.find(model); found != models_.end()) found->second.scheduler->cancel(request);
  });
}

void Engine::credit(uint64_t model, uint64_t request, uint64_t tokens) {
  post([this, model, request, tokens] {
    if (const auto found = models_.find(model); found != models_.end()) {
      found->second.scheduler->credit(request, tokens);
    }
  });
}

void Engine::dispose(uint64_t model, std::function<void()> done) {
  post([this, model, done = std::move(done)] {
    if (models_.erase(model) > 0) release_memory();
    done();
  });
}

void Engine::start(uint64_t owner, uint64_t id, std::shared_ptr<Task> task) {
  post([this, owner, id, task = std::move(task)]() mutable { tasks_.push_back({owner, id, std::move(task)}); });
}

void Engine::cancel_task(uint64_t id) {
  post([this, id] {
    for (auto& work : tasks_) {
      if (work.id != id) continue;
      work.done = true;
      work.task->failed(EngineError("validation_error", "aborted", "the work was aborted"));
    }
    std::erase_if(tasks_, [](const auto& work) { return work.done; });
  });
}

void Engine::forget(uint64_t owner) {
  std::promise<void> gone;
  post([this, owner, &gone] {
    std::erase_if(loading_, [owner](const auto& loading) { return loading->owner == owner; });
    if (std::erase_if(models_, [owner](const auto& model) { return model.second.owner == owner; }) > 0)
      release_memory();
    std::erase_if(tasks_, [owner](const auto& work) { return work.owner == owner; });
    gone.set_value();
  });
  gone.get_future().wait();
}

}  // namespace mlxk
