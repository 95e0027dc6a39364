//! The C ABI of the text layer; `include/mlxk_text.h` is its description, kept by hand.
//! Every function catches panics, checks its pointers and answers with an owned error or null.
//! Only this file deals with raw pointers.

pub mod added;
pub mod budget;
pub mod detokenizer;
pub mod error;
pub mod filters;
pub mod guard;
pub mod json;
pub mod library;
pub mod marks;
pub mod steps;
pub mod strftime;
pub mod template;
pub mod tokenizer;

use std::sync::Arc;

use crate::detokenizer::Detokenizer;
use crate::error::{catch, Result, TextError};
use crate::template::{Limits, Template};
use crate::tokenizer::Tokenizer;

/// Borrowed bytes of the caller; `data` may be null when `size` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct View<T> {
    pub data: *const T,
    pub size: usize,
}

/// Memory of this library; goes back through `mlxk_text_bytes_free` or `mlxk_text_ids_free`.
#[repr(C)]
pub struct Owned<T> {
    pub data: *mut T,
    pub size: usize,
}

impl<T> Owned<T> {
    fn new(values: Vec<T>) -> Self {
        let values = Box::leak(values.into_boxed_slice());
        Self {
            data: values.as_mut_ptr(),
            size: values.len(),
        }
    }

    /// # Safety
    /// `self` was made by `new` and is not used again.
    unsafe fn free(&self) {
        if !self.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(
                self.data, self.size,
            )));
        }
    }
}

type Bytes = Owned<u8>;
type Ids = Owned<u32>;

/// The tokenizer handle; detokenizers share what is inside.
pub struct TokenizerHandle(Arc<Tokenizer>);

fn text(value: String) -> Bytes {
    Owned::new(value.into_bytes())
}

fn guard(body: impl FnOnce() -> Result<()>) -> *mut TextError {
    let outcome = catch(|panic| TextError::internal("text_panic", panic), body);
    match outcome {
        Ok(()) => std::ptr::null_mut(),
        Err(error) => Box::into_raw(Box::new(error)),
    }
}

/// # Safety
/// `view.data` points to `view.size` values.
unsafe fn slice<'a, T>(view: View<T>) -> &'a [T] {
    if view.size == 0 || view.data.is_null() {
        &[]
    } else {
        std::slice::from_raw_parts(view.data, view.size)
    }
}

/// # Safety
/// As for `slice`.
unsafe fn utf8<'a>(view: View<u8>) -> Result<&'a str> {
    std::str::from_utf8(slice(view))
        .map_err(|e| TextError::invalid("invalid_text", format!("the text is not UTF-8: {e}")))
}

/// # Safety
/// `pointer` is null or valid.
unsafe fn handle<'a, T>(pointer: *const T) -> Result<&'a T> {
    pointer
        .as_ref()
        .ok_or_else(|| TextError::internal("null_handle", "a null handle was passed"))
}

macro_rules! abi {
    ($(fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        /// # Safety
        /// See `include/mlxk_text.h`.
        #[no_mangle]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> *mut TextError {
            guard(|| { $body; Ok(()) })
        }
    )*};
}

