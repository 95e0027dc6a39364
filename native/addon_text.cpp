// See addon_text.h. Arguments are checked and copied, results are new JavaScript values. Text with a lone surrogate
// is refused here, since N-API would replace it silently. Only `encodeAsync` leaves the JS thread.

#include "addon_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "addon_arguments.h"
#include "addon_background.h"
#include "js_error.h"
#include "text.h"

namespace mlxk {
namespace {

constexpr napi_type_tag kTokenizerTag = {0x6d6c786b544f4b45ULL, 0x81c2e6a90b7d4f35ULL};
constexpr napi_type_tag kDetokenizerTag = {0x6d6c786b4445544fULL, 0x3ad4907f6e1b42c8ULL};
constexpr napi_type_tag kTemplateTag = {0x6d6c786b54454d50ULL, 0xe60f25b8917c4da3ULL};

constexpr double kMaxId = 4294967295.0;             // u32
constexpr double kMaxFuel = 1099511627776.0;        // 2^40, the crate's own bound
constexpr double kMaxOutputBytes = 1073741824.0;    // 2^30, the crate's own bound
constexpr size_t kMaxTextUnits = size_t{64} << 20;  // the crate's bound; checked before the copy is made
constexpr uint32_t kMaxGuarded = 65536;             // special tokens of one vocabulary

void check_tag(const Napi::Value& value, const napi_type_tag& tag, const char* what) {
  if (!value.IsObject() || !value.As<Napi::Object>().CheckTypeTag(&tag)) {
    throw Napi::TypeError::New(value.Env(), std::string("not a ") + what);
  }
}

std::u16string utf16_argument(const Napi::Value& value, const char* name) {
  const Napi::Env env = value.Env();
  if (!value.IsString()) throw Napi::TypeError::New(env, std::string(name) + " must be a string");
  size_t units = 0;
  if (napi_get_value_string_utf16(env, value, nullptr, 0, &units) != napi_ok) throw Napi::Error::New(env);
  if (units > kMaxTextUnits) {
    invalid("text_too_large", std::string(name) + " has " + std::to_string(units) + " characters; the limit is " +
                                  std::to_string(kMaxTextUnits));
  }
  return value.As<Napi::String>().Utf16Value();
}

void append_utf8(std::string& out, char32_t c) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    tail(6);
    tail(0);
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

// Strict, where N-API's own conversion writes U+FFFD for a lone surrogate.
std::string utf8_argument(const Napi::Value& value, const char* name) {
  const std::u16string text = utf16_argument(value, name);
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const char16_t unit = text[i];
    if ((unit & 0xF800) != 0xD800) {
      append_utf8(out, unit);
      continue;
    }
    const bool paired = unit < 0xDC00 && i + 1 < text.size() && (text[i + 1] & 0xFC00) == 0xDC00;
    if (!paired) invalid("invalid_text", std::string(name) + " has a lone surrogate at position " + std::to_string(i));
    append_utf8(out, 0x10000 + ((char32_t{unit} & 0x3FF) << 10) + (text[++i] & 0x3FF));
  }
  return out;
}

bool flag_argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  if (!info[index].IsBoolean()) throw Napi::TypeError::New(info.Env(), std::string(name) + " must be a boolean");
  return info[index].As<Napi::Boolean>();
}

uint32_t id_argument(const Napi::CallbackInfo& info, size_t index) {
  const double id = info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue() : -1;
  if (!(id >= 0 && id <= kMaxId) || id != std::floor(id)) {
    throw Napi::TypeError::New(info.Env(), "id must be a whole number from 0 to 4294967295");
  }
  return static_cast<uint32_t>(id);
}

std::vector<uint32_t> plain_argument(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsUndefined()) return {};
  return u32_array(info[index], "plain");
}

Napi::Value js_ids(Napi::Env env, const std::vector<uint32_t>& ids) {
  Napi::Uint32Array array = Napi::Uint32Array::New(env, ids.size());
  std::copy(ids.begin(), ids.end(), array.Data());
  return array;
}

