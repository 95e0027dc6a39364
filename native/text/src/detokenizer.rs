//! Turns a stream of ids into pieces of whole characters; the pieces and `finish` put together are
//! exactly the decoding of the whole. Each decoder of tokenizer.json becomes a stage that keeps
//! only what is not yet certain, so a token costs the same at any length of the answer.
//! Knows nothing of stop strings or of the C ABI.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use tokenizers::{Decoder, DecoderWrapper};

use crate::error::{catch, Result, TextError};
use crate::tokenizer::Tokenizer;

pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    stages: Vec<Stage>,
    finished: bool,
}

impl Detokenizer {
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Result<Self> {
        let stages = stages_of(tokenizer.inner().get_decoder())?;
        Ok(Self {
            tokenizer,
            skip_special,
            stages,
            finished: false,
        })
    }

    /// Text that became certain with `id`; often empty in the middle of a character.
    ///
    /// Errors: `detokenizer_finished` after `finish`.
    pub fn push(&mut self, id: u32) -> Result<String> {
        if self.finished {
            return Err(TextError::invalid(
                "detokenizer_finished",
                "push was called after finish",
            ));
        }
        let Some(token) = self.tokenizer.decoder_token(id, self.skip_special) else {
            return Ok(String::new());
        };
        catch(decoder_panicked, || {
            let mut out = String::new();
            run(&mut self.stages, Piece::Token(token), &mut out)?;
            Ok(out)
        })
    }

    /// What is held back, with a replacement character for each broken sequence. Later calls
    /// return nothing.
    pub fn finish(&mut self) -> Result<String> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(String::new());
        }
        catch(decoder_panicked, || {
            let mut out = String::new();
            for at in 0..self.stages.len() {
                let mut held = VecDeque::new();
                self.stages[at].finish(&mut held)?;
                for piece in held {
                    run(&mut self.stages[at + 1..], piece, &mut out)?;
                }
            }
            Ok(out)
        })
    }
}

fn decoder_panicked(panic: String) -> TextError {
    TextError::internal("decode_failed", format!("decoding failed: {panic}"))
}

fn decoder_failed(e: tokenizers::Error) -> TextError {
    TextError::internal("decode_failed", e.to_string())
}

/// What travels between stages: whole tokens, or after a fusing stage parts of one endless token.
enum Piece {
    Token(String),
    Part(String),
}

fn run(stages: &mut [Stage], piece: Piece, out: &mut String) -> Result<()> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        let (Piece::Token(text) | Piece::Part(text)) = piece;
        out.push_str(&text);
        return Ok(());
    };
    let mut made = VecDeque::new();
    stage.push(piece, &mut made)?;
    made.into_iter().try_for_each(|piece| run(rest, piece, out))
}

enum Stage {
    /// Token by token, each for itself (Replace, Strip).
    Each(DecoderWrapper),
    /// Token by token; the first is treated otherwise (WordPiece, Metaspace).
    FirstDiffers {
        decoder: DecoderWrapper,
        first: bool,
    },
    /// Equal neighbours count once (CTC).
    Distinct {
        decoder: DecoderWrapper,
        last: Option<String>,
    },
    /// The suffix of the last token vanishes where others become a space (BPEDecoder).
    LastDiffers {
        decoder: DecoderWrapper,
        suffix: String,
        held: Option<String>,
    },
    /// Bytes in the alphabet of GPT-2; the end of a sequence cut short is held.
    ByteLevel {
        tail: Vec<u8>,
    },
    /// `<0xNN>` tokens; a run is text only if all of it is, so the run is held.
    ByteFallback {
        run: Vec<u8>,
    },
    Fuse,
    /// Strip behind a fusing stage: the start once, the end at the end.
    StripWhole {
        content: char,
        start: usize,
        stop: usize,
        held: usize,
    },
    /// A literal replaced behind a fusing stage; a possible beginning of the literal is held.
    ReplaceWhole {
        pattern: String,
        content: String,
        tail: String,
    },
    /// Decoders with no exact streaming form behind a fusing stage: all of the text is held.
    Whole {
        decoder: DecoderWrapper,
        text: Option<String>,
    },
    /// No decoder at all: tokens joined by spaces.
    Join {
        first: bool,
    },
}

