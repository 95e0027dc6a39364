// Work on one of libuv's threads whose result settles a promise. Not for tensors: those have a thread of their own.

#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <utility>

#include "js_error.h"

namespace mlxk {

template <class Result>
class BackgroundWork final : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;
  using Convert = Napi::Value (*)(Napi::Env, const Result&);

  // `work` runs elsewhere and owns all it needs; `convert` runs on the JS thread. What `work` throws rejects.
  static Napi::Promise start(Napi::Env env, const char* name, Work work, Convert convert) {
    auto* worker = new BackgroundWork(env, name, std::move(work), convert);
    const Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();  // deletes itself once it is done
    return promise;
  }

 private:
  BackgroundWork(Napi::Env env, const char* name, Work work, Convert convert)
      : Napi::AsyncWorker(env, name),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        convert_(convert) {}

  void Execute() override {
    try {
      result_ = work_();
    } catch (...) {
      error_ = std::make_unique<EngineError>(current_error());
    }
  }

  void OnOK() override {
    // In an environment that is going down no value can be made and nobody waits for it.
    try {
      const Napi::HandleScope scope(Env());
      if (error_) {
        deferred_.Reject(to_js_error(Env(), *error_).Value());
      } else {
        deferred_.Resolve(convert_(Env(), result_));
      }
    } catch (...) {
    }
  }

  Napi::Promise::Deferred deferred_;
  Work work_;
  Convert convert_;
  Result result_;
  std::unique_ptr<EngineError> error_;
};

}  // namespace mlxk
