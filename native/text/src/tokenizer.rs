//! A parsed tokenizer.json: checked on the way in, then immutable and shared by threads.
//! Encodes, decodes and names tokens. Text arrives as UTF-16, as JavaScript holds it.
//! Knows nothing of templates, streams or the C ABI.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde::Deserialize;
use tokenizers::Tokenizer as HfTokenizer;

use crate::added::AddedMatcher;
use crate::error::{catch, Result, TextError};

/// The largest tokenizer.json in use is 34 MB (a vocabulary of 262,144).
pub const MAX_JSON_BYTES: usize = 64 << 20;
/// Sixteen times the token count of the longest contexts served, at four bytes each.
pub const MAX_TEXT_BYTES: usize = 64 << 20;
/// Sixty-four times the largest vocabulary in use; also keeps ids far from `u32` overflow.
const MAX_VOCAB: u32 = 1 << 24;
/// A context of text that is all markers would be refused by the engine long before this.
const MAX_DECODE_IDS: usize = 16 << 20;
/// Longest regular expression of a pre-tokenizer; the ones in use stay under 1,000 characters.
const MAX_PATTERN_CHARS: usize = 16 << 10;

pub struct Tokenizer {
    inner: HfTokenizer,
    vocab_size: u32,
    special: Vec<(u32, String)>,
    /// Only prompts with guarded spellings need it.
    guarded: OnceLock<Guarded>,
}

struct Guarded {
    raw: AddedMatcher,
    normalized: AddedMatcher,
}

/// The parts of the file that are checked before the tokenizers crate reads it.
#[derive(Deserialize)]
struct Declared {
    #[serde(default)]
    added_tokens: Vec<DeclaredToken>,
    #[serde(default)]
    pre_tokenizer: serde_json::Value,
    #[serde(default)]
    normalizer: serde_json::Value,
    #[serde(default)]
    decoder: serde_json::Value,
}

#[derive(Deserialize)]
struct DeclaredToken {
    id: i64,
    content: String,
}

fn invalid(message: impl Into<String>) -> TextError {
    TextError::invalid("tokenizer_invalid", message)
}

