//! The one error of this crate: a code of the contract's taxonomy, a stable reason, a sentence.
//! Also the unwinding barrier: the `tokenizers` crate panics on some malformed files, and a panic
//! must not cross the C ABI. Knows nothing of tokenizers or templates.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What went wrong, in the words the JavaScript side shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    pub code: &'static str,
    pub reason: &'static str,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, TextError>;

impl TextError {
    /// Input the caller can correct.
    pub fn invalid(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: "validation_error",
            reason,
            message: message.into(),
        }
    }

    /// A defect of this library or of one it uses.
    pub fn internal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: "internal_error",
            reason,
            message: message.into(),
        }
    }
}

impl std::fmt::Display for TextError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TextError {}

thread_local! {
    static CATCHING: Cell<u32> = const { Cell::new(0) };
}

/// Runs `body`; a panic inside becomes the error that `on_panic` makes of its message.
///
/// The panic hook stays quiet while `body` runs: a malformed file is an expected input, and its
/// report belongs in the error, not on the process's standard error.
pub fn catch<T>(
    on_panic: impl FnOnce(String) -> TextError,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    install_hook();
    CATCHING.with(|depth| depth.set(depth.get() + 1));
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    CATCHING.with(|depth| depth.set(depth.get() - 1));
    outcome.unwrap_or_else(|payload| Err(on_panic(panic_text(payload.as_ref()))))
}

fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.with(Cell::get) == 0 {
                previous(info);
            }
        }));
    });
}

fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
