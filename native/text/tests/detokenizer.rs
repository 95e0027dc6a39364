//! Streaming equals decoding the whole, for every decoder there is.

mod common;

use std::sync::Arc;

use common::{byte_level, encode, fallback, load, words, Random};
use mlxk_text::detokenizer::Detokenizer;
use mlxk_text::tokenizer::Tokenizer;
use serde_json::{json, Value};

fn stream(tokenizer: &Arc<Tokenizer>, ids: &[u32], skip: bool) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), skip).unwrap();
    let mut pieces: Vec<String> = ids
        .iter()
        .map(|id| detokenizer.push(*id).unwrap())
        .collect();
    pieces.push(detokenizer.finish().unwrap());
    pieces
}

fn decoders() -> Vec<(&'static str, Value)> {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let bytes = json!({"type": "ByteFallback"});
    let fuse = json!({"type": "Fuse"});
    let strip = |content: &str, start: usize, stop: usize| json!({"type": "Strip", "content": content, "start": start, "stop": stop});
    let chain = |decoders: Value| json!({"type": "Sequence", "decoders": decoders});
    vec![
        ("byte-level", byte_level()),
        ("fallback", fallback(false)),
        ("fallback with strip", fallback(true)),
        ("none", words(Value::Null)),
        ("fuse", words(fuse.clone())),
        ("byte fallback alone", words(bytes.clone())),
        (
            "byte level",
            words(
                json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            ),
        ),
        (
            "wordpiece",
            words(json!({"type": "WordPiece", "prefix": "##", "cleanup": true})),
        ),
        (
            "wordpiece without cleanup",
            words(json!({"type": "WordPiece", "prefix": "##", "cleanup": false})),
        ),
        (
            "metaspace",
            words(
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
            ),
        ),
        (
            "metaspace without prefix",
            words(
                json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true}),
            ),
        ),
        (
            "end of word",
            words(json!({"type": "BPEDecoder", "suffix": "</w>"})),
        ),
        (
            "ctc",
            words(
                json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true}),
            ),
        ),
        ("strip each", words(strip(" ", 1, 0))),
        ("gemma", words(chain(json!([replace, bytes, fuse])))),
        (
            "llama",
            words(chain(json!([replace, bytes, fuse, strip(" ", 1, 0)]))),
        ),
        (
            "strip at most three",
            words(chain(json!([replace, fuse, strip(" ", 3, 0)]))),
        ),
        (
            "replace behind fuse",
            words(chain(
                json!([fuse, {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"}]),
            )),
        ),
        (
            "overlapping replace behind fuse",
            words(chain(
                json!([fuse, {"type": "Replace", "pattern": {"String": "xx"}, "content": "y"}]),
            )),
        ),
        (
            "regex behind fuse",
            words(chain(
                json!([fuse, {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "A"}]),
            )),
        ),
        (
            "wordpiece behind bytes",
            words(chain(
                json!([bytes, {"type": "WordPiece", "prefix": "##", "cleanup": true}]),
            )),
        ),
        (
            "end of word in a chain",
            words(chain(
                json!([bytes, {"type": "BPEDecoder", "suffix": "</w>"}, fuse]),
            )),
        ),
        (
            "nested",
            words(chain(json!([chain(json!([replace, bytes])), fuse]))),
        ),
    ]
}

#[test]
fn pieces_put_together_are_the_decoding_of_the_whole() {
    for (name, json) in decoders() {
        let tokenizer = load(&json);
        let size = tokenizer.vocab_size() as usize + 2;
        let mut random = Random(7);
        for round in 0..300 {
            let ids: Vec<u32> = (0..random.below(24))
                .map(|_| random.below(size) as u32)
                .collect();
            for skip in [false, true] {
                let whole = tokenizer.decode(&ids, skip).unwrap();
                let pieces = stream(&tokenizer, &ids, skip);
                assert_eq!(
                    pieces.concat(),
                    whole,
                    "{name}, round {round}, ids {ids:?}, {pieces:?}"
                );
            }
        }
    }
}

#[test]
fn text_streams_without_waiting_for_the_end() {
    for json in [byte_level(), fallback(true)] {
        let tokenizer = load(&json);
        let text = "hello world, hello world";
        let ids = encode(&tokenizer, text, false);
        let pieces = stream(&tokenizer, &ids, true);
        assert_eq!(pieces.concat(), text);
        assert!(
            pieces[..ids.len()]
                .iter()
                .all(|piece| !piece.is_empty() || ids.is_empty()),
            "{pieces:?}"
        );
        assert_eq!(pieces[ids.len()], "");
    }
}

#[test]
fn characters_of_several_tokens_come_whole() {
    let tokenizer = load(&byte_level());
    let text = "😀 日本語 é".repeat(50);
    let ids = encode(&tokenizer, &text, false);
    assert!(ids.len() > text.chars().count());
    let pieces = stream(&tokenizer, &ids, true);
    assert_eq!(pieces.concat(), text);
    assert!(!pieces.concat().contains('\u{FFFD}'));
}

#[test]
fn a_broken_sequence_is_replaced_once_it_cannot_be_completed() {
    let tokenizer = load(&byte_level());
    let id = |byte: u8| {
        let c = common::byte_alphabet()[byte as usize];
        tokenizer.token_to_id(&c.to_string()).unwrap()
    };
    let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer), true).unwrap();
    assert_eq!(detokenizer.push(id(0xF0)).unwrap(), "");
    assert_eq!(detokenizer.push(id(0x9F)).unwrap(), "");
    assert_eq!(detokenizer.push(id(b'a')).unwrap(), "\u{FFFD}a");
    assert_eq!(detokenizer.push(id(0xFF)).unwrap(), "\u{FFFD}");
    assert_eq!(detokenizer.push(id(0xE2)).unwrap(), "");
    assert_eq!(detokenizer.finish().unwrap(), "\u{FFFD}");
    assert_eq!(detokenizer.finish().unwrap(), "");
    assert_eq!(
        detokenizer.push(1).unwrap_err().reason,
        "detokenizer_finished"
    );
}

#[test]
fn a_hundred_thousand_tokens_cost_no_more_each_than_a_thousand() {
    let tokenizer = load(&fallback(true));
    let id = tokenizer.token_to_id("a").unwrap();
    let mut detokenizer = Detokenizer::new(tokenizer, true).unwrap();
    let started = std::time::Instant::now();
    for _ in 0..100_000 {
        detokenizer.push(id).unwrap();
    }
    // Quadratic work on as many tokens takes minutes.
    assert!(started.elapsed().as_secs() < 60);
}
