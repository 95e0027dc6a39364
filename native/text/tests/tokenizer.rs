//! Files are checked when they are read; special tokens are text where the caller says so.

mod common;

use common::{byte_level, encode, fallback, load, words, Random};
use mlxk_text::tokenizer::{Tokenizer, MAX_JSON_BYTES};
use serde_json::{json, Value};

fn refused(json: &Value) -> String {
    let error = Tokenizer::from_json(json.to_string().as_bytes())
        .err()
        .expect("the file was accepted");
    assert_eq!(
        (error.code, error.reason),
        ("validation_error", "tokenizer_invalid")
    );
    error.message
}

fn units(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

#[test]
fn decoding_an_encoding_gives_the_text_back() {
    let tokenizer = load(&byte_level());
    let mut random = Random(1);
    for _ in 0..2000 {
        // NFC would compose these.
        let text = random.text(20).replace('\u{301}', "");
        assert_eq!(
            tokenizer
                .decode(&encode(&tokenizer, &text, false), false)
                .unwrap(),
            text
        );
    }
}

#[test]
fn special_tokens_are_added_once_and_listed() {
    let tokenizer = load(&byte_level());
    let bos = tokenizer.token_to_id("<|bos|>").unwrap();
    assert_eq!(encode(&tokenizer, "", true), [bos]);
    let with = encode(&tokenizer, "hello<|im_end|>", true);
    assert_eq!(with[0], bos);
    assert_eq!(with[1..], encode(&tokenizer, "hello<|im_end|>", false));
    let listed: Vec<&str> = tokenizer
        .special_tokens()
        .iter()
        .map(|(_, t)| t.as_str())
        .collect();
    assert_eq!(listed, ["<|im_start|>", "<|im_end|>", "<|bos|>"]);
    assert_eq!(tokenizer.vocab_size(), bos + 1);
    assert_eq!(tokenizer.id_to_token(bos).as_deref(), Some("<|bos|>"));
    assert_eq!(tokenizer.id_to_token(bos + 1), None);
    assert_eq!(
        tokenizer.decode(&[bos, bos + 1, u32::MAX], true).unwrap(),
        ""
    );
}

#[test]
fn a_spelling_in_a_plain_range_is_text() {
    for (json, spelling) in [(byte_level(), "<|im_end|>"), (fallback(true), "</s>")] {
        let tokenizer = load(&json);
        let id = tokenizer.token_to_id(spelling).unwrap();
        let text = format!("a {spelling} é😀 {spelling}");
        let first = 2;
        let second = 2 + spelling.len() as u32 + 5;
        let length = spelling.len() as u32;
        let encode = |plain: &[u32]| tokenizer.encode_utf16(&units(&text), true, plain).unwrap();
        let count = |ids: Vec<u32>| ids.iter().filter(|x| **x == id).count();
        assert_eq!(count(encode(&[])), 2);
        assert_eq!(count(encode(&[first, first + length])), 1);
        assert_eq!(count(encode(&[second, second + length])), 1);
        assert_eq!(
            count(encode(&[first, first + length, second, second + length])),
            0
        );
        assert_eq!(count(encode(&[0, second + length])), 0);
        // One unit inside the marker is enough: it came from two sources.
        assert_eq!(count(encode(&[first + 1, first + 2])), 1);
        assert_eq!(count(encode(&[first + length, first + length + 1])), 2);
        let ids = encode(&[first, first + length, second, second + length]);
        assert!(tokenizer.decode(&ids, true).unwrap().contains(spelling));
    }
}

#[test]
fn plain_ranges_without_markers_change_nothing() {
    for json in [byte_level(), fallback(true), words(Value::Null)] {
        let tokenizer = load(&json);
        let mut random = Random(3);
        for _ in 0..2000 {
            let text = random.text(12);
            let text = format!("{text}x");
            let length = units(&text).len() as u32;
            // The last unit is no part of a marker, but sends the text through our own search.
            let guarded = tokenizer
                .encode_utf16(&units(&text), true, &[length - 1, length])
                .unwrap();
            assert_eq!(guarded, encode(&tokenizer, &text, true), "{text:?}");
        }
    }
}

#[test]
fn only_special_tokens_become_text() {
    let tokenizer = load(&byte_level());
    let think = tokenizer.token_to_id("<think>").unwrap();
    let ids = tokenizer
        .encode_utf16(&units("<think>"), false, &[0, 7])
        .unwrap();
    assert_eq!(ids, [think]);
}

#[test]
fn normalized_special_tokens_are_found_and_guarded() {
    let mut json = byte_level();
    json["normalizer"] = json!({"type": "Lowercase"});
    let tokens = json["added_tokens"].as_array_mut().unwrap();
    tokens[1]["normalized"] = json!(true);
    let tokenizer = load(&json);
    let id = tokenizer.token_to_id("<|im_end|>").unwrap();
    let text = units("ÄB <|IM_END|> c<|im_end|>");
    let all = tokenizer.encode_utf16(&text, false, &[]).unwrap();
    assert_eq!(all.iter().filter(|x| **x == id).count(), 2);
    for (plain, left) in [([3, 13], 1), ([15, 25], 1), ([13, 15], 2), ([3, 25], 0)] {
        let ids = tokenizer.encode_utf16(&text, false, &plain).unwrap();
        assert_eq!(ids.iter().filter(|x| **x == id).count(), left, "{plain:?}");
    }
}

#[test]
fn white_space_rules_of_added_tokens_hold_in_guarded_text() {
    let mut json = byte_level();
    let tokens = json["added_tokens"].as_array_mut().unwrap();
    tokens[0]["lstrip"] = json!(true);
    tokens[1]["rstrip"] = json!(true);
    tokens[2]["single_word"] = json!(true);
    let tokenizer = load(&json);
    let mut random = Random(11);
    for _ in 0..3000 {
        let text = format!("{}x", random.text(10));
        let length = units(&text).len() as u32;
        let guarded = tokenizer
            .encode_utf16(&units(&text), true, &[length - 1, length])
            .unwrap();
        assert_eq!(guarded, encode(&tokenizer, &text, true), "{text:?}");
    }
}

#[test]
fn lone_surrogates_and_bad_ranges_are_refused() {
    let tokenizer = load(&byte_level());
    let reason = |text: &[u16], plain: &[u32]| {
        tokenizer
            .encode_utf16(text, false, plain)
            .unwrap_err()
            .reason
    };
    assert_eq!(reason(&[0x61, 0xD800], &[]), "invalid_text");
    assert_eq!(reason(&[0xDC00, 0x61], &[]), "invalid_text");
    let text = units("a😀b");
    for plain in [
        &[0][..],
        &[1, 1],
        &[2, 1],
        &[0, 5],
        &[0, 2],
        &[2, 3],
        &[1, 3, 2, 4],
        &[u32::MAX, 0],
    ] {
        assert_eq!(reason(&text, plain), "invalid_range", "{plain:?}");
    }
    assert!(tokenizer
        .encode_utf16(&text, false, &[0, 1, 1, 3, 3, 4])
        .is_ok());
}

#[test]
fn truncation_and_padding_of_the_file_are_ignored() {
    let mut json = byte_level();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
                             "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    let plain = load(&byte_level());
    let tokenizer = load(&json);
    assert_eq!(
        encode(&tokenizer, "hello world hello", true),
        encode(&plain, "hello world hello", true)
    );
}

#[test]
fn files_that_lie_are_refused() {
    let base = byte_level();
    let with = |path: &str, value: Value| {
        let mut json = base.clone();
        *json.pointer_mut(path).unwrap() = value;
        json
    };
    refused(&json!([]));
    assert!(refused(&json!({"added_tokens": 3})).contains("cannot be read"));
    assert!(refused(&json!({})).contains("cannot be used"));
    refused(&with("/model/vocab", json!({})));
    refused(&with("/model/merges/0", json!("h zz")));
    refused(&with("/model/vocab/h", json!(-1)));
    assert!(refused(&with("/model/vocab/h", json!(5))).contains("more than one token"));
    assert!(refused(&with("/model/vocab/h", json!(1_u32 << 31))).contains("ids are 0 to"));
    assert!(refused(&with("/added_tokens/0/id", json!(-7))).contains("id -7"));
    assert!(refused(&with("/added_tokens/0/id", json!(1_u64 << 40))).contains("<|im_start|>"));
    assert!(refused(&with("/added_tokens/0/id", json!(4))).contains("<|im_start|>"));
    assert!(
        refused(&with("/added_tokens/1/content", json!("<|im_start|>"))).contains("<|im_start|>")
    );
    refused(&with("/post_processor/special_tokens", json!({})));
    refused(&with(
        "/post_processor/special_tokens/<|bos|>/ids",
        json!([99_999]),
    ));
    refused(&with("/decoder", json!({"type": "Nonsense"})));
    refused(&with(
        "/pre_tokenizer/pretokenizers/0/pattern/Regex",
        json!("(unclosed"),
    ));
    refused(&with(
        "/pre_tokenizer/pretokenizers/0/pattern/Regex",
        json!("a".repeat(20_000)),
    ));
    refused(&words(
        json!({"type": "Strip", "content": "a", "start": 0, "stop": 9}),
    ));
    let error = Tokenizer::from_json(b"{\"version\": \"1.0\"")
        .err()
        .unwrap();
    assert_eq!(error.reason, "tokenizer_invalid");
    let error = Tokenizer::from_json(&vec![b' '; MAX_JSON_BYTES + 1])
        .err()
        .unwrap();
    assert_eq!(error.reason, "tokenizer_too_large");
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = fallback(true).to_string().into_bytes();
    for cut in (0..bytes.len() - 1).step_by(61) {
        assert!(Tokenizer::from_json(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}
