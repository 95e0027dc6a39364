// The module's entry: one Environment for each JavaScript environment, its cleanup, and what the addon exports
// (lib/native.d.ts: NativeAddon). Thread: JS thread.

#include <napi.h>

#include <string>

#include "addon_convert.h"
#include "addon_model.h"
#include "addon_text.h"
#include "environment.h"
#include "js_error.h"
#include "model.h"
#include "mx.h"

namespace mlxk {
namespace {

Napi::Value version(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const bool gpu = mx::default_device() == mx::Device::gpu;
    Napi::Object object = Napi::Object::New(env);
    object.Set("mlxk", MLXK_VERSION);
    object.Set("mlx", mx::mlx_version());
    object.Set("backend", MLXK_BACKEND_NAME);
    object.Set("device", gpu ? "gpu" : "cpu");
    return object;
  });
}

// How the CPU computes: { isa, threads }. Throws where MLXK_CPU_ISA, MLXK_THREADS or MLXK_KERNELS says what cannot be.
Napi::Value cpu(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Object object = Napi::Object::New(env);
    object.Set("isa", mx::cpu_isa());
    object.Set("threads", mx::cpu_threads());
    return object;
  });
}

Napi::Value types(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array array = Napi::Array::New(env);
  uint32_t index = 0;
  for (const std::string& type : model_types()) array.Set(index++, type);
  return array;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  env.SetInstanceData(environment);
  // Hooks run in reverse: this one was added after the channel's own, so the channel still works when it runs.
  env.AddCleanupHook([environment] { environment->close(); });
  // process.exit() runs no cleanup hooks on the main thread, and MLX must not be torn down under the engine.
  const Napi::Object process = env.Global().Get("process").As<Napi::Object>();
  process.Get("on").As<Napi::Function>().Call(
      process, {Napi::String::New(env, "exit"),
                Napi::Function::New(env, [environment](const Napi::CallbackInfo&) { environment->close(); })});
  exports.Set("version", Napi::Function::New(env, version, "version"));
  exports.Set("cpu", Napi::Function::New(env, cpu, "cpu"));
  exports.Set("modelTypes", Napi::Function::New(env, types, "modelTypes"));
  register_model(env, exports);
  register_convert(env, exports);
  register_text(env, exports);
  return exports;
}

}  // namespace
}  // namespace mlxk

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) { return mlxk::init(env, exports); }

NODE_API_MODULE(mlxk, init_addon)
