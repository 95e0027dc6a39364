// See addon_model.h.

#include "addon_model.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "addon_arguments.h"
#include "addon_mailboxes.h"
#include "environment.h"
#include "js_error.h"
#include "mailbox.h"

namespace mlxk {
namespace {

constexpr double kMaxWhole = 4294967295.0;        // u32
constexpr double kMaxBytes = 9007199254740991.0;  // largest exact integer of a double
constexpr double kMostThreads = 256;
constexpr napi_type_tag kModelTag = {0x6d6c786b4d4f4445ULL, 0x9d1f5c3a7be24c10ULL};
constexpr napi_type_tag kGenerationTag = {0x6d6c786b47454e45ULL, 0x2f7a90cc51be4e83ULL};

// `kv`: undefined, or { bits, groupSize, start }.
std::optional<KVQuantization> kv_quantization(const Napi::Object& params) {
  const Napi::Value value = params.Get("kv");
  if (value.IsUndefined()) return std::nullopt;
  if (!value.IsObject()) throw Napi::TypeError::New(params.Env(), "kv must be an object");
  const auto kv = value.As<Napi::Object>();
  const KVQuantization quantization{static_cast<int>(whole_field(kv, "bits", 8)),
                                    static_cast<int>(whole_field(kv, "groupSize", 128)),
                                    static_cast<int>(whole_field(kv, "start", 1 << 30))};
  if (!quantization_supported({quantization.group_size, quantization.bits, "affine"})) {
    throw Napi::TypeError::New(params.Env(), "kv must have bits and groupSize of MLX's affine quantization");
  }
  return quantization;
}

// --- NativeGeneration ----------------------------------------------------------------------------------------------

class GenerationObject final : public Napi::ObjectWrap<GenerationObject> {
 public:
  struct Handle {
    std::weak_ptr<Engine> engine;
    uint64_t model, request;
  };

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeGeneration",
        {InstanceMethod<&GenerationObject::cancel>("cancel"), InstanceMethod<&GenerationObject::credit>("credit")});
  }

  explicit GenerationObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<GenerationObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal() ||
        !info[0].As<Napi::External<Handle>>().CheckTypeTag(&kGenerationTag)) {
      throw Napi::TypeError::New(info.Env(), "NativeGeneration cannot be constructed");
    }
    handle_ = *info[0].As<Napi::External<Handle>>().Data();
  }

  void cancel(const Napi::CallbackInfo&) {
    if (const auto engine = handle_.engine.lock()) engine->cancel(handle_.model, handle_.request);
  }

  void credit(const Napi::CallbackInfo& info) {
    if (!info[0].IsNumber()) throw Napi::TypeError::New(info.Env(), "events must be a number");
    const double events = info[0].As<Napi::Number>().DoubleValue();
    if (!(events >= 0 && events <= kMaxWhole)) throw Napi::TypeError::New(info.Env(), "events must not be negative");
    if (const auto engine = handle_.engine.lock()) {
      engine->credit(handle_.model, handle_.request, static_cast<uint64_t>(events));
    }
  }

 private:
  Handle handle_;
};

// --- NativeModel ---------------------------------------------------------------------------------------------------

