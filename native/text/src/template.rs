//! A chat template: compiled once, rendered with a budget of instructions, work and output, on a
//! thread with a stack of known size. Set up as transformers sets up Jinja.
//! Knows nothing of tokens beyond the spellings it is told to guard.

use std::error::Error as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::machinery::{self, CodeGenerator, Instructions, Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind};
use regex::{Captures, Regex};
use serde_json::Value as Json;

use crate::budget::{Stop, OUTPUT_LIMIT};
use crate::error::{catch, Result, TextError};
use crate::marks::{Marks, Spellings};
use crate::{guard, json, library};

/// The longest templates in use have 30 KiB.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;
/// A request body is bounded below this by the server.
pub const MAX_CONTEXT_BYTES: usize = 64 << 20;
/// Covers 150 levels of the parser and 500 frames of the engine in an unoptimized build; a thread
/// of Node may have half a megabyte only.
const STACK_BYTES: usize = 64 << 20;
/// Tokens of one `{{ }}` or `{% %}`; the longest in use have about 150.
const MAX_TAG_TOKENS: usize = 4096;
/// `elif` branches of one template.
const MAX_BRANCHES: usize = 2048;
/// Upper ends of the limits a caller can set.
const MAX_FUEL: u64 = 1 << 40;
const MAX_OUTPUT_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Instructions the template may execute.
    pub fuel: u64,
    /// UTF-8 bytes of output at most.
    pub max_output_bytes: u64,
}

pub struct Rendered {
    pub text: String,
    /// Pairs of UTF-16 offsets for `Tokenizer::encode_utf16`.
    pub plain: Vec<u32>,
}

pub struct Template {
    // Declared before the source it borrows from, so that it is dropped first.
    instructions: Instructions<'static>,
    source: Box<str>,
    env: Environment<'static>,
    limits: Limits,
    /// Of the last rendering; preparing some hundred special tokens takes longer than the rest.
    spellings: Mutex<Option<Arc<Spellings>>>,
}

impl Template {
    /// Errors: `template_invalid` with the line, `invalid_limit`.
    pub fn new(source: &str, limits: Limits) -> Result<Self> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TextError::invalid(
                "template_invalid",
                format!(
                    "the template has {} bytes; the limit is {MAX_SOURCE_BYTES}",
                    source.len()
                ),
            ));
        }
        for (name, value, most) in [
            ("fuel", limits.fuel, MAX_FUEL),
            ("maxOutputBytes", limits.max_output_bytes, MAX_OUTPUT_BYTES),
        ] {
            if value == 0 || value > most {
                return Err(TextError::invalid(
                    "invalid_limit",
                    format!("{name} is {value}; it must be 1 to {most}"),
                ));
            }
        }
        let source = without_generation_tags(source).into_boxed_str();
        check_nesting(&source)?;
        on_own_stack(|| Self::compile(source, limits))
    }

    fn compile(source: Box<str>, limits: Limits) -> Result<Self> {
        // SAFETY: the text is on the heap and neither moved nor changed while `Self` lives;
        // `instructions` is the one borrower and is dropped before it.
        let text: &'static str = unsafe { &*std::ptr::from_ref::<str>(&source) };
        let parsed =
            machinery::parse(text, "chat_template", syntax()?).map_err(|e| invalid_template(&e))?;
        let mut generator = CodeGenerator::new("chat_template", text);
        generator.compile_stmt(&guard::guarded(&parsed));
        drop(parsed);
        let (instructions, _) = generator.finish();

        let mut env = Environment::new();
        library::install(&mut env);
        env.set_fuel(Some(limits.fuel));
        env.add_global(OUTPUT_LIMIT, limits.max_output_bytes);
        Ok(Self {
            instructions,
            source,
            env,
            limits,
            spellings: Mutex::new(None),
        })
    }

    /// Renders with a JSON object; see `Marks` for `guarded`.
    ///
    /// Errors: `template_raised` with the template's own message, `template_budget`,
    /// `template_output_too_large`, `template_invalid` for a failing expression,
    /// `invalid_context`, `invalid_guard`.
    pub fn render(&self, context: &str, guarded: &[String]) -> Result<Rendered> {
        on_own_stack(|| self.render_here(context, guarded))
    }

    fn render_here(&self, context: &str, guarded: &[String]) -> Result<Rendered> {
        let bad = |message: String| TextError::invalid("invalid_context", message);
        if context.len() > MAX_CONTEXT_BYTES {
            return Err(bad(format!(
                "the context has {} bytes; the limit is {MAX_CONTEXT_BYTES}",
                context.len()
            )));
        }
        let mut context: Json = serde_json::from_str(context).map_err(|e| {
            let what = e.to_string();
            if what.contains("surrogate") || what.contains("end of hex escape") {
                TextError::invalid(
                    "invalid_text",
                    format!("the context has half a pair: {what}"),
                )
            } else {
                bad(format!("the context is not JSON: {what}"))
            }
        })?;
        if !context.is_object() {
            return Err(bad("the context must be a JSON object".to_owned()));
        }
        let marks = Marks::new(&self.source, &context, self.spellings(guarded)?)?;
        marks.mark_context(&mut context);

        let mut text = String::new();
        let blocks = std::collections::BTreeMap::new();
        let outcome = machinery::eval(
            &self.env,
            &self.instructions,
            json::to_value(context),
            &blocks,
            &mut machinery::make_string_output(&mut text),
            AutoEscape::None,
        );
        outcome.map_err(|e| render_failed(&e))?;
        let (text, plain) = marks.unmark(&text);
        if text.len() as u64 > self.limits.max_output_bytes {
            let stop = Stop::OutputTooLarge(self.limits.max_output_bytes as usize);
            return Err(TextError::invalid(
                "template_output_too_large",
                stop.to_string(),
            ));
        }
        Ok(Rendered { text, plain })
    }

    fn spellings(&self, guarded: &[String]) -> Result<Arc<Spellings>> {
        let mut last = self
            .spellings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = last.as_ref().filter(|s| s.are(guarded)) {
            return Ok(Arc::clone(same));
        }
        let made = Arc::new(Spellings::new(guarded)?);
        *last = Some(Arc::clone(&made));
        Ok(made)
    }
}