/// Flattens the decoder into stages.
fn stages_of(decoder: Option<&DecoderWrapper>) -> Result<Vec<Stage>> {
    let Some(decoder) = decoder else {
        return Ok(vec![Stage::Join { first: true }]);
    };
    // The members of a Sequence are private, its serialized form is not.
    let json = serde_json::to_value(decoder)
        .map_err(|e| TextError::internal("decode_failed", e.to_string()))?;
    let mut stages = Vec::new();
    let mut fused = false;
    add_stages(&json, &mut stages, &mut fused)?;
    Ok(stages)
}

fn add_stages(json: &serde_json::Value, stages: &mut Vec<Stage>, fused: &mut bool) -> Result<()> {
    if let (Some("Sequence"), Some(members)) = (json["type"].as_str(), json["decoders"].as_array())
    {
        return members
            .iter()
            .try_for_each(|member| add_stages(member, stages, fused));
    }
    let decoder: DecoderWrapper = serde_json::from_value(json.clone())
        .map_err(|e| TextError::internal("decode_failed", e.to_string()))?;
    let stage = match &decoder {
        DecoderWrapper::Fuse(_) => Stage::Fuse,
        DecoderWrapper::Strip(strip) if *fused => Stage::StripWhole {
            content: strip.content,
            start: strip.start,
            stop: strip.stop,
            held: 0,
        },
        DecoderWrapper::Replace(_) if *fused => match json["pattern"]["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => Stage::ReplaceWhole {
                pattern: pattern.to_owned(),
                content: json["content"].as_str().unwrap_or_default().to_owned(),
                tail: String::new(),
            },
            _ => Stage::Whole {
                decoder: decoder.clone(),
                text: None,
            },
        },
        _ if *fused => Stage::Whole {
            decoder: decoder.clone(),
            text: None,
        },
        DecoderWrapper::ByteLevel(_) => Stage::ByteLevel { tail: Vec::new() },
        DecoderWrapper::ByteFallback(_) => Stage::ByteFallback { run: Vec::new() },
        DecoderWrapper::BPE(bpe) => Stage::LastDiffers {
            suffix: bpe.suffix.clone(),
            decoder: decoder.clone(),
            held: None,
        },
        DecoderWrapper::CTC(_) => Stage::Distinct {
            decoder: decoder.clone(),
            last: None,
        },
        DecoderWrapper::WordPiece(_) | DecoderWrapper::Metaspace(_) => Stage::FirstDiffers {
            decoder: decoder.clone(),
            first: true,
        },
        _ => Stage::Each(decoder.clone()),
    };
    *fused |= matches!(stage, Stage::Fuse | Stage::ByteLevel { .. });
    stages.push(stage);
    Ok(())
}

fn decode_one(decoder: &DecoderWrapper, token: String) -> Result<Vec<String>> {
    decoder.decode_chain(vec![token]).map_err(decoder_failed)
}