class ModelObject final : public Napi::ObjectWrap<ModelObject> {
 public:
  struct Handle {
    std::weak_ptr<Engine> engine;
    uint64_t model;
    ModelInfo info;
  };

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeModel",
        {InstanceAccessor<&ModelObject::info>("info"), InstanceMethod<&ModelObject::generate>("generate"),
         InstanceMethod<&ModelObject::logits>("logits"), InstanceMethod<&ModelObject::add_adapter>("addAdapter"),
         InstanceMethod<&ModelObject::dispose>("dispose")});
  }

  static Napi::Object create(Napi::Env env, Handle handle) {
    auto external = Napi::External<Handle>::New(env, &handle);
    external.TypeTag(&kModelTag);
    return Environment::of(env).model_class.New({external});
  }

  explicit ModelObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelObject>(info) {
    if (info.Length() != 1 || !info[0].IsExternal() || !info[0].As<Napi::External<Handle>>().CheckTypeTag(&kModelTag)) {
      throw Napi::TypeError::New(info.Env(), "NativeModel cannot be constructed; use loadModel");
    }
    handle_ = std::move(*info[0].As<Napi::External<Handle>>().Data());
  }

  // Dropped without dispose: the engine frees it on its own thread.
  ~ModelObject() override {
    if (disposed_) return;
    if (const auto engine = handle_.engine.lock()) engine->dispose(handle_.model, [] {});
  }

 private:
  Napi::Value info(const Napi::CallbackInfo& call) {
    const ModelInfo& info = handle_.info;
    Napi::Object object = Napi::Object::New(call.Env());
    object.Set("modelType", info.model_type);
    object.Set("vocabSize", info.vocab_size);
    object.Set("contextLength", info.context_length);
    object.Set("layers", info.layers);
    object.Set("weightBytes", static_cast<double>(info.weight_bytes));
    object.Set("weightType", info.weight_type);
    return object;
  }

  std::shared_ptr<Engine> engine() const {
    auto engine = disposed_ ? nullptr : handle_.engine.lock();
    if (!engine) invalid("disposed", "the model was disposed");
    return engine;
  }

  // MLX reads outside the embedding without complaint, so every id is checked here.
  std::vector<uint32_t> prompt(const Napi::Value& value) const {
    std::vector<uint32_t> tokens = u32_array(value, "tokens");
    if (tokens.empty()) invalid("empty_prompt", "the prompt has no tokens");
    for (const uint32_t id : tokens) {
      if (id >= static_cast<uint32_t>(handle_.info.vocab_size)) {
        invalid("token_out_of_range", "token id " + std::to_string(id) + " is outside the vocabulary of " +
                                          std::to_string(handle_.info.vocab_size) + " ids");
      }
    }
    if (tokens.size() > static_cast<size_t>(handle_.info.context_length)) {
      invalid("context_overflow", "the prompt has " + std::to_string(tokens.size()) + " tokens, the context holds " +
                                      std::to_string(handle_.info.context_length));
    }
    return tokens;
  }

  static Request parse(const Napi::Object& params) {
    Request request;
    request.max_tokens = static_cast<uint32_t>(whole_field(params, "maxTokens", kMaxWhole));
    request.credit = static_cast<uint64_t>(whole_field(params, "credit", kMaxWhole));
    request.sampling.temperature = static_cast<float>(number_field(params, "temperature", 0, 1e6));
    request.sampling.top_p = static_cast<float>(number_field(params, "topP", 0, 1));
    request.sampling.top_k = static_cast<int>(whole_field(params, "topK", 2147483647.0));
    request.sampling.min_p = static_cast<float>(number_field(params, "minP", 0, 1));
    request.adapter = static_cast<uint64_t>(whole_field(params, "adapter", kMaxBytes));
    request.kv_quantization = kv_quantization(params);
    const Napi::Value keep = params.Get("keepPrefix");
    if (!keep.IsBoolean()) throw Napi::TypeError::New(params.Env(), "keepPrefix must be a boolean");
    request.keep_prefix = keep.As<Napi::Boolean>();
    const Napi::Value seed = params.Get("seed");
    bool lossless = false;
    if (seed.IsBigInt()) request.sampling.seed = seed.As<Napi::BigInt>().Uint64Value(&lossless);
    if (!lossless) throw Napi::TypeError::New(params.Env(), "seed must be a BigInt of 64 bits");
    const auto stop = u32_array(params.Get("stopIds"), "stopIds");
    request.stop_ids.insert(stop.begin(), stop.end());
    return request;
  }

  Napi::Value generate(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const auto engine = this->engine();
      Request request = parse(object_argument(info, 1, "params"));
      const Napi::Function on_events = function_argument(info, 2, "onEvents");
      request.prompt = prompt(info[0]);
      request.id = Engine::new_id();
      const uint64_t id = request.id;

      Environment& environment = Environment::of(env);
      request.listener = std::make_shared<GenerationMailbox>(environment.channel, id);
      environment.channel->expect(id, {Napi::Persistent(on_events), nullptr, keep_alive()});
      engine->generate(handle_.model, std::move(request));

      GenerationObject::Handle handle{handle_.engine, handle_.model, id};
      auto external = Napi::External<GenerationObject::Handle>::New(env, &handle);
      external.TypeTag(&kGenerationTag);
      return environment.generation_class.New({external});
    });
  }

  // A promise that `start` hands to the work it begins; what it throws instead rejects the promise.
  template <class Start>
  static Napi::Value promised(Napi::Env env, const Start& start) {
    auto deferred = std::make_unique<Napi::Promise::Deferred>(env);
    const Napi::Promise promise = deferred->Promise();
    try {
      start(deferred);
    } catch (const Napi::Error& error) {
      deferred->Reject(error.Value());
    } catch (...) {
      deferred->Reject(to_js_error(env, current_error()).Value());
    }
    return promise;
  }

  Napi::Value logits(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&](std::unique_ptr<Napi::Promise::Deferred>& deferred) {
      const auto engine = this->engine();
      Request request;
      request.prompt = prompt(info[0]);
      const Napi::Object params = object_argument(info, 1, "params");
      request.adapter = static_cast<uint64_t>(whole_field(params, "adapter", kMaxBytes));
      request.kv_quantization = kv_quantization(params);
      request.id = Engine::new_id();
      request.scores_only = true;
      Environment& environment = Environment::of(info.Env());
      request.listener = std::make_shared<ScoresMailbox>(environment.channel, request.id);
      environment.channel->expect(request.id, {{}, std::move(deferred), keep_alive()});
      engine->generate(handle_.model, std::move(request));
    });
  }

  Napi::Value add_adapter(const Napi::CallbackInfo& info) {
    return promised(info.Env(), [&](std::unique_ptr<Napi::Promise::Deferred>& deferred) {
      const auto engine = this->engine();
      const std::string folder = string_argument(info, 0, "folder");
      Environment& environment = Environment::of(info.Env());
      const uint64_t id = Engine::new_id();
      const auto mailbox = std::make_shared<AdapterMailbox>(environment.channel, id);
      environment.channel->expect(id, {{}, std::move(deferred), keep_alive()});
      engine->add_adapter(handle_.model, id, folder, [mailbox](const EngineError* error) { mailbox->done(error); });
    });
  }

  Napi::Value dispose(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto deferred = std::make_unique<Napi::Promise::Deferred>(env);
    const Napi::Promise promise = deferred->Promise();
    const auto engine = handle_.engine.lock();
    disposed_ = true;
    if (!engine) {
      deferred->Resolve(env.Undefined());
      return promise;
    }
    Environment& environment = Environment::of(env);
    const uint64_t id = Engine::new_id();
    const auto mailbox = std::make_shared<DisposeMailbox>(environment.channel, id);
    environment.channel->expect(id, {{}, std::move(deferred), {}});
    engine->dispose(handle_.model, [mailbox] { mailbox->done(); });
    return promise;
  }

  // Work in flight holds the model: collecting it would cancel that work.
  Napi::ObjectReference keep_alive() { return Napi::Persistent(Value()); }

  Handle handle_;
  bool disposed_ = false;
};

