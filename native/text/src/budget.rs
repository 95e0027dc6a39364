//! What one rendering may cost. The engine counts instructions only, and one instruction can join
//! two strings of any size; here bytes made, bytes searched and values built draw on one account.
//! Knows values, not templates.

use std::fmt::{self, Write};

use minijinja::value::{ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Units of one rendering: a byte made is one. A conversation of 128,000 tokens with every
/// message copied twenty times takes about 10 million.
pub const WORK: u64 = 128 << 20;
/// A value in a list occupies 24 bytes and its visit costs about as much as copying 32.
const NODE: u64 = 32;
/// Searching a byte is that much cheaper than making one.
const SCAN: u64 = 4;
/// Levels of lists in lists; JSON input has at most 128 and a template adds a few.
const MAX_DEPTH: usize = 160;
/// Widest field a format string may ask for.
const MAX_WIDTH: u64 = 10_000;

/// Why a rendering was stopped; travels as the source of the engine's error.
#[derive(Debug)]
pub enum Stop {
    /// `raise_exception` of the template.
    Raised(String),
    Budget(&'static str),
    OutputTooLarge(usize),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised(message) => f.write_str(message),
            Self::Budget(what) => f.write_str(what),
            Self::OutputTooLarge(limit) => write!(f, "the output passes {limit} bytes"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        Self::new(ErrorKind::InvalidOperation, stop.to_string()).with_source(stop)
    }
}

/// How a walk through a value pays for the text in it; the keys of mappings are read always.
#[derive(Clone, Copy, PartialEq)]
enum Texts {
    /// Shared, not looked at.
    Free,
    Read,
    Copied,
}

pub struct Budget {
    work: u64,
    written: usize,
    max_output: usize,
}

impl Budget {
    pub fn new(max_output: usize) -> Self {
        Self {
            work: WORK,
            written: 0,
            max_output,
        }
    }

    /// The account of the running template; made on first use with the limit of the environment.
    pub fn of<'a>(state: &'a mut State<'_, '_>) -> &'a mut Self {
        if state.get_extension::<Self>().is_none() {
            let limit = state.lookup(OUTPUT_LIMIT).and_then(|v| v.as_usize());
            state.get_or_insert_extension(Self::new(limit.unwrap_or(0)));
        }
        state
            .get_extension_mut()
            .expect("the account was opened above")
    }

    pub fn spend(&mut self, units: u64) -> Result<(), Error> {
        if units > self.work {
            self.work = 0;
            return Err(Stop::Budget("the template does too much work").into());
        }
        self.work -= units;
        Ok(())
    }

    pub fn spent(&self) -> u64 {
        WORK - self.work
    }

    /// Bytes that become a new string.
    pub fn make(&mut self, bytes: usize) -> Result<(), Error> {
        self.spend(bytes as u64)
    }

    /// Bytes that are searched or compared.
    pub fn read(&mut self, bytes: usize) -> Result<(), Error> {
        self.spend(1 + bytes as u64 / SCAN)
    }

    /// Bytes a new string may have.
    pub fn left(&self) -> usize {
        usize::try_from(self.work).unwrap_or(usize::MAX)
    }

    pub fn nodes(&mut self, count: usize) -> Result<(), Error> {
        self.spend((count as u64).saturating_mul(NODE))
    }

    /// Bytes of output that leave the template.
    pub fn write(&mut self, bytes: usize) -> Result<(), Error> {
        self.written = self.written.saturating_add(bytes);
        if self.written > self.max_output {
            return Err(Stop::OutputTooLarge(self.max_output).into());
        }
        Ok(())
    }

    /// Looking at a value once, for a comparison or a search.
    pub fn scan(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.read(text.len()),
            None => self.walk(value, MAX_DEPTH, Texts::Read).map(drop),
        }
    }

    /// Looking at the items of a value, not inside them.
    pub fn touch(&mut self, value: &Value) -> Result<(), Error> {
        match (value.as_str(), value.len()) {
            (Some(text), _) => self.read(text.len()),
            (None, Some(count)) => self.spend(1 + count as u64 * 4),
            (None, None) => Ok(()),
        }
    }

    /// Bytes a value has as text, within a factor; pays for making that text.
    pub fn text(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.make(text.len()),
            None => self.walk(value, MAX_DEPTH, Texts::Copied).map(drop),
        }
    }

    /// A container made by the template: pays for its parts, refuses endless nesting.
    pub fn made(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.make(text.len()),
            None => self.walk(value, MAX_DEPTH, Texts::Free).map(drop),
        }
    }

    /// What may be kept in a namespace: data only. Kept objects could contain the namespace, and
    /// a value that contains itself ends the process when it is printed or dropped.
    pub fn keep(&mut self, value: &Value) -> Result<(), Error> {
        if self.walk(value, MAX_DEPTH, Texts::Free)? {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidOperation,
            "a namespace can hold text, numbers, lists and mappings only",
        ))
    }

    /// Pays for every part of `value`; false when some part is an object of the engine.
    fn walk(&mut self, value: &Value, depth: usize, texts: Texts) -> Result<bool, Error> {
        self.nodes(1)?;
        if let Some(string) = value.as_str() {
            match texts {
                Texts::Free => {}
                Texts::Read => self.read(string.len())?,
                Texts::Copied => self.make(string.len())?,
            }
            return Ok(true);
        }
        let Some(object) = value.as_object() else {
            return Ok(true);
        };
        let repr = object.repr();
        if matches!(repr, ObjectRepr::Plain) {
            return Ok(false);
        }
        if depth == 0 {
            return Err(Stop::Budget("values are nested too deeply").into());
        }
        let mut data = !is_live(value);
        match repr {
            ObjectRepr::Map => {
                if let Some(pairs) = object.try_iter_pairs() {
                    for (key, item) in pairs {
                        if let (Texts::Free, Some(key)) = (texts, key.as_str()) {
                            self.read(key.len())?;
                        }
                        data &= self.walk(&key, depth - 1, texts)?;
                        data &= self.walk(&item, depth - 1, texts)?;
                    }
                }
            }
            _ => {
                if let Some(items) = object.try_iter() {
                    for item in items {
                        data &= self.walk(&item, depth - 1, texts)?;
                    }
                }
            }
        }
        Ok(data)
    }

    /// Refuses a format string with a field wider than any text needs.
    pub fn check_widths(&mut self, format: &str) -> Result<(), Error> {
        self.read(format.len())?;
        let mut number = 0_u64;
        for byte in format.bytes() {
            number = if byte.is_ascii_digit() {
                number.saturating_mul(10) + u64::from(byte - b'0')
            } else {
                0
            };
            if number > MAX_WIDTH {
                return Err(Stop::Budget("a format string asks for too wide a field").into());
            }
        }
        // Every field can be as wide as its widest digits say, and no wider than the string says.
        let fields = format.bytes().filter(|b| matches!(b, b'%' | b'{')).count();
        let widest = widest_number(format);
        self.spend((fields as u64).saturating_mul(widest))
    }

    /// The text of a value, as Python's `str` writes it.
    pub fn string_of(&mut self, value: &Value) -> Result<String, Error> {
        if let Some(text) = value.as_str() {
            self.make(text.len())?;
            return Ok(text.to_owned());
        }
        if value.is_undefined() {
            return Ok(String::new());
        }
        self.text(value)?;
        let mut out = Limited {
            text: String::new(),
            left: self.left(),
        };
        if write!(out, "{value}").is_err() {
            return Err(Stop::Budget("a value is too large to print").into());
        }
        self.make(out.text.len())?;
        Ok(out.text)
    }
}

/// A global no template can name.
pub const OUTPUT_LIMIT: &str = "$output_limit";

/// Objects that change while the template runs: `namespace` and `loop`.
fn is_live(value: &Value) -> bool {
    value.as_object().is_some_and(|object| {
        let name = object.type_name();
        name.contains("namespace_object") || name.contains("::vm::")
    })
}

fn widest_number(format: &str) -> u64 {
    format
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse::<u64>().ok())
        .max()
        .unwrap_or(0)
}

/// Whether a value has parts.
pub fn is_container(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
    )
}

/// A string that stops growing, where even one value may print without end.
struct Limited {
    text: String,
    left: usize,
}

impl Write for Limited {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.left = self.left.checked_sub(part.len()).ok_or(fmt::Error)?;
        self.text.push_str(part);
        Ok(())
    }
}
