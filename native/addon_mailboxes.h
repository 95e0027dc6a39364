// How what the engine tells of a model's work becomes JavaScript values (lib/native.d.ts: NativeEvents): it arrives on
// the engine thread as plain data, waits in a mailbox, and is delivered on the JS thread.

#pragma once

#include <napi.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine.h"
#include "js_error.h"
#include "mailbox.h"

namespace mlxk {

inline const char* end_name(End end) {
  switch (end) {
    case End::stop: return "stop";
    case End::length: return "length";
    case End::abort: return "abort";
    case End::error: return "error";
  }
  return "error";
}

inline Napi::Object stats_object(Napi::Env env, const GenerationStats& stats) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("promptTokens", stats.prompt_tokens);
  object.Set("cachedTokens", stats.cached_tokens);
  object.Set("completionTokens", stats.completion_tokens);
  object.Set("queueMs", stats.queue_ms);
  object.Set("prefillMs", stats.prefill_ms);
  object.Set("decodeMs", stats.decode_ms);
  object.Set("peakMemoryBytes", static_cast<double>(stats.peak_memory_bytes));
  return object;
}

template <class ArrayType, class Value>
ArrayType typed_array(Napi::Env env, const std::vector<Value>& values) {
  ArrayType array = ArrayType::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

// Token events of one generation, in NativeEvents' shape.
class GenerationMailbox final : public Mailbox, public Listener {
 public:
  using Mailbox::Mailbox;

  void prefill(int done, int total) override {
    put([&] { pending_.prefill = {done, total}; });
  }
  void token(uint32_t id, float logprob) override {
    put([&] {
      pending_.tokens.push_back(id);
      pending_.logprobs.push_back(logprob);
    });
  }
  void scores(std::span<const float>) override {}
  void end(End end, const GenerationStats& stats, const EngineError* error) override {
    put([&] {
      pending_.end = {end, stats};
      if (error != nullptr) pending_.error = *error;
    });
  }

  void deliver(Napi::Env env, Channel& channel) override {
    Events events;
    open([&] { events = std::exchange(pending_, {}); });
    Receiver* receiver = channel.receiver(id());
    if (receiver == nullptr) return;

    Napi::Object object = Napi::Object::New(env);
    object.Set("tokens", typed_array<Napi::Uint32Array>(env, events.tokens));
    object.Set("logprobs", typed_array<Napi::Float32Array>(env, events.logprobs));
    if (events.prefill) {
      Napi::Object prefill = Napi::Object::New(env);
      prefill.Set("done", events.prefill->first);
      prefill.Set("total", events.prefill->second);
      object.Set("prefill", prefill);
    }
    if (!events.end) {
      Channel::call(env, receiver->callback, {object});
      return;
    }
    object.Set("end", end_name(events.end->first));
    object.Set("stats", stats_object(env, events.end->second));
    if (events.error) object.Set("error", to_js_error(env, *events.error).Value());
    const Napi::FunctionReference callback = std::move(receiver->callback);
    channel.settled(id());
    Channel::call(env, callback, {object});
  }

 private:
  struct Events {
    std::vector<uint32_t> tokens;
    std::vector<float> logprobs;
    std::optional<std::pair<int, int>> prefill;
    std::optional<std::pair<End, GenerationStats>> end;
    std::optional<EngineError> error;
  };
  Events pending_;
};

// The scores after a prompt, as a promise.
class ScoresMailbox final : public Mailbox, public Listener {
 public:
  using Mailbox::Mailbox;

  void prefill(int, int) override {}
  void token(uint32_t, float) override {}
  void scores(std::span<const float> logits) override { scores_.assign(logits.begin(), logits.end()); }
  void end(End end, const GenerationStats&, const EngineError* error) override {
    put([&] {
      if (error != nullptr) error_ = *error;
      if (end == End::abort) error_ = EngineError("validation_error", "disposed", "the model was disposed");
    });
  }

  void deliver(Napi::Env env, Channel& channel) override {
    Receiver* receiver = channel.receiver(id());
    if (receiver == nullptr) return;
    const auto deferred = std::move(receiver->deferred);
    channel.settled(id());
    if (error_) {
      deferred->Reject(to_js_error(env, *error_).Value());
    } else {
      deferred->Resolve(typed_array<Napi::Float32Array>(env, scores_));
    }
  }

 private:
  std::vector<float> scores_;
  std::optional<EngineError> error_;
};

// The number of an adapter that was added, as a promise.
class AdapterMailbox final : public Mailbox {
 public:
  using Mailbox::Mailbox;
  void done(const EngineError* error) {
    put([&] {
      if (error != nullptr) error_ = *error;
    });
  }
  void deliver(Napi::Env env, Channel& channel) override {
    Receiver* receiver = channel.receiver(id());
    if (receiver == nullptr) return;
    const auto deferred = std::move(receiver->deferred);
    channel.settled(id());
    if (error_) {
      deferred->Reject(to_js_error(env, *error_).Value());
    } else {
      deferred->Resolve(Napi::Number::New(env, static_cast<double>(id())));
    }
  }

 private:
  std::optional<EngineError> error_;
};

class DisposeMailbox final : public Mailbox {
 public:
  using Mailbox::Mailbox;
  void done() {
    put([] {});
  }
  void deliver(Napi::Env env, Channel& channel) override {
    Receiver* receiver = channel.receiver(id());
    if (receiver == nullptr) return;
    const auto deferred = std::move(receiver->deferred);
    channel.settled(id());
    deferred->Resolve(env.Undefined());
  }
};

}  // namespace mlxk
