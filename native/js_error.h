// Native failures as JavaScript errors: `code` and `reason` of an EngineError become properties.
// Thread: JS thread.

#pragma once

#include <napi.h>

#include <utility>

#include "error.h"

namespace mlxk {

inline Napi::Error to_js_error(Napi::Env env, const EngineError& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("code", Napi::String::New(env, error.code));
  js.Set("reason", Napi::String::New(env, error.reason));
  return js;
}

// Runs `body`; anything but a JavaScript error that leaves it is turned into one, so that no C++ exception ever
// reaches the VM.
template <class Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js_error(env, current_error());
  }
}

}  // namespace mlxk