abi! {
    fn mlxk_tokenizer_new(json: View<u8>, out: *mut *mut TokenizerHandle) {
        let tokenizer = Arc::new(Tokenizer::from_json(slice(json))?);
        *out = Box::into_raw(Box::new(TokenizerHandle(tokenizer)));
    }

    fn mlxk_tokenizer_encode(
        tokenizer: *const TokenizerHandle,
        utf16: View<u16>,
        add_special_tokens: bool,
        plain: View<u32>,
        out: *mut Ids,
    ) {
        let tokenizer = &handle(tokenizer)?.0;
        let ids = tokenizer.encode_utf16(slice(utf16), add_special_tokens, slice(plain))?;
        *out = Owned::new(ids);
    }

    fn mlxk_tokenizer_decode(
        tokenizer: *const TokenizerHandle,
        ids: View<u32>,
        skip_special_tokens: bool,
        out: *mut Bytes,
    ) {
        *out = text(handle(tokenizer)?.0.decode(slice(ids), skip_special_tokens)?);
    }

    fn mlxk_tokenizer_vocab_size(tokenizer: *const TokenizerHandle, out: *mut u32) {
        *out = handle(tokenizer)?.0.vocab_size();
    }

    fn mlxk_tokenizer_token_to_id(
        tokenizer: *const TokenizerHandle,
        token: View<u8>,
        found: *mut bool,
        out: *mut u32,
    ) {
        let id = handle(tokenizer)?.0.token_to_id(utf8(token)?);
        *found = id.is_some();
        *out = id.unwrap_or(0);
    }

    fn mlxk_tokenizer_id_to_token(
        tokenizer: *const TokenizerHandle,
        id: u32,
        found: *mut bool,
        out: *mut Bytes,
    ) {
        let token = handle(tokenizer)?.0.id_to_token(id);
        *found = token.is_some();
        *out = text(token.unwrap_or_default());
    }

    fn mlxk_tokenizer_special_count(tokenizer: *const TokenizerHandle, out: *mut usize) {
        *out = handle(tokenizer)?.0.special_tokens().len();
    }

    fn mlxk_tokenizer_special_at(
        tokenizer: *const TokenizerHandle,
        index: usize,
        id: *mut u32,
        content: *mut View<u8>,
    ) {
        let tokens = handle(tokenizer)?.0.special_tokens();
        let (token_id, spelling) = tokens.get(index).ok_or_else(|| {
            TextError::internal("bad_index", format!("special token {index} of {}", tokens.len()))
        })?;
        *id = *token_id;
        *content = View { data: spelling.as_ptr(), size: spelling.len() };
    }

    fn mlxk_detokenizer_new(
        tokenizer: *const TokenizerHandle,
        skip_special_tokens: bool,
        out: *mut *mut Detokenizer,
    ) {
        let tokenizer = Arc::clone(&handle(tokenizer)?.0);
        *out = Box::into_raw(Box::new(Detokenizer::new(tokenizer, skip_special_tokens)?));
    }

    fn mlxk_detokenizer_push(detokenizer: *mut Detokenizer, id: u32, out: *mut Bytes) {
        handle(detokenizer)?;
        *out = text((*detokenizer).push(id)?);
    }

    fn mlxk_detokenizer_finish(detokenizer: *mut Detokenizer, out: *mut Bytes) {
        handle(detokenizer)?;
        *out = text((*detokenizer).finish()?);
    }

    fn mlxk_template_new(
        source: View<u8>,
        fuel: u64,
        max_output_bytes: u64,
        out: *mut *mut Template,
    ) {
        let template = Template::new(utf8(source)?, Limits { fuel, max_output_bytes })?;
        *out = Box::into_raw(Box::new(template));
    }

    fn mlxk_template_render(
        template: *const Template,
        context_json: View<u8>,
        guarded: View<View<u8>>,
        out: *mut Bytes,
        plain: *mut Ids,
    ) {
        let spellings = slice(guarded)
            .iter()
            .map(|view| utf8(*view).map(str::to_owned))
            .collect::<Result<Vec<_>>>()?;
        let rendered = handle(template)?.render(utf8(context_json)?, &spellings)?;
        *out = text(rendered.text);
        *plain = Owned::new(rendered.plain);
    }
}

macro_rules! free {
    ($($name:ident: $type:ty;)*) => {$(
        /// # Safety
        /// The pointer came from this library, or is null, and is not used again.
        #[no_mangle]
        pub unsafe extern "C" fn $name(pointer: *mut $type) {
            let dropping = || {
                if !pointer.is_null() {
                    drop(Box::from_raw(pointer));
                }
                Ok(())
            };
            // A destructor that panics has nobody to tell.
            let _ = catch(|panic| TextError::internal("text_panic", panic), dropping);
        }
    )*};
}

free! {
    mlxk_tokenizer_free: TokenizerHandle;
    mlxk_detokenizer_free: Detokenizer;
    mlxk_template_free: Template;
    mlxk_text_error_free: TextError;
}

/// # Safety
/// `bytes` came from this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn mlxk_text_bytes_free(bytes: Bytes) {
    bytes.free();
}

/// # Safety
/// `ids` came from this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn mlxk_text_ids_free(ids: Ids) {
    ids.free();
}

fn view(text: &str) -> View<u8> {
    View {
        data: text.as_ptr(),
        size: text.len(),
    }
}

/// # Safety
/// `error` is not null; the views live as long as it does.
#[no_mangle]
pub unsafe extern "C" fn mlxk_text_error_code(error: *const TextError) -> View<u8> {
    view((*error).code)
}

/// # Safety
/// As for `mlxk_text_error_code`.
#[no_mangle]
pub unsafe extern "C" fn mlxk_text_error_reason(error: *const TextError) -> View<u8> {
    view((*error).reason)
}

/// # Safety
/// As for `mlxk_text_error_code`.
#[no_mangle]
pub unsafe extern "C" fn mlxk_text_error_message(error: *const TextError) -> View<u8> {
    view(&(*error).message)
}