impl Tokenizer {
    /// Reads the bytes of tokenizer.json; truncation and padding sections are ignored.
    ///
    /// Errors: `tokenizer_too_large` above 64 MiB, `tokenizer_invalid` for everything else.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > MAX_JSON_BYTES {
            return Err(TextError::invalid(
                "tokenizer_too_large",
                format!(
                    "tokenizer.json has {} bytes; the limit is {MAX_JSON_BYTES}",
                    json.len()
                ),
            ));
        }
        catch(
            |panic| invalid(format!("tokenizer.json cannot be used: {panic}")),
            || Self::parse(json),
        )
    }

    fn parse(json: &[u8]) -> Result<Self> {
        let declared: Declared = serde_json::from_slice(json)
            .map_err(|e| invalid(format!("tokenizer.json cannot be read: {e}")))?;
        for section in [
            &declared.pre_tokenizer,
            &declared.normalizer,
            &declared.decoder,
        ] {
            check_patterns(section)?;
        }
        for token in &declared.added_tokens {
            if token.id < 0 || token.id >= i64::from(MAX_VOCAB) {
                return Err(invalid(format!(
                    "added token {:?} has id {}; ids are 0 to {}",
                    token.content,
                    token.id,
                    MAX_VOCAB - 1
                )));
            }
        }

        let mut inner = HfTokenizer::from_bytes(json)
            .map_err(|e| invalid(format!("tokenizer.json cannot be used: {e}")))?;
        inner
            .with_truncation(None)
            .map_err(|e| invalid(e.to_string()))?;
        inner.with_padding(None);

        // The crate renumbers an added token whose id is taken or leaves a gap, and only logs it:
        // the model would then read other tokens than its author meant.
        for token in &declared.added_tokens {
            let given = inner.token_to_id(&token.content);
            if given.map(i64::from) != Some(token.id) {
                return Err(invalid(format!(
                    "added token {:?} declares id {}, which is taken or leaves a gap before it",
                    token.content, token.id
                )));
            }
        }
        let vocab_size = check_vocab(&inner)?;

        let mut special: Vec<(u32, String)> = inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(id, token)| (*id, token.content.clone()))
            .collect();
        special.sort_unstable();

        let tokenizer = Self {
            inner,
            vocab_size,
            special,
            guarded: OnceLock::new(),
        };
        tokenizer.try_out()?;
        Ok(tokenizer)
    }

    /// A post-processor that names an absent token and a decoder with impossible settings fail
    /// only when they run; they fail here instead of at the first prompt.
    fn try_out(&self) -> Result<()> {
        let probe = |e: TextError| invalid(format!("tokenizer.json cannot be used: {e}"));
        let ids = self.encode_str("a b", true).map_err(probe)?;
        if let Some(id) = ids.iter().find(|id| **id >= self.vocab_size) {
            return Err(invalid(format!(
                "the post-processor adds id {id}, but ids end at {}",
                self.vocab_size - 1
            )));
        }
        self.decode(&ids, false).map_err(probe)?;
        Ok(())
    }

    /// Largest id, added tokens included, plus one.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// Added tokens marked special, by id.
    pub fn special_tokens(&self) -> &[(u32, String)] {
        &self.special
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The spelling of an id; an added token's is the one its author wrote.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        let added = self
            .inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .get(&id);
        match added {
            Some(token) => Some(token.content.clone()),
            None => self.inner.id_to_token(id),
        }
    }

    /// The pieces a decoder works on: the token's form after normalization, or nothing when the id
    /// is unknown or is a special token to skip.
    pub(crate) fn decoder_token(&self, id: u32, skip_special: bool) -> Option<String> {
        self.inner
            .id_to_token(id)
            .filter(|t| !skip_special || !self.inner.get_added_vocabulary().is_special_token(t))
    }

    pub(crate) fn inner(&self) -> &HfTokenizer {
        &self.inner
    }

    /// Encodes UTF-16 text. In the ranges of `plain` (pairs of UTF-16 offsets, ascending, not
    /// overlapping) the spelling of a special token is ordinary text; it also is where it touches
    /// such a range, so that a marker put together from two messages stays text.
    ///
    /// Errors: `invalid_text` (lone surrogate), `text_too_large`, `invalid_range`,
    /// `encode_failed`.
    pub fn encode_utf16(
        &self,
        text: &[u16],
        add_special_tokens: bool,
        plain: &[u32],
    ) -> Result<Vec<u32>> {
        let (utf8, ranges) = decode_utf16(text, plain)?;
        catch(encode_panicked, || {
            if ranges.is_empty() {
                self.encode_str(&utf8, add_special_tokens)
            } else {
                self.encode_guarded(&utf8, add_special_tokens, &ranges)
            }
        })
    }

    fn encode_str(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(encode_failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same steps as `encode_fast`, with our own search for added tokens in front. Cutting the
    /// text at the ranges would be shorter, but each cut is a word boundary that is not there.
    fn encode_guarded(
        &self,
        text: &str,
        add_special_tokens: bool,
        plain: &[(usize, usize)],
    ) -> Result<Vec<u32>> {
        use tokenizers::{Model, Normalizer, OffsetType, PreTokenizedString, PreTokenizer};

        let guarded = self.guarded.get_or_init(|| {
            let (raw, normalized) = AddedMatcher::pair(&self.inner);
            Guarded { raw, normalized }
        });
        let normalizer = self.inner.get_normalizer();
        let mut pieces = PreTokenizedString::from(text);
        let steps = || -> tokenizers::Result<Vec<u32>> {
            pieces.split(|_, piece| Ok(guarded.raw.split(piece, plain)))?;
            pieces.split(|_, mut piece| {
                if let Some(normalizer) = normalizer {
                    normalizer.normalize(&mut piece)?;
                }
                Ok(guarded.normalized.split(piece, plain))
            })?;
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pieces)?;
            }
            self.inner
                .get_model()
                .tokenize_in_pretokenized(&mut pieces, None)?;
            let encoding = pieces.into_encoding(None, 0, OffsetType::None)?;
            let encoding = self
                .inner
                .post_process(encoding, None, add_special_tokens)?;
            Ok(encoding.get_ids().to_vec())
        };
        steps().map_err(encode_failed)
    }

    /// Ids to text. Unknown ids contribute nothing.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        if ids.len() > MAX_DECODE_IDS {
            return Err(TextError::invalid(
                "too_many_tokens",
                format!("{} ids to decode; the limit is {MAX_DECODE_IDS}", ids.len()),
            ));
        }
        catch(
            |panic| TextError::internal("decode_failed", format!("decoding failed: {panic}")),
            || {
                // BPEDecoder of tokenizers 0.23 underflows on an empty list.
                if !ids
                    .iter()
                    .any(|id| self.decoder_token(*id, skip_special_tokens).is_some())
                {
                    return Ok(String::new());
                }
                self.inner
                    .decode(ids, skip_special_tokens)
                    .map_err(|e| TextError::internal("decode_failed", e.to_string()))
            },
        )
    }
}

