// What one JavaScript environment (the main thread, or a worker) holds: its share of the engine, its way back to the
// event loop, its classes. Hangs from the environment's instance data; nothing here is process-wide.
// Thread: JS thread of that environment.

#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "channel.h"
#include "engine.h"

namespace mlxk {

struct Environment {
  explicit Environment(Napi::Env env) : channel(std::make_shared<Channel>(env)) {}

  // Starts the engine with the first thing that needs it: listing versions or tokenizing starts no thread.
  const std::shared_ptr<Engine>& running() {
    if (closed) invalid("exiting", "the process or worker is exiting");
    if (!engine) engine = Engine::acquire();
    return engine;
  }

  // On exit and in the cleanup hook, whichever comes first. First nothing more is delivered, then the engine lets go of
  // what is ours; it may take the rest of one step.
  void close() {
    if (std::exchange(closed, true)) return;
    channel->close();
    if (engine) engine->forget(id);
    engine.reset();
  }

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  const uint64_t id = Engine::new_id();
  bool closed = false;
  std::shared_ptr<Channel> channel;
  std::shared_ptr<Engine> engine;
  Napi::FunctionReference model_class, generation_class;
};

}  // namespace mlxk
