/* The C ABI of the text crate, kept by hand beside src/lib.rs.
 * Functions that can fail return null or an error that the caller frees; on failure outputs are
 * untouched. Views are borrowed, `owned` results go back to the matching free function.
 * Tokenizers and templates are immutable and may be used by threads at once; a detokenizer by one.
 */

#ifndef MLXK_TEXT_H
#define MLXK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mlxk_text_error mlxk_text_error;
typedef struct mlxk_tokenizer mlxk_tokenizer;
typedef struct mlxk_detokenizer mlxk_detokenizer;
typedef struct mlxk_template mlxk_template;

typedef struct mlxk_text_view {
  const uint8_t* data;
  size_t size;
} mlxk_text_view;

typedef struct mlxk_text_utf16_view {
  const uint16_t* data;
  size_t size;
} mlxk_text_utf16_view;

typedef struct mlxk_text_ids_view {
  const uint32_t* data;
  size_t size;
} mlxk_text_ids_view;

typedef struct mlxk_text_views {
  const mlxk_text_view* data;
  size_t size;
} mlxk_text_views;

typedef struct mlxk_text_bytes {
  uint8_t* data;
  size_t size;
} mlxk_text_bytes;

typedef struct mlxk_text_ids {
  uint32_t* data;
  size_t size;
} mlxk_text_ids;

void mlxk_text_bytes_free(mlxk_text_bytes bytes);
void mlxk_text_ids_free(mlxk_text_ids ids);

/* Views into the error, valid until it is freed. */
mlxk_text_view mlxk_text_error_code(const mlxk_text_error* error);
mlxk_text_view mlxk_text_error_reason(const mlxk_text_error* error);
mlxk_text_view mlxk_text_error_message(const mlxk_text_error* error);
void mlxk_text_error_free(mlxk_text_error* error);

/* `json` is the content of tokenizer.json, 64 MiB at most. */
mlxk_text_error* mlxk_tokenizer_new(mlxk_text_view json, mlxk_tokenizer** out);
void mlxk_tokenizer_free(mlxk_tokenizer* tokenizer);

/* `plain`: pairs [start, end) of UTF-16 offsets, ascending, where the spelling of a special token
 * is ordinary text. */
mlxk_text_error* mlxk_tokenizer_encode(const mlxk_tokenizer* tokenizer, mlxk_text_utf16_view text,
                                       bool add_special_tokens, mlxk_text_ids_view plain, mlxk_text_ids* out);
mlxk_text_error* mlxk_tokenizer_decode(const mlxk_tokenizer* tokenizer, mlxk_text_ids_view ids,
                                       bool skip_special_tokens, mlxk_text_bytes* out);
/* Largest id, added tokens included, plus one. */
mlxk_text_error* mlxk_tokenizer_vocab_size(const mlxk_tokenizer* tokenizer, uint32_t* out);
mlxk_text_error* mlxk_tokenizer_token_to_id(const mlxk_tokenizer* tokenizer, mlxk_text_view token, bool* found,
                                            uint32_t* out);
mlxk_text_error* mlxk_tokenizer_id_to_token(const mlxk_tokenizer* tokenizer, uint32_t id, bool* found,
                                            mlxk_text_bytes* out);
mlxk_text_error* mlxk_tokenizer_special_count(const mlxk_tokenizer* tokenizer, size_t* out);
/* `content` is a view into the tokenizer. */
mlxk_text_error* mlxk_tokenizer_special_at(const mlxk_tokenizer* tokenizer, size_t index, uint32_t* id,
                                           mlxk_text_view* content);

/* Keeps what it needs of the tokenizer, which may be freed first. */
mlxk_text_error* mlxk_detokenizer_new(const mlxk_tokenizer* tokenizer, bool skip_special_tokens,
                                      mlxk_detokenizer** out);
void mlxk_detokenizer_free(mlxk_detokenizer* detokenizer);
mlxk_text_error* mlxk_detokenizer_push(mlxk_detokenizer* detokenizer, uint32_t id, mlxk_text_bytes* out);
mlxk_text_error* mlxk_detokenizer_finish(mlxk_detokenizer* detokenizer, mlxk_text_bytes* out);

/* `fuel`: instructions a rendering may execute; `max_output_bytes`: UTF-8 bytes of its result. */
mlxk_text_error* mlxk_template_new(mlxk_text_view source, uint64_t fuel, uint64_t max_output_bytes,
                                   mlxk_template** out);
void mlxk_template_free(mlxk_template* tmpl);
/* `context_json`: a JSON object. `plain`: where spellings of `guarded` came from messages, tools
 * or documents, as `mlxk_tokenizer_encode` takes it. */
mlxk_text_error* mlxk_template_render(const mlxk_template* tmpl, mlxk_text_view context_json, mlxk_text_views guarded,
                                      mlxk_text_bytes* out, mlxk_text_ids* plain);

#ifdef __cplusplus
}
#endif

#endif
