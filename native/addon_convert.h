// What the addon offers for making model folders (lib/native.d.ts: readSafetensors,
// convert, checkModel). Thread: JS thread.

#pragma once

#include <napi.h>

namespace mlxk {

void register_convert(Napi::Env env, Napi::Object exports);

}  // namespace mlxk
