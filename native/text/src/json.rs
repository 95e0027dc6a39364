//! JSON in and out of the template engine: context to values, and `tojson` written as Python's
//! `json.dumps` writes it, since the models were trained on that. Knows nothing of templates.

use std::fmt::Write;

use indexmap::IndexMap;
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde_json::Value as Json;

use crate::budget::Stop;
use crate::marks::is_mark;

pub fn to_value(json: Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(b) => Value::from(b),
        Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(n), _, _) => Value::from(n),
            (_, Some(n), _) => Value::from(n),
            (_, _, n) => Value::from(n.unwrap_or(f64::NAN)),
        },
        Json::String(s) => Value::from(s),
        Json::Array(items) => Value::from(items.into_iter().map(to_value).collect::<Vec<_>>()),
        Json::Object(map) => Value::from_object(
            map.into_iter()
                .map(|(key, item)| (Value::from(key), to_value(item)))
                .collect::<IndexMap<Value, Value>>(),
        ),
    }
}

/// Settings of `json.dumps` that chat templates use.
pub struct Style {
    pub ensure_ascii: bool,
    /// Spaces a level, or nothing for one line.
    pub indent: Option<usize>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
    /// Bytes the text may have.
    pub max_bytes: usize,
}

pub fn dumps(value: &Value, style: &Style) -> Result<String, Error> {
    let mut out = String::new();
    write_value(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value, style: &Style, level: usize) -> Result<(), Error> {
    if out.len() > style.max_bytes {
        return Err(Stop::Budget("tojson writes too much").into());
    }
    if let Some(text) = value.as_str() {
        write_string(out, text, style.ensure_ascii);
        return Ok(());
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut first = true;
            out.push('[');
            for item in value.try_iter()? {
                separate(out, style, level + 1, &mut first);
                write_value(out, &item, style, level + 1)?;
            }
            close(out, ']', style, level, first);
        }
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in value.try_iter()? {
                let item = value.get_item(&key)?;
                pairs.push((key_text(&key)?, item));
            }
            if style.sort_keys {
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
            }
            let mut first = true;
            out.push('{');
            for (key, item) in pairs {
                separate(out, style, level + 1, &mut first);
                write_string(out, &key, style.ensure_ascii);
                out.push_str(&style.key_separator);
                write_value(out, &item, style, level + 1)?;
            }
            close(out, '}', style, level, first);
        }
        kind => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value of type {kind} is not JSON serializable"),
            ))
        }
    }
    Ok(())
}

fn separate(out: &mut String, style: &Style, level: usize, first: &mut bool) {
    if !std::mem::replace(first, false) {
        out.push_str(&style.item_separator);
    }
    new_line(out, style, level);
}

fn close(out: &mut String, bracket: char, style: &Style, level: usize, empty: bool) {
    if !empty {
        new_line(out, style, level);
    }
    out.push(bracket);
}

fn new_line(out: &mut String, style: &Style, level: usize) {
    if let Some(indent) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * level));
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    if let Some(text) = key.as_str() {
        return Ok(text.to_owned());
    }
    match key.kind() {
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(number(key)),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("keys of JSON objects are text or numbers, not {kind}"),
        )),
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(n) => python_float(n),
        Err(_) => value.to_string(),
    }
}

/// The shortest digits that read back the same, in the notation of Python's `repr`.
fn python_float(n: f64) -> String {
    if n.is_nan() {
        return "NaN".to_owned();
    }
    if n.is_infinite() {
        return if n > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{n:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if n != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{n:?}")
}

fn write_string(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            // Marks stay themselves: they are not part of the text.
            c if ensure_ascii && u32::from(c) > 0x7E && !is_mark(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
