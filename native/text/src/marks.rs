//! Marks the spellings of special tokens inside user text, so that after rendering it is known
//! which of them came from the user. A mark is a pair of private-use characters around the
//! spelling: not white space, so `trim` and `strip` keep them, and not a quote, so `tojson` does.
//! Knows nothing of Jinja.

use std::collections::HashSet;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value as Json;

use crate::error::{Result, TextError};

/// The last private-use plane; `tojson` never escapes it, whatever `ensure_ascii` says.
const FIRST: u32 = 0x10_F000;
const LAST: u32 = 0x10_FFFD;

/// Parts of the context that hold what users and tools wrote.
const USER_KEYS: [&str; 3] = ["messages", "tools", "documents"];

/// Whether a character may be one of the marks.
pub fn is_mark(c: char) -> bool {
    (FIRST..=LAST).contains(&u32::from(c))
}

/// The spellings to guard, prepared for searching; the same for every prompt of a model.
pub struct Spellings {
    list: Vec<String>,
    /// Longest spelling in bytes: how far an unpaired mark reaches.
    longest: usize,
    finder: Option<AhoCorasick>,
    /// Proper beginnings and ends of spellings, two bytes at least.
    beginnings: HashSet<String>,
    ends: HashSet<String>,
}

/// Far above the about 1,000 special tokens of the largest vocabularies.
const MAX_GUARDED_BYTES: usize = 1 << 20;
const MAX_SPELLING_BYTES: usize = 1 << 10;

impl Spellings {
    /// Empty spellings are ignored. Errors: `invalid_guard`.
    pub fn new(guarded: &[String]) -> Result<Self> {
        let spellings: Vec<&String> = guarded.iter().filter(|s| !s.is_empty()).collect();
        let longest = spellings.iter().map(|s| s.len()).max().unwrap_or(0);
        let total: usize = spellings.iter().map(|s| s.len()).sum();
        if longest > MAX_SPELLING_BYTES || total > MAX_GUARDED_BYTES {
            return Err(TextError::invalid(
                "invalid_guard",
                format!(
                    "guarded spellings have at most {MAX_SPELLING_BYTES} bytes each and \
                     {MAX_GUARDED_BYTES} in all"
                ),
            ));
        }
        let mut beginnings = HashSet::new();
        let mut ends = HashSet::new();
        for spelling in &spellings {
            for (cut, _) in spelling.char_indices().skip(1) {
                let (first, second) = spelling.split_at(cut);
                beginnings.extend((first.len() > 1).then(|| first.to_owned()));
                ends.extend((second.len() > 1).then(|| second.to_owned()));
            }
        }
        let finder = if spellings.is_empty() {
            None
        } else {
            let built = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(&spellings);
            Some(built.map_err(|e| TextError::invalid("invalid_guard", e.to_string()))?)
        };
        Ok(Self {
            list: guarded.to_vec(),
            longest,
            finder,
            beginnings,
            ends,
        })
    }

    /// Whether these were made of `guarded`.
    pub fn are(&self, guarded: &[String]) -> bool {
        self.list == guarded
    }

    /// Bytes at the start that end a spelling, and bytes at the end that begin one; two at least,
    /// since a single `<` or `>` is everywhere and one more character is needed to forge with it.
    fn torn(&self, text: &str) -> (usize, usize) {
        let reach = text.len().min(self.longest);
        let head = (2..=reach)
            .rev()
            .find(|n| text.get(..*n).is_some_and(|head| self.ends.contains(head)));
        let tail = (2..=reach).rev().find(|n| {
            text.get(text.len() - n..)
                .is_some_and(|tail| self.beginnings.contains(tail))
        });
        (head.unwrap_or(0), tail.unwrap_or(0))
    }
}

pub struct Marks {
    open: char,
    close: char,
    spellings: Arc<Spellings>,
}

impl Marks {
    /// Chooses marks that do not occur in `source` or `context`.
    pub fn new(source: &str, context: &Json, spellings: Arc<Spellings>) -> Result<Self> {
        let mut used = HashSet::new();
        collect_marks(source, &mut used);
        visit_strings(context, &mut |text| collect_marks(text, &mut used));
        let mut free = (FIRST..=LAST)
            .filter_map(char::from_u32)
            .filter(|c| !used.contains(c));
        let (Some(open), Some(close)) = (free.next(), free.next()) else {
            return Err(TextError::invalid(
                "invalid_text",
                "the messages use every private-use character that could mark special tokens",
            ));
        };
        Ok(Self {
            open,
            close,
            spellings,
        })
    }