// --- loadModel -----------------------------------------------------------------------------------------------------

class LoadMailbox final : public Mailbox, public LoadListener {
 public:
  using Mailbox::Mailbox;

  void progress(uint64_t done, uint64_t total) override {
    put([&] { progress_ = {done, total}; });
  }
  void loaded(const ModelInfo& info) override {
    put([&] { info_ = info; });
  }
  void failed(const EngineError& error) override {
    put([&] { error_ = error; });
  }

  void deliver(Napi::Env env, Channel& channel) override {
    std::optional<std::pair<uint64_t, uint64_t>> progress;
    std::optional<ModelInfo> info;
    std::optional<EngineError> error;
    open([&] {
      progress = std::exchange(progress_, {});
      info = info_;
      error = error_;
    });
    Receiver* receiver = channel.receiver(id());
    if (receiver == nullptr) return;
    if (progress) {
      Channel::call(env, receiver->callback,
                    {Napi::Number::New(env, static_cast<double>(progress->first)),
                     Napi::Number::New(env, static_cast<double>(progress->second))});
    }
    if (!info && !error) return;
    const auto deferred = std::move(receiver->deferred);
    channel.settled(id());
    if (error) {
      deferred->Reject(to_js_error(env, *error).Value());
    } else {
      deferred->Resolve(ModelObject::create(env, {Environment::of(env).engine, id(), *info}));
    }
  }

 private:
  std::optional<std::pair<uint64_t, uint64_t>> progress_;
  std::optional<ModelInfo> info_;
  std::optional<EngineError> error_;
};

Napi::Value load_model(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::string folder = string_argument(info, 0, "folder");
    const Napi::Object given = object_argument(info, 1, "options");
    const Napi::Function on_progress = function_argument(info, 2, "onProgress");
    LoadOptions options;
    options.prefill_step = static_cast<int>(whole_field(given, "prefillStepSize", 1 << 20));
    options.context_length = static_cast<int>(whole_field(given, "contextLength", 1 << 30));
    options.memory_bytes = static_cast<uint64_t>(whole_field(given, "memoryLimitBytes", kMaxBytes));
    options.kv_quantization = kv_quantization(given);
    mx::cpu_isa();  // an environment variable that asks for what cannot be is told now, not by the first token
    const int threads = static_cast<int>(whole_field(given, "threads", kMostThreads));
    threads > 0 ? mx::set_cpu_threads(threads) : (void)mx::cpu_threads();

    Environment& environment = Environment::of(env);
    const uint64_t id = Engine::new_id();
    auto deferred = std::make_unique<Napi::Promise::Deferred>(env);
    Napi::Object loading = Napi::Object::New(env);
    loading.Set("promise", deferred->Promise());
    loading.Set("cancel", Napi::Function::New(env, [id](const Napi::CallbackInfo& call) {
                  if (const auto& engine = Environment::of(call.Env()).engine) engine->cancel_load(id);
                }));
    environment.channel->expect(id, {Napi::Persistent(on_progress), std::move(deferred), {}});
    environment.running()->load(environment.id, id, folder, options,
                                std::make_shared<LoadMailbox>(environment.channel, id));
    return loading;
  });
}

}  // namespace

void register_model(Napi::Env env, Napi::Object exports) {
  Environment& environment = Environment::of(env);
  environment.model_class = Napi::Persistent(ModelObject::define(env));
  environment.generation_class = Napi::Persistent(GenerationObject::define(env));
  exports.Set("loadModel", Napi::Function::New(env, load_model, "loadModel"));
}

}  // namespace mlxk
