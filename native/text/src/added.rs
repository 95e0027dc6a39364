//! Finds added tokens in a text as the tokenizers crate does, except that a special token which
//! touches a plain range is left as text. Needed because the crate can ignore special tokens for a
//! whole text only. Agreement with the crate is a property test in `tests/tokenizer.rs`.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;
use tokenizers::normalizer::Range;
use tokenizers::{NormalizedString, Token, Tokenizer};

static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\w$").unwrap());

struct Entry {
    id: u32,
    special: bool,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
}

pub struct AddedMatcher {
    /// `None` when there is nothing to look for.
    automaton: Option<AhoCorasick>,
    entries: Vec<Entry>,
}

impl AddedMatcher {
    /// The matcher for text as written and the one for normalized text.
    pub fn pair(tokenizer: &Tokenizer) -> (Self, Self) {
        let mut raw = (Vec::new(), Vec::new());
        let mut normalized = (Vec::new(), Vec::new());
        let added = tokenizer.get_added_vocabulary();
        for (id, token) in added.get_added_tokens_decoder() {
            let (patterns, entries) = if token.normalized {
                &mut normalized
            } else {
                &mut raw
            };
            let pattern = if token.normalized {
                added.simple_id_to_token(*id)
            } else {
                None
            };
            patterns.push(pattern.unwrap_or_else(|| token.content.clone()));
            entries.push(Entry {
                id: *id,
                special: token.special,
                single_word: token.single_word,
                lstrip: token.lstrip,
                rstrip: token.rstrip,
            });
        }
        (Self::new(raw), Self::new(normalized))
    }

    fn new((patterns, entries): (Vec<String>, Vec<Entry>)) -> Self {
        let automaton = (!patterns.is_empty()).then(|| {
            AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&patterns)
                .expect("the tokenizers crate has built the same automaton")
        });
        Self { automaton, entries }
    }

    /// Cuts `piece` at the added tokens in it; `plain` are byte ranges of the whole text.
    pub fn split(
        &self,
        piece: NormalizedString,
        plain: &[(usize, usize)],
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        self.find(&piece, plain)
            .into_iter()
            .map(|(id, start, end)| {
                let slice = piece
                    .slice(Range::Normalized(start..end))
                    .expect("matches lie on character boundaries");
                let tokens = id.map(|id| {
                    let text = slice.get().to_owned();
                    let length = text.len();
                    vec![Token::new(id, text, (0, length))]
                });
                (slice, tokens)
            })
            .collect()
    }

    fn find(
        &self,
        piece: &NormalizedString,
        plain: &[(usize, usize)],
    ) -> Vec<(Option<u32>, usize, usize)> {
        let text = piece.get();
        let mut cuts = Vec::new();
        let mut done = 0;
        if let Some(automaton) = &self.automaton {
            for found in automaton.find_iter(text) {
                let entry = &self.entries[found.pattern().as_usize()];
                let (mut start, mut end) = (found.start(), found.end());
                if entry.special && touches(piece, start, end, plain) {
                    continue;
                }
                if entry.single_word
                    && (is_word(text[..start].chars().next_back())
                        || is_word(text[end..].chars().next()))
                {
                    continue;
                }
                if entry.lstrip {
                    start = text[..start].trim_end().len().max(done);
                }
                if entry.rstrip {
                    let rest = &text[end..];
                    end += rest.len() - rest.trim_start().len();
                }
                if done < start {
                    cuts.push((None, done, start));
                }
                cuts.push((Some(entry.id), start, end));
                done = end;
            }
        }
        if done != text.len() || cuts.is_empty() {
            cuts.push((None, done, text.len()));
        }
        cuts
    }
}

fn is_word(c: Option<char>) -> bool {
    c.is_some_and(|c| WORD.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Whether normalized bytes `start..end` of `piece` overlap a plain range of the original text.
fn touches(piece: &NormalizedString, start: usize, end: usize, plain: &[(usize, usize)]) -> bool {
    let shift = piece.offsets_original().0;
    let Some(original) = piece.convert_offsets(Range::Normalized(start..end)) else {
        return true;
    };
    let (start, end) = (original.start + shift, original.end + shift);
    let next = plain.partition_point(|range| range.1 <= start);
    plain.get(next).is_some_and(|range| range.0 < end)
}
