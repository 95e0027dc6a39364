// Implements text.h: views in, owned results out, errors of the crate as exceptions.

#include "text.h"

#include "error.h"

namespace mlxk {
namespace {

mlxk_text_view view(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

mlxk_text_ids_view view(std::span<const uint32_t> ids) { return {ids.data(), ids.size()}; }

std::string string_of(mlxk_text_view text) { return {reinterpret_cast<const char*>(text.data), text.size}; }

void check(mlxk_text_error* error) {
  if (error == nullptr) return;
  std::unique_ptr<mlxk_text_error, decltype(&mlxk_text_error_free)> owner(error, mlxk_text_error_free);
  throw EngineError(string_of(mlxk_text_error_code(error)), string_of(mlxk_text_error_reason(error)),
                    string_of(mlxk_text_error_message(error)));
}

// Frees also when the copy runs out of memory.
struct OwnedBytes : mlxk_text_bytes {
  OwnedBytes() : mlxk_text_bytes{nullptr, 0} {}
  OwnedBytes(const OwnedBytes&) = delete;
  OwnedBytes& operator=(const OwnedBytes&) = delete;
  ~OwnedBytes() { mlxk_text_bytes_free(*this); }
  std::string copy() const { return {reinterpret_cast<const char*>(data), size}; }
};

struct OwnedIds : mlxk_text_ids {
  OwnedIds() : mlxk_text_ids{nullptr, 0} {}
  OwnedIds(const OwnedIds&) = delete;
  OwnedIds& operator=(const OwnedIds&) = delete;
  ~OwnedIds() { mlxk_text_ids_free(*this); }
  std::vector<uint32_t> copy() const { return {data, data + size}; }
};

}  // namespace

Tokenizer::Tokenizer(std::string_view json) {
  mlxk_tokenizer* made = nullptr;
  check(mlxk_tokenizer_new(view(json), &made));
  handle_.reset(made);
}

uint32_t Tokenizer::vocab_size() const {
  uint32_t size = 0;
  check(mlxk_tokenizer_vocab_size(handle_.get(), &size));
  return size;
}

std::vector<uint32_t> Tokenizer::encode(std::u16string_view text, bool add_special_tokens,
                                        std::span<const uint32_t> plain) const {
  static_assert(sizeof(char16_t) == sizeof(uint16_t));
  OwnedIds ids;
  check(mlxk_tokenizer_encode(handle_.get(), {reinterpret_cast<const uint16_t*>(text.data()), text.size()},
                              add_special_tokens, view(plain), &ids));
  return ids.copy();
}

std::string Tokenizer::decode(std::span<const uint32_t> ids, bool skip_special_tokens) const {
  OwnedBytes text;
  check(mlxk_tokenizer_decode(handle_.get(), view(ids), skip_special_tokens, &text));
  return text.copy();
}

std::optional<uint32_t> Tokenizer::token_to_id(std::string_view token) const {
  bool found = false;
  uint32_t id = 0;
  check(mlxk_tokenizer_token_to_id(handle_.get(), view(token), &found, &id));
  return found ? std::optional(id) : std::nullopt;
}

std::optional<std::string> Tokenizer::id_to_token(uint32_t id) const {
  bool found = false;
  OwnedBytes token;
  check(mlxk_tokenizer_id_to_token(handle_.get(), id, &found, &token));
  return found ? std::optional(token.copy()) : std::nullopt;
}

std::vector<SpecialToken> Tokenizer::special_tokens() const {
  size_t count = 0;
  check(mlxk_tokenizer_special_count(handle_.get(), &count));
  std::vector<SpecialToken> tokens;
  tokens.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    uint32_t id = 0;
    mlxk_text_view content{nullptr, 0};
    check(mlxk_tokenizer_special_at(handle_.get(), i, &id, &content));
    tokens.push_back({id, string_of(content)});
  }
  return tokens;
}

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens) {
  mlxk_detokenizer* made = nullptr;
  check(mlxk_detokenizer_new(tokenizer.handle_.get(), skip_special_tokens, &made));
  handle_.reset(made);
}

std::string Detokenizer::push(uint32_t id) {
  OwnedBytes text;
  check(mlxk_detokenizer_push(handle_.get(), id, &text));
  return text.copy();
}

std::string Detokenizer::finish() {
  OwnedBytes text;
  check(mlxk_detokenizer_finish(handle_.get(), &text));
  return text.copy();
}

ChatTemplate::ChatTemplate(std::string_view source, TemplateLimits limits) {
  mlxk_template* made = nullptr;
  check(mlxk_template_new(view(source), limits.fuel, limits.max_output_bytes, &made));
  handle_.reset(made);
}

RenderedText ChatTemplate::render(std::string_view context_json, std::span<const std::string> guarded) const {
  std::vector<mlxk_text_view> spellings;
  spellings.reserve(guarded.size());
  for (const std::string& spelling : guarded) spellings.push_back(view(spelling));
  OwnedBytes text;
  OwnedIds plain;
  check(mlxk_template_render(handle_.get(), view(context_json), {spellings.data(), spellings.size()}, &text, &plain));
  return {text.copy(), plain.copy()};
}

}  // namespace mlxk