/// The parser bounds brackets and blocks but neither chains of operators nor of `elif`, and what
/// follows the parser is recursive in all of them.
fn check_nesting(source: &str) -> Result<()> {
    let mut tokenizer = Tokenizer::new(source, "chat_template", false, syntax()?);
    let (mut tokens, mut branches) = (0, 0);
    loop {
        let next = tokenizer.next_token().map_err(|e| invalid_template(&e))?;
        let Some((token, span)) = next else {
            return Ok(());
        };
        tokens += 1;
        match token {
            Token::TemplateData(_) | Token::BlockStart | Token::VariableStart => tokens = 0,
            Token::Ident("elif") => branches += 1,
            _ => {}
        }
        if tokens > MAX_TAG_TOKENS || branches > MAX_BRANCHES {
            return Err(TextError::invalid(
                "template_invalid",
                format!(
                    "the chat template is not valid: too complex (line {})",
                    span.start_line
                ),
            ));
        }
    }
}

fn syntax() -> Result<SyntaxConfig> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|e| TextError::internal("template_setup", e.to_string()))
}

/// Runs `body` on a thread whose stack holds the deepest template the engine accepts.
fn on_own_stack<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |what: String| TextError::internal("template_failed", what);
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("mlxk-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || catch(failed, body))
            .map_err(|e| failed(format!("no thread for the template: {e}")))?
            .join()
            .unwrap_or_else(|_| Err(failed("the template thread ended early".to_owned())))
    })
}

/// `{% generation %}` marks what a model is trained on; it says nothing at inference. The tags
/// become an `if` of the same length, so that positions in errors stay right.
fn without_generation_tags(source: &str) -> String {
    static TAG: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})").unwrap());
    TAG.replace_all(source, |tag: &Captures<'_>| {
        let word = if tag.get(2).is_some() {
            "endif        "
        } else {
            "if true   "
        };
        format!("{}{word}{}", &tag[1], &tag[3])
    })
    .into_owned()
}

fn place(error: &minijinja::Error) -> String {
    match error.line() {
        Some(line) => format!(" (line {line})"),
        None => String::new(),
    }
}

fn invalid_template(error: &minijinja::Error) -> TextError {
    let what = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    TextError::invalid(
        "template_invalid",
        format!("the chat template is not valid: {what}{}", place(error)),
    )
}

fn render_failed(error: &minijinja::Error) -> TextError {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return match stop {
                Stop::Raised(message) => TextError::invalid("template_raised", message.clone()),
                Stop::Budget(what) => over_budget(what, error),
                Stop::OutputTooLarge(_) => TextError::invalid(
                    "template_output_too_large",
                    format!("the chat template writes too much: {stop}"),
                ),
            };
        }
        source = cause.source();
    }
    let detail = error.detail().unwrap_or_default();
    if error.kind() == ErrorKind::OutOfFuel {
        return over_budget("it executes too many instructions", error);
    }
    if detail.contains("recursion limit exceeded") {
        return over_budget("it calls itself too deeply", error);
    }
    let what = if detail.is_empty() {
        error.kind().to_string()
    } else {
        format!("{}: {detail}", error.kind())
    };
    TextError::invalid(
        "template_invalid",
        format!("the chat template failed: {what}{}", place(error)),
    )
}

fn over_budget(what: &str, error: &minijinja::Error) -> TextError {
    TextError::invalid(
        "template_budget",
        format!("the chat template was stopped: {what}{}", place(error)),
    )
}
