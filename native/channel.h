// The only bridge from other threads to one environment's JS loop: deliveries are queued, one wake-up brings them all,
// and nothing happens after `close`. JS values stay in this class's table and never leave the JS thread; what crosses
// is plain data. Thread: as each function says.

#pragma once

#include <napi.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace mlxk {

// The JS side of one piece of work: a callback, and a promise's settlement where there is one.
struct Receiver {
  Napi::FunctionReference callback;
  std::unique_ptr<Napi::Promise::Deferred> deferred;
  Napi::ObjectReference owner;  // must not be collected meanwhile
};

class Channel;

// Plain data on its way to a receiver. May be queued again as soon as `deliver` was entered.
class Delivery {
 public:
  virtual ~Delivery() = default;
  // JS thread, inside a handle scope.
  virtual void deliver(Napi::Env env, Channel& channel) = 0;
};

class Channel {
 public:
  // JS thread.
  explicit Channel(Napi::Env env);
  ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // JS thread. Enters a receiver; while there is one the event loop stays alive.
  void expect(uint64_t id, Receiver receiver);
  // JS thread. Null once it was settled.
  Receiver* receiver(uint64_t id);
  void settled(uint64_t id);
  // JS thread. Calls `callback`; what it throws becomes an uncaught exception, as from any Node callback.
  static void call(Napi::Env env, const Napi::FunctionReference& callback, const std::vector<napi_value>& arguments);

  // Any thread. Dropped after `close`.
  void post(std::shared_ptr<Delivery> delivery);

  // JS thread, from the environment's cleanup hook.
  void close();

 private:
  void drain(Napi::Env env);

  Napi::Env env_;
  napi_threadsafe_function wake_ = nullptr;
  std::unordered_map<uint64_t, Receiver> receivers_;

  std::mutex mutex_;
  bool closed_ = false, signalled_ = false;
  std::vector<std::shared_ptr<Delivery>> queue_;
};

}  // namespace mlxk
