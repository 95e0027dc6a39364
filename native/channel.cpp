// See channel.h.

#include "channel.h"

namespace mlxk {

Channel::Channel(Napi::Env env) : env_(env) {
  const Napi::String name = Napi::String::New(env, "mlxk");
  const auto on_wake = [](napi_env raw, napi_value, void* context, void*) {
    if (raw == nullptr) return;  // the environment is gone; what is queued has nobody to go to
    const Napi::Env here(raw);
    const Napi::HandleScope scope(here);
    try {
      static_cast<Channel*>(context)->drain(here);
    } catch (const Napi::Error&) {
      // A worker being terminated: no JavaScript runs any more, and nobody waits for these results.
    }
  };
  const napi_status status =
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, on_wake, &wake_);
  if (status != napi_ok) throw Napi::Error::New(env, "mlxk could not attach to the event loop");
  napi_unref_threadsafe_function(env, wake_);
}

void Channel::expect(uint64_t id, Receiver receiver) {
  if (receivers_.empty()) napi_ref_threadsafe_function(env_, wake_);
  receivers_.emplace(id, std::move(receiver));
}

Receiver* Channel::receiver(uint64_t id) {
  const auto found = receivers_.find(id);
  return found == receivers_.end() ? nullptr : &found->second;
}

void Channel::settled(uint64_t id) {
  if (receivers_.erase(id) > 0 && receivers_.empty()) napi_unref_threadsafe_function(env_, wake_);
}

void Channel::call(Napi::Env env, const Napi::FunctionReference& callback, const std::vector<napi_value>& arguments) {
  const Napi::Function function = callback.Value();
  const napi_value global = env.Global();
  if (napi_call_function(env, global, function, arguments.size(), arguments.data(), nullptr) == napi_ok) return;
  bool pending = false;
  napi_value error = nullptr;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error);  // raises 'uncaughtException'
  }
}

void Channel::post(std::shared_ptr<Delivery> delivery) {
  // Held across the call: before Node 24.14 and 25.4 a thread-safe function must not be touched once its
  // environment is being torn down.
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  queue_.push_back(std::move(delivery));
  if (!signalled_) signalled_ = napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking) == napi_ok;
}

void Channel::drain(Napi::Env env) {
  std::vector<std::shared_ptr<Delivery>> ready;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    signalled_ = false;
    ready.swap(queue_);
  }
  for (const auto& delivery : ready) {
    const Napi::HandleScope scope(env);
    delivery->deliver(env, *this);
  }
}

void Channel::close() {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
    queue_.clear();
  }
  receivers_.clear();
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
}

}  // namespace mlxk
