// The JavaScript classes of a loaded model and of a running generation (lib/native.d.ts: NativeModel,
// NativeGeneration), and the function that loads one. Thread: JS thread.

#pragma once

#include <napi.h>

namespace mlxk {

// Adds `loadModel` to `exports` and defines the classes, which scripts cannot construct.
void register_model(Napi::Env env, Napi::Object exports);

}  // namespace mlxk