fn encode_failed(e: tokenizers::Error) -> TextError {
    TextError::invalid("encode_failed", format!("the text cannot be encoded: {e}"))
}

fn encode_panicked(panic: String) -> TextError {
    TextError::invalid(
        "encode_failed",
        format!("the text cannot be encoded: {panic}"),
    )
}

/// Returns the largest id plus one.
fn check_vocab(inner: &HfTokenizer) -> Result<u32> {
    let vocab = inner.get_vocab(true);
    if vocab.is_empty() {
        return Err(invalid("the vocabulary is empty"));
    }
    let mut seen = HashSet::with_capacity(vocab.len());
    let mut largest = 0;
    for (token, id) in &vocab {
        if *id >= MAX_VOCAB {
            return Err(invalid(format!(
                "token {token:?} has id {id}; ids are 0 to {}",
                MAX_VOCAB - 1
            )));
        }
        if !seen.insert(*id) {
            return Err(invalid(format!(
                "id {id} is given to more than one token, one of them {token:?}"
            )));
        }
        largest = largest.max(*id);
    }
    Ok(largest + 1)
}

fn check_patterns(section: &serde_json::Value) -> Result<()> {
    match section {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if let (true, Some(pattern)) = (
                    matches!(key.as_str(), "Regex" | "String" | "pattern"),
                    value.as_str(),
                ) {
                    if pattern.chars().count() > MAX_PATTERN_CHARS {
                        return Err(invalid(format!(
                            "a pattern has more than {MAX_PATTERN_CHARS} characters"
                        )));
                    }
                }
                check_patterns(value)?;
            }
            Ok(())
        }
        serde_json::Value::Array(items) => items.iter().try_for_each(check_patterns),
        _ => Ok(()),
    }
}

/// UTF-16 to UTF-8, and the ranges with it.
fn decode_utf16(text: &[u16], plain: &[u32]) -> Result<(String, Vec<(usize, usize)>)> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(too_large());
    }
    check_ranges(text.len(), plain)?;
    let mut utf8 = String::with_capacity(text.len());
    let mut ranges: Vec<(usize, usize)> = Vec::with_capacity(plain.len() / 2);
    let mut bounds = plain.iter().map(|b| *b as usize).peekable();
    let mut open = None;
    let mut at = 0;
    let mut mark = |at: usize, bytes: usize| -> Result<()> {
        while let Some(bound) = bounds.peek() {
            if *bound > at {
                break;
            }
            if *bound < at {
                return Err(TextError::invalid(
                    "invalid_range",
                    format!("a plain range ends inside a surrogate pair, at {bound}"),
                ));
            }
            bounds.next();
            match open.take() {
                None => open = Some(bytes),
                Some(start) => ranges.push((start, bytes)),
            }
        }
        Ok(())
    };
    for unit in char::decode_utf16(text.iter().copied()) {
        mark(at, utf8.len())?;
        let c = unit.map_err(|e| {
            TextError::invalid(
                "invalid_text",
                format!(
                    "the text has a lone surrogate (U+{:04X}) at position {at}",
                    e.unpaired_surrogate()
                ),
            )
        })?;
        utf8.push(c);
        at += c.len_utf16();
    }
    mark(at, utf8.len())?;
    if utf8.len() > MAX_TEXT_BYTES {
        return Err(too_large());
    }
    Ok((utf8, ranges))
}

fn check_ranges(length: usize, plain: &[u32]) -> Result<()> {
    let error = |message: String| Err(TextError::invalid("invalid_range", message));
    if !plain.len().is_multiple_of(2) {
        return error(format!(
            "plain ranges are pairs, but {} offsets were given",
            plain.len()
        ));
    }
    let mut last = 0;
    for pair in plain.chunks_exact(2) {
        let (start, end) = (pair[0], pair[1]);
        if start < last || end <= start || end as usize > length {
            return error(format!(
                "plain range [{start}, {end}) is empty, out of order or outside the text of {length}"
            ));
        }
        last = end;
    }
    Ok(())
}

fn too_large() -> TextError {
    TextError::invalid(
        "text_too_large",
        format!("the text has more than {MAX_TEXT_BYTES} bytes"),
    )
}
