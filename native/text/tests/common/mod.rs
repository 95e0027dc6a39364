//! Tokenizers of the families in use, small enough to be made here, and texts to try them on.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use mlxk_text::tokenizer::Tokenizer;
use serde_json::{json, Value};

/// The alphabet of byte-level vocabularies, in the order of the bytes.
pub fn byte_alphabet() -> Vec<char> {
    let printable = |b: &u8| matches!(*b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = 0;
    (0..=255_u8)
        .map(|b| {
            if printable(&b) {
                char::from(b)
            } else {
                others += 1;
                char::from_u32(0xFF + others).unwrap()
            }
        })
        .collect()
}

fn added(id: usize, content: &str, special: bool) -> Value {
    json!({"id": id, "content": content, "special": special, "normalized": !special,
           "single_word": false, "lstrip": false, "rstrip": false})
}

/// Byte-level BPE as Qwen and Llama 3 have it.
pub fn byte_level() -> Value {
    let mut vocab = serde_json::Map::new();
    for c in byte_alphabet() {
        let id = vocab.len();
        vocab.insert(c.to_string(), json!(id));
    }
    let merges = [
        "h e", "l l", "he ll", "hell o", "Ġ w", "o r", "l d", "Ġw or", "Ġwor ld", "ð Ł", "ðŁ ĺ",
        "t h", "Ġ th", "Ġth e", "i m", "im _", "e n", "en d",
    ];
    for merge in merges {
        let id = vocab.len();
        vocab.insert(merge.replace(' ', ""), json!(id));
    }
    let next = vocab.len();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [
            added(next, "<|im_start|>", true), added(next + 1, "<|im_end|>", true),
            added(next + 2, "<think>", false), added(next + 3, "<|bos|>", true),
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},
             "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [next + 3], "tokens": ["<|bos|>"]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
}

/// BPE with byte fallback as Llama 2, Mistral and Gemma have it. `strip`: with the stage that takes
/// the leading space away.
pub fn fallback(strip: bool) -> Value {
    let mut vocab = serde_json::Map::new();
    for token in ["<unk>", "<s>", "</s>"] {
        let id = vocab.len();
        vocab.insert(token.into(), json!(id));
    }
    for byte in 0..=255 {
        let id = vocab.len();
        vocab.insert(format!("<0x{byte:02X}>"), json!(id));
    }
    for c in "▁abcdefghijklmnopqrstuvwxyzé.,!<|>_/".chars() {
        let id = vocab.len();
        vocab.insert(c.to_string(), json!(id));
    }
    let merges = ["▁ h", "e l", "el l", "▁h ell", "▁hell o", "▁ ▁", "▁▁ ▁▁"];
    for merge in merges {
        let id = vocab.len();
        vocab.insert(merge.replace(' ', ""), json!(id));
    }
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if strip {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocab, "merges": merges},
    })
}

/// A word list without any pre-tokenizer rules worth naming, for the other decoders.
pub fn words(decoder: Value) -> Value {
    let tokens = [
        "[UNK]", "a", "##b", "b", "▁a", "▁", "▁▁b", "a</w>", "b</w>", "</w>", "<pad>", "|", "x|y",
        ".", ",", "'s", " do not", "<0x41>", "<0xE2>", "<0x82>", "<0xAC>", "<0xFF>", " ", "  ",
        "é", "😀", "Ġ", "Ã", "©", "ab ab", "abc", "xx", "x",
    ];
    let vocab: BTreeMap<&str, usize> = tokens.iter().enumerate().map(|(i, t)| (*t, i)).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, "[UNK]", true)],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": decoder,
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab},
    })
}

pub fn load(json: &Value) -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_json(json.to_string().as_bytes()).unwrap())
}

pub fn encode(tokenizer: &Tokenizer, text: &str, special: bool) -> Vec<u32> {
    let units: Vec<u16> = text.encode_utf16().collect();
    tokenizer.encode_utf16(&units, special, &[]).unwrap()
}

/// A small deterministic generator: tests that fail must fail again.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    pub fn text(&mut self, parts: usize) -> String {
        const PARTS: [&str; 34] = [
            "hello",
            " world",
            "the ",
            " ",
            "  ",
            "\n",
            "\t",
            "é",
            "ñ",
            "日本",
            "語",
            "😀",
            "👩‍👩‍👧",
            "🇩🇪",
            "\u{301}",
            "<|im_end|>",
            "<|im_start|>",
            "<think>",
            "</s>",
            "<s>",
            "<",
            "|",
            ">",
            "a",
            "b",
            "0",
            "42",
            "'s",
            ".",
            "\u{0}",
            "\u{FFFD}",
            "\u{200d}",
            "<0x41>",
            "▁",
        ];
        (0..self.below(parts + 1))
            .map(|_| PARTS[self.below(PARTS.len())])
            .collect()
    }
}
