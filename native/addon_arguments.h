// The native side's own checks of what TypeScript passes: terse, complete, and always TypeErrors. TypeScript has named
// and ranged every option before; these keep a raw caller from reaching undefined behaviour. Thread: JS thread.

#pragma once

#include <napi.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace mlxk {

inline std::string string_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsString()) throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a string");
  return info[index].As<Napi::String>();
}

inline Napi::Object object_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsObject()) throw Napi::TypeError::New(info.Env(), std::string(name) + " must be an object");
  return info[index].As<Napi::Object>();
}

inline Napi::Function function_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsFunction()) throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a function");
  return info[index].As<Napi::Function>();
}

// A copy: the array's memory may be shared with a worker or detached later.
inline std::vector<uint32_t> u32_array(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + " must be a Uint32Array");
  }
  const auto array = value.As<Napi::Uint32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

inline double number_field(const Napi::Object& object, const char* name, double min, double max) {
  const Napi::Value value = object.Get(name);
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= min && number <= max)) {
    throw Napi::TypeError::New(object.Env(), std::string(name) + " must be a number in its range");
  }
  return number;
}

inline double whole_field(const Napi::Object& object, const char* name, double max) {
  const double number = number_field(object, name, 0, max);
  if (number != std::floor(number)) {
    throw Napi::TypeError::New(object.Env(), std::string(name) + " must be a whole number");
  }
  return number;
}

}  // namespace mlxk