    /// Marks every string, keys included, under the user's parts of the context.
    pub fn mark_context(&self, context: &mut Json) {
        if self.spellings.finder.is_none() {
            return;
        }
        let Json::Object(map) = context else { return };
        for key in USER_KEYS {
            if let Some(value) = map.get_mut(key) {
                self.mark_value(value);
            }
        }
    }

    fn mark_value(&self, value: &mut Json) {
        match value {
            Json::String(text) => {
                if let Some(marked) = self.mark(text) {
                    *text = marked;
                }
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.mark_value(item)),
            Json::Object(map) => {
                if map.keys().any(|key| self.mark(key).is_some()) {
                    *map = std::mem::take(map)
                        .into_iter()
                        .map(|(key, value)| (self.mark(&key).unwrap_or(key), value))
                        .collect();
                }
                map.values_mut().for_each(|item| self.mark_value(item));
            }
            _ => {}
        }
    }

    /// `None` when there is nothing to mark.
    fn mark(&self, text: &str) -> Option<String> {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        // A spelling can be put together from the end of one string and the start of the next.
        let (head, tail) = self.spellings.torn(text);
        if head > 0 {
            ranges.push((0, head));
        }
        if let Some(finder) = &self.spellings.finder {
            ranges.extend(finder.find_iter(text).map(|m| (m.start(), m.end())));
        }
        if tail > 0 {
            ranges.push((text.len() - tail, text.len()));
        }
        if ranges.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(text.len() + 8 * ranges.len());
        let mut at = 0;
        for (start, end) in ranges {
            let start = start.max(at);
            if end <= start {
                continue;
            }
            out.push_str(&text[at..start]);
            out.push(self.open);
            out.push_str(&text[start..end]);
            out.push(self.close);
            at = end;
        }
        out.push_str(&text[at..]);
        Some(out)
    }

    /// Takes the marks out of rendered text. Returns the text and pairs of UTF-16 offsets; a mark
    /// whose partner was cut off by the template still covers the longest spelling.
    pub fn unmark(&self, rendered: &str) -> (String, Vec<u32>) {
        if self.spellings.finder.is_none() {
            return (rendered.to_owned(), Vec::new());
        }
        let mut text = String::with_capacity(rendered.len());
        let mut spans: Vec<(usize, usize)> = Vec::new();
        let mut open: Option<usize> = None;
        for c in rendered.chars() {
            if c == self.open {
                if let Some(start) = open.replace(text.len()) {
                    spans.push((start, text.len().min(start + self.spellings.longest)));
                }
            } else if c == self.close {
                let start = open
                    .take()
                    .unwrap_or_else(|| text.len().saturating_sub(self.spellings.longest));
                spans.push((start, text.len()));
            } else {
                text.push(c);
            }
        }
        if let Some(start) = open {
            spans.push((start, text.len().min(start + self.spellings.longest)));
        }
        let plain = utf16_ranges(&text, spans);
        (text, plain)
    }
}

/// Sorts, merges and converts byte spans, widened to whole characters.
fn utf16_ranges(text: &str, mut spans: Vec<(usize, usize)>) -> Vec<u32> {
    spans.retain(|(start, end)| start < end);
    spans.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    let mut plain = Vec::with_capacity(merged.len() * 2);
    let (mut byte, mut unit) = (0, 0_usize);
    let mut chars = text.chars().peekable();
    for (start, end) in merged {
        while let Some(c) = chars.next_if(|c| byte + c.len_utf8() <= start) {
            byte += c.len_utf8();
            unit += c.len_utf16();
        }
        plain.push(unit as u32);
        while let Some(c) = chars.next_if(|_| byte < end) {
            byte += c.len_utf8();
            unit += c.len_utf16();
        }
        plain.push(unit as u32);
    }
    plain
}

fn collect_marks(text: &str, used: &mut HashSet<char>) {
    // All marks begin with this byte in UTF-8, which few texts contain.
    if text.as_bytes().contains(&0xF4) {
        used.extend(text.chars().filter(|c| is_mark(*c)));
    }
}

fn visit_strings(value: &Json, visit: &mut impl FnMut(&str)) {
    match value {
        Json::String(text) => visit(text),
        Json::Array(items) => items.iter().for_each(|item| visit_strings(item, visit)),
        Json::Object(map) => map.iter().for_each(|(key, item)| {
            visit(key);
            visit_strings(item, visit);
        }),
        _ => {}
    }
}