class JsTokenizer final : public Napi::ObjectWrap<JsTokenizer> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Tokenizer",
        {InstanceMethod<&JsTokenizer::encode>("encode"), InstanceMethod<&JsTokenizer::encode_async>("encodeAsync"),
         InstanceMethod<&JsTokenizer::decode>("decode"), InstanceMethod<&JsTokenizer::token_to_id>("tokenToId"),
         InstanceMethod<&JsTokenizer::id_to_token>("idToToken"),
         InstanceMethod<&JsTokenizer::special_tokens>("specialTokens")});
  }

  explicit JsTokenizer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsTokenizer>(info) {
    guarded(info.Env(), [&] {
      if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
        throw Napi::TypeError::New(info.Env(), "json must be a Uint8Array");
      }
      const auto json = info[0].As<Napi::Uint8Array>();
      // A copy: another thread may write into shared memory while the crate reads.
      const std::string bytes(reinterpret_cast<const char*>(json.Data()), json.ElementLength());
      tokenizer_ = std::make_shared<const Tokenizer>(bytes);
      Napi::Object self = info.This().As<Napi::Object>();
      self.TypeTag(&kTokenizerTag);
      // A value, not an accessor: an accessor is called with any receiver.
      const auto size = Napi::Number::New(info.Env(), tokenizer_->vocab_size());
      self.DefineProperty(Napi::PropertyDescriptor::Value("vocabSize", size, napi_enumerable));
    });
  }

  static std::shared_ptr<const Tokenizer> of(const Napi::Value& value) {
    check_tag(value, kTokenizerTag, "Tokenizer");
    return Unwrap(value.As<Napi::Object>())->tokenizer_;
  }

 private:
  Napi::Value encode(const Napi::CallbackInfo& info) {
    const auto tokenizer = of(info.This());
    return guarded(info.Env(), [&] {
      const std::u16string text = utf16_argument(info[0], "text");
      const bool add_special_tokens = flag_argument(info, 1, "addSpecialTokens");
      return js_ids(info.Env(), tokenizer->encode(text, add_special_tokens, plain_argument(info, 2)));
    });
  }

  Napi::Value encode_async(const Napi::CallbackInfo& info) {
    const auto tokenizer = of(info.This());
    return guarded(info.Env(), [&]() -> Napi::Value {
      // Holds the tokenizer itself, not the JavaScript object: either may end first.
      auto encode = [tokenizer, text = utf16_argument(info[0], "text"),
                     add_special_tokens = flag_argument(info, 1, "addSpecialTokens"),
                     plain = plain_argument(info, 2)] { return tokenizer->encode(text, add_special_tokens, plain); };
      return BackgroundWork<std::vector<uint32_t>>::start(info.Env(), "mlxk:encode", std::move(encode), js_ids);
    });
  }

  Napi::Value decode(const Napi::CallbackInfo& info) {
    const auto tokenizer = of(info.This());
    return guarded(info.Env(), [&] {
      const std::vector<uint32_t> ids = u32_array(info[0], "ids");
      return Napi::String::New(info.Env(), tokenizer->decode(ids, flag_argument(info, 1, "skipSpecialTokens")));
    });
  }

  Napi::Value token_to_id(const Napi::CallbackInfo& info) {
    const auto tokenizer = of(info.This());
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto id = tokenizer->token_to_id(utf8_argument(info[0], "token"));
      return id ? Napi::Number::New(info.Env(), *id) : info.Env().Undefined();
    });
  }

  Napi::Value id_to_token(const Napi::CallbackInfo& info) {
    const auto tokenizer = of(info.This());
    return guarded(info.Env(), [&]() -> Napi::Value {
      const auto token = tokenizer->id_to_token(id_argument(info, 0));
      return token ? Napi::String::New(info.Env(), *token) : info.Env().Undefined();
    });
  }

  Napi::Value special_tokens(const Napi::CallbackInfo& info) {
    const auto tokenizer = of(info.This());
    return guarded(info.Env(), [&] {
      const std::vector<SpecialToken> tokens = tokenizer->special_tokens();
      Napi::Array array = Napi::Array::New(info.Env(), tokens.size());
      for (uint32_t i = 0; i < tokens.size(); ++i) {
        Napi::Object object = Napi::Object::New(info.Env());
        object.Set("id", tokens[i].id);
        object.Set("content", tokens[i].content);
        array.Set(i, object);
      }
      return array;
    });
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
};

