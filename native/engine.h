// The one MLX thread of the process: a job queue, the models it holds, and the loop that steps them.
// Every array is made, evaluated and freed here. Environments (the main thread, each worker) share it; once started it
// stays until the process exits. Knows no N-API. Thread: the public functions may be called from any thread.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "scheduler.h"

namespace mlxk {

struct LoadOptions {
  int prefill_step = 0;                             // 0: 512 on the CPU, 2048 on a GPU
  int context_length = 0;                           // 0: what the config states
  uint64_t memory_bytes = 0;                        // 0: the machine's memory, or the GPU's recommended working set
  std::optional<KVQuantization> kv_quantization{};  // that requests will ask for, to be refused now if it does not fit
};

// Called on the engine thread; exactly one of `loaded` and `failed` ends it.
class LoadListener {
 public:
  virtual ~LoadListener() = default;
  virtual void progress(uint64_t done_bytes, uint64_t total_bytes) = 0;
  virtual void loaded(const ModelInfo& info) = 0;
  virtual void failed(const EngineError& error) = 0;
};

// Work other than a model's, done on the engine thread in steps between those of the models.
class Task {
 public:
  virtual ~Task() = default;
  // Works for a fraction of a second; true once all is done. What it throws ends the task.
  virtual bool step() = 0;
  // Exactly one of these two is the last call.
  virtual void finished() = 0;
  virtual void failed(const EngineError& error) = 0;
};

class Engine {
 public:
  // The process's engine, started by the first who asks. When the process exits it ends before MLX's own objects do,
  // whichever way that is (process.exit, process.reallyExit, exit() from another library).
  static std::shared_ptr<Engine> acquire();
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // A number for a new environment, model or request.
  static uint64_t new_id();

  void load(uint64_t owner, uint64_t model, std::string folder, LoadOptions options,
            std::shared_ptr<LoadListener> listener);
  // Ends a load with reason `aborted`; no effect once it is done.
  void cancel_load(uint64_t model);
  // Adds an adapter to a model, then calls `done` with what went wrong, or null.
  void add_adapter(uint64_t model, uint64_t adapter, std::string folder, std::function<void(const EngineError*)> done);
  void generate(uint64_t model, Request request);
  void cancel(uint64_t model, uint64_t request);
  void credit(uint64_t model, uint64_t request, uint64_t tokens);
  // Cancels what runs on the model, frees it, then calls `done`.
  void dispose(uint64_t model, std::function<void()> done);
  void start(uint64_t owner, uint64_t id, std::shared_ptr<Task> task);
  // Ends a task with reason `aborted`; no effect once it is done.
  void cancel_task(uint64_t id);
  // Drops everything of one environment without telling its listeners; returns when the engine has let go of them.
  // Takes one step of the engine at most.
  void forget(uint64_t owner);

 private:
  struct Loading;
  struct Resident {
    uint64_t owner;
    std::unique_ptr<Scheduler> scheduler;
    bool stepped;
  };
  struct Work {
    uint64_t owner, id;
    std::shared_ptr<Task> task;
    bool done = false;
  };

  Engine();
  static void stop_before_exit();
  void halt();
  void run();
  void post(std::function<void()> job);
  bool step();
  std::unique_ptr<Loader> open(const std::string& folder, const LoadOptions& options);
  void step_load(Loading& loading);
  static void step_task(Work& work);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void()>> inbox_;
  bool stopping_ = false;

  // Engine thread only.
  PrefixCache prefixes_;
  std::vector<std::unique_ptr<Loading>> loading_;
  std::map<uint64_t, Resident> models_;
  std::vector<Work> tasks_;

  std::thread thread_;
};

}  // namespace mlxk
