// The JavaScript classes of the text layer (lib/native.d.ts: NativeTokenizer, NativeDetokenizer, NativeTemplate).
// Thread: JS thread.

#pragma once

#include <napi.h>

namespace mlxk {

// Adds `Tokenizer`, `Detokenizer` and `ChatTemplate` to `exports`.
void register_text(Napi::Env env, Napi::Object exports);

}  // namespace mlxk
