// Owning C++ classes over the C ABI of the text crate (text/include/mlxk_text.h): tokenizer,
// detokenizer, chat template. Every failure is an EngineError with the crate's code and reason.
// Tokenizer and ChatTemplate are immutable and safe to share between threads; a Detokenizer belongs
// to one. Knows nothing of N-API or of tensors.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/include/mlxk_text.h"

namespace mlxk {

struct SpecialToken {
  uint32_t id;
  std::string content;
};

class Tokenizer {
 public:
  // `json` is the content of tokenizer.json. Throws `tokenizer_invalid`, `tokenizer_too_large`.
  explicit Tokenizer(std::string_view json);

  // Largest id, added tokens included, plus one.
  uint32_t vocab_size() const;

  // `plain`: pairs [start, end) of UTF-16 offsets, ascending, where the spelling of a special
  // token is ordinary text. Throws `invalid_text` (lone surrogate), `invalid_range`,
  // `text_too_large`, `encode_failed`.
  std::vector<uint32_t> encode(std::u16string_view text, bool add_special_tokens,
                               std::span<const uint32_t> plain = {}) const;

  // Ids that are not in the vocabulary contribute nothing.
  std::string decode(std::span<const uint32_t> ids, bool skip_special_tokens) const;

  std::optional<uint32_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(uint32_t id) const;

  // Added tokens marked special, by id.
  std::vector<SpecialToken> special_tokens() const;

 private:
  friend class Detokenizer;
  struct Free {
    void operator()(mlxk_tokenizer* p) const { mlxk_tokenizer_free(p); }
  };
  std::unique_ptr<mlxk_tokenizer, Free> handle_;
};

// Pieces and the end put together are the decoding of all ids.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens);

  // Text that became certain with `id`. Throws `detokenizer_finished` after `finish`.
  std::string push(uint32_t id);

  // What is held back, with a replacement character for each broken sequence.
  std::string finish();

 private:
  struct Free {
    void operator()(mlxk_detokenizer* p) const { mlxk_detokenizer_free(p); }
  };
  std::unique_ptr<mlxk_detokenizer, Free> handle_;
};

struct TemplateLimits {
  // Instructions a rendering may execute, 1 to 2^40.
  uint64_t fuel;
  // UTF-8 bytes of its result, 1 to 2^30.
  uint64_t max_output_bytes;
};

struct RenderedText {
  std::string text;
  // As Tokenizer::encode takes it.
  std::vector<uint32_t> plain;
};

class ChatTemplate {
 public:
  // Throws `template_invalid` with the line, `invalid_limit`.
  ChatTemplate(std::string_view source, TemplateLimits limits);

  // `context_json`: a JSON object. Spellings of `guarded` in strings of messages, tools and
  // documents are reported in `plain`. Throws `template_raised` with the template's own message,
  // `template_budget`, `template_output_too_large`, `template_invalid`, `invalid_context`.
  RenderedText render(std::string_view context_json, std::span<const std::string> guarded) const;

 private:
  struct Free {
    void operator()(mlxk_template* p) const { mlxk_template_free(p); }
  };
  std::unique_ptr<mlxk_template, Free> handle_;
};

}  // namespace mlxk
