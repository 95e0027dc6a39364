// See addon_convert.h.

#include "addon_convert.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon_arguments.h"
#include "addon_background.h"
#include "convert.h"
#include "environment.h"
#include "js_error.h"
#include "mailbox.h"
#include "safetensors.h"

namespace mlxk {
namespace {

// --- readSafetensors -----------------------------------------------------------------------------------------------

Napi::Value tensor_array(Napi::Env env, const std::vector<TensorEntry>& tensors) {
  Napi::Array array = Napi::Array::New(env, tensors.size());
  for (uint32_t i = 0; i < tensors.size(); ++i) {
    const Napi::HandleScope scope(env);
    const TensorEntry& tensor = tensors[i];
    Napi::Array shape = Napi::Array::New(env, tensor.shape.size());
    for (uint32_t axis = 0; axis < tensor.shape.size(); ++axis) {
      shape.Set(axis, static_cast<double>(tensor.shape[axis]));
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", tensor.name);
    object.Set("dtype", dtype_name(tensor.dtype));
    object.Set("shape", shape);
    object.Set("begin", static_cast<double>(tensor.begin));
    object.Set("bytes", static_cast<double>(tensor.bytes()));
    array.Set(i, object);
  }
  return array;
}

Napi::Value read_safetensors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    return BackgroundWork<std::vector<TensorEntry>>::start(
        env, "mlxk:readSafetensors",
        [path = string_argument(info, 0, "path")] { return SafetensorsFile::open(path).tensors(); }, tensor_array);
  });
}

// --- convert -------------------------------------------------------------------------------------------------------

// The end of a task, and progress before it where there is any.
class WorkMailbox final : public Mailbox {
 public:
  using Mailbox::Mailbox;

  void progress(uint64_t done, uint64_t total) {
    put([&] { progress_ = {done, total}; });
  }
  void end(std::optional<EngineError> error) {
    put([&] {
      ended_ = true;
      error_ = std::move(error);
    });
  }

  void deliver(Napi::Env env, Channel& channel) override {
    std::optional<std::pair<uint64_t, uint64_t>> progress;
    bool ended = false;
    std::optional<EngineError> error;
    open([&] {
      progress = std::exchange(progress_, {});
      ended = ended_;
      error = error_;
    });
    Receiver* receiver = channel.receiver(id());
    if (receiver == nullptr) return;
    if (progress) {
      Channel::call(env, receiver->callback,
                    {Napi::Number::New(env, static_cast<double>(progress->first)),
                     Napi::Number::New(env, static_cast<double>(progress->second))});
    }
    if (!ended) return;
    const auto deferred = std::move(receiver->deferred);
    channel.settled(id());
    if (error) {
      deferred->Reject(to_js_error(env, *error).Value());
    } else {
      deferred->Resolve(env.Undefined());
    }
  }

 private:
  std::optional<std::pair<uint64_t, uint64_t>> progress_;
  bool ended_ = false;
  std::optional<EngineError> error_;
};

// The plan is read and the files are opened on the engine thread: both take time with many tensors.
class ConvertTask final : public Task {
 public:
  ConvertTask(std::string plan, std::shared_ptr<WorkMailbox> mailbox)
      : plan_(std::move(plan)), mailbox_(std::move(mailbox)) {}

  bool step() override {
    if (!conversion_) {
      conversion_ = std::make_unique<Conversion>(ConversionPlan::parse(plan_));
      plan_ = {};
    }
    const bool done = conversion_->step();
    mailbox_->progress(conversion_->done_bytes(), conversion_->total_bytes());
    return done;
  }
  void finished() override {
    conversion_.reset();
    mx::clear_cache();
    mailbox_->end({});
  }
  void failed(const EngineError& error) override {
    conversion_.reset();
    mx::clear_cache();
    mailbox_->end(error);
  }

 private:
  std::string plan_;
  std::shared_ptr<WorkMailbox> mailbox_;
  std::unique_ptr<Conversion> conversion_;
};

class CheckTask final : public Task {
 public:
  CheckTask(std::string folder, std::shared_ptr<WorkMailbox> mailbox)
      : folder_(std::move(folder)), mailbox_(std::move(mailbox)) {}

  bool step() override {
    Loader::check(folder_);
    return true;
  }
  void finished() override { mailbox_->end({}); }
  void failed(const EngineError& error) override { mailbox_->end(error); }

 private:
  std::string folder_;
  std::shared_ptr<WorkMailbox> mailbox_;
};

Napi::Value check_model(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string folder = string_argument(info, 0, "folder");
    Environment& environment = Environment::of(env);
    const auto& engine = environment.running();
    const uint64_t id = Engine::new_id();
    auto deferred = std::make_unique<Napi::Promise::Deferred>(env);
    const Napi::Promise promise = deferred->Promise();
    environment.channel->expect(id, {{}, std::move(deferred), {}});
    auto mailbox = std::make_shared<WorkMailbox>(environment.channel, id);
    engine->start(environment.id, id, std::make_shared<CheckTask>(std::move(folder), std::move(mailbox)));
    return promise;
  });
}

Napi::Value convert(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    std::string plan = string_argument(info, 0, "plan");
    const Napi::Function on_progress = function_argument(info, 1, "onProgress");
    Environment& environment = Environment::of(env);
    const auto& engine = environment.running();
    const uint64_t id = Engine::new_id();
    auto deferred = std::make_unique<Napi::Promise::Deferred>(env);
    Napi::Object converting = Napi::Object::New(env);
    converting.Set("promise", deferred->Promise());
    converting.Set("cancel", Napi::Function::New(env, [id](const Napi::CallbackInfo& call) {
                     if (const auto& running = Environment::of(call.Env()).engine) running->cancel_task(id);
                   }));
    environment.channel->expect(id, {Napi::Persistent(on_progress), std::move(deferred), {}});
    engine->start(
        environment.id, id,
        std::make_shared<ConvertTask>(std::move(plan), std::make_shared<WorkMailbox>(environment.channel, id)));
    return converting;
  });
}

}  // namespace

void register_convert(Napi::Env env, Napi::Object exports) {
  exports.Set("readSafetensors", Napi::Function::New(env, read_safetensors, "readSafetensors"));
  exports.Set("checkModel", Napi::Function::New(env, check_model, "checkModel"));
  exports.Set("convert", Napi::Function::New(env, convert, "convert"));
}

}  // namespace mlxk