class JsDetokenizer final : public Napi::ObjectWrap<JsDetokenizer> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Detokenizer",
        {InstanceMethod<&JsDetokenizer::push>("push"), InstanceMethod<&JsDetokenizer::finish>("finish")});
  }

  explicit JsDetokenizer(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsDetokenizer>(info) {
    guarded(info.Env(), [&] {
      const auto tokenizer = JsTokenizer::of(info[0]);
      detokenizer_ = std::make_unique<Detokenizer>(*tokenizer, flag_argument(info, 1, "skipSpecialTokens"));
      info.This().As<Napi::Object>().TypeTag(&kDetokenizerTag);
    });
  }

 private:
  Napi::Value push(const Napi::CallbackInfo& info) {
    check_tag(info.This(), kDetokenizerTag, "Detokenizer");
    return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), detokenizer_->push(id_argument(info, 0))); });
  }

  Napi::Value finish(const Napi::CallbackInfo& info) {
    check_tag(info.This(), kDetokenizerTag, "Detokenizer");
    return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), detokenizer_->finish()); });
  }

  std::unique_ptr<Detokenizer> detokenizer_;
};

class JsChatTemplate final : public Napi::ObjectWrap<JsChatTemplate> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "ChatTemplate", {InstanceMethod<&JsChatTemplate::render>("render")});
  }

  explicit JsChatTemplate(const Napi::CallbackInfo& info) : Napi::ObjectWrap<JsChatTemplate>(info) {
    guarded(info.Env(), [&] {
      const std::string source = utf8_argument(info[0], "source");
      const Napi::Object limits = object_argument(info, 1, "limits");
      const auto fuel = static_cast<uint64_t>(whole_field(limits, "fuel", kMaxFuel));
      const auto max_output = static_cast<uint64_t>(whole_field(limits, "maxOutputBytes", kMaxOutputBytes));
      template_ = std::make_unique<ChatTemplate>(source, TemplateLimits{fuel, max_output});
      info.This().As<Napi::Object>().TypeTag(&kTemplateTag);
    });
  }

 private:
  Napi::Value render(const Napi::CallbackInfo& info) {
    check_tag(info.This(), kTemplateTag, "ChatTemplate");
    return guarded(info.Env(), [&] {
      const std::string context = utf8_argument(info[0], "context");
      const RenderedText rendered = template_->render(context, guarded_argument(info[1]));
      Napi::Object object = Napi::Object::New(info.Env());
      object.Set("text", rendered.text);
      object.Set("plain", js_ids(info.Env(), rendered.plain));
      return object;
    });
  }

  static std::vector<std::string> guarded_argument(const Napi::Value& value) {
    if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "guarded must be an array of strings");
    const auto array = value.As<Napi::Array>();
    const uint32_t count = array.Length();
    if (count > kMaxGuarded) invalid("invalid_guard", "guarded has " + std::to_string(count) + " spellings");
    std::vector<std::string> spellings;
    spellings.reserve(count);
    for (uint32_t i = 0; i < count; ++i) spellings.push_back(utf8_argument(array.Get(i), "guarded"));
    return spellings;
  }

  std::unique_ptr<ChatTemplate> template_;
};

}  // namespace

void register_text(Napi::Env env, Napi::Object exports) {
  exports.Set("Tokenizer", JsTokenizer::define(env));
  exports.Set("Detokenizer", JsDetokenizer::define(env));
  exports.Set("ChatTemplate", JsChatTemplate::define(env));
}

}  // namespace mlxk