impl Stage {
    fn push(&mut self, piece: Piece, out: &mut VecDeque<Piece>) -> Result<()> {
        let (Piece::Token(token) | Piece::Part(token)) = piece;
        match self {
            Stage::Each(decoder) => {
                out.extend(decode_one(decoder, token)?.into_iter().map(Piece::Token));
            }
            Stage::FirstDiffers { decoder, first } => {
                if std::mem::replace(first, false) {
                    out.extend(decode_one(decoder, token)?.into_iter().map(Piece::Token));
                } else {
                    let both = decoder
                        .decode_chain(vec![String::new(), token])
                        .map_err(decoder_failed)?;
                    out.extend(both.into_iter().skip(1).map(Piece::Token));
                }
            }
            Stage::Distinct { decoder, last } => {
                if last.as_ref() != Some(&token) {
                    *last = Some(token.clone());
                    out.extend(decode_one(decoder, token)?.into_iter().map(Piece::Token));
                }
            }
            Stage::LastDiffers {
                decoder,
                suffix,
                held,
            } => {
                if let Some(previous) = held.take() {
                    let mut both = decoder
                        .decode_chain(vec![previous, String::new()])
                        .map_err(decoder_failed)?;
                    both.truncate(1);
                    out.extend(both.into_iter().map(Piece::Token));
                }
                if token.contains(suffix.as_str()) {
                    *held = Some(token);
                } else {
                    out.push_back(Piece::Token(token));
                }
            }
            Stage::ByteLevel { tail } => {
                let mapped: Option<Vec<u8>> = token.chars().map(byte_level).collect();
                tail.extend(mapped.unwrap_or_else(|| token.into_bytes()));
                out.push_back(Piece::Part(take_certain(tail)));
            }
            Stage::ByteFallback { run } => match byte_of(&token) {
                Some(byte) => run.push(byte),
                None => {
                    flush_run(run, out);
                    out.push_back(Piece::Token(token));
                }
            },
            Stage::Fuse => out.push_back(Piece::Part(token)),
            Stage::StripWhole {
                content,
                start,
                stop,
                held,
            } => {
                let mut text = token.as_str();
                while *start > 0 && !text.is_empty() {
                    match text.strip_prefix(*content) {
                        Some(rest) => {
                            text = rest;
                            *start -= 1;
                        }
                        None => *start = 0,
                    }
                }
                let mut part = String::with_capacity(text.len());
                for c in text.chars() {
                    if c == *content && *held < *stop {
                        *held += 1;
                        continue;
                    }
                    if c != *content {
                        part.extend((0..std::mem::take(held)).map(|_| *content));
                    }
                    part.push(c);
                }
                out.push_back(Piece::Part(part));
            }
            Stage::ReplaceWhole {
                pattern,
                content,
                tail,
            } => {
                tail.push_str(&token);
                let mut part = String::new();
                let mut done = 0;
                while let Some(at) = tail[done..].find(pattern.as_str()) {
                    part.push_str(&tail[done..done + at]);
                    part.push_str(content);
                    done += at + pattern.len();
                }
                let rest = &tail[done..];
                let kept = longest_overlap(rest, pattern);
                part.push_str(&rest[..rest.len() - kept]);
                *tail = rest[rest.len() - kept..].to_owned();
                out.push_back(Piece::Part(part));
            }
            Stage::Whole { text, .. } => text.get_or_insert_default().push_str(&token),
            Stage::Join { first } => {
                if !std::mem::replace(first, false) {
                    out.push_back(Piece::Part(" ".to_owned()));
                }
                out.push_back(Piece::Part(token));
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut VecDeque<Piece>) -> Result<()> {
        match self {
            Stage::LastDiffers { decoder, held, .. } => {
                if let Some(last) = held.take() {
                    out.extend(decode_one(decoder, last)?.into_iter().map(Piece::Token));
                }
            }
            Stage::ByteLevel { tail } => {
                let text = String::from_utf8_lossy(tail).into_owned();
                out.push_back(Piece::Part(text));
                tail.clear();
            }
            Stage::ByteFallback { run } => flush_run(run, out),
            Stage::ReplaceWhole { tail, .. } => {
                out.push_back(Piece::Part(std::mem::take(tail)));
            }
            Stage::Whole { decoder, text } => {
                if let Some(text) = text.take() {
                    out.extend(decode_one(decoder, text)?.into_iter().map(Piece::Part));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The byte a character stands for in the alphabet of GPT-2: printable bytes stand for themselves,
/// the others are numbered from U+0100 in order.
fn byte_level(c: char) -> Option<u8> {
    static OTHERS: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..=255).filter(|b| !is_printable(*b)).collect());
    fn is_printable(byte: u8) -> bool {
        matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
    }
    match u32::from(c) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(|b| is_printable(*b)),
        code => OTHERS.get(code as usize - 0x100).copied(),
    }
}

/// Removes from `bytes` all that later bytes cannot change, broken sequences replaced.
fn take_certain(bytes: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(e) => {
                let (valid, broken) = rest.split_at(e.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                rest = broken;
                let Some(length) = e.error_len() else { break };
                text.push('\u{FFFD}');
                rest = &rest[length..];
            }
        }
    }
    *bytes = rest.to_vec();
    text
}

/// Length of the longest end of `text` that is a proper beginning of `pattern`.
fn longest_overlap(text: &str, pattern: &str) -> usize {
    (1..pattern.len().min(text.len() + 1))
        .rev()
        .find(|n| text.as_bytes().ends_with(&pattern.as_bytes()[..*n]))
        .unwrap_or(0)
}

fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` also takes a sign, and the reference decoder with it.
    (token.len() == 6)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// The reference decoder answers a run that is not UTF-8 with one replacement character per byte.
fn flush_run(run: &mut Vec<u8>, out: &mut VecDeque<Piece>) {
    if run.is_empty() {
        return;
    }
    match String::from_utf8(std::mem::take(run)) {
        Ok(text) => out.push_back(Piece::Token(text)),
        Err(broken) => {
            let count = broken.as_bytes().len();
            out.extend((0..count).map(|_| Piece::Token("\u{FFFD}".to_owned())));
        }
    }
}
