//! What a template can call: the tests, functions and methods that Hugging Face checkpoints
//! expect, each paying into the budget before it makes something large, beside the filters of
//! `filters.rs` and the steps of `steps.rs`.

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueOrKwargs};
use minijinja::{functions, tests, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use crate::budget::{is_container, Budget, Stop};
use crate::filters::{self, eager, replace_cost, trim_cost};
use crate::steps;
use crate::strftime;

type Outcome = Result<Value, Error>;

/// Most elements of one `range`.
const MAX_RANGE: i64 = 1_000_000;
const MAX_FORMAT_CHARS: usize = 1_000;
const MAX_RAISED_CHARS: usize = 4_000;

pub fn install(env: &mut Environment<'_>) {
    steps::install(env);
    filters::install(env);
    install_tests(env);
    install_functions(env);
    env.set_unknown_method_callback(method);
}

/// Tests that read their values; the others look at a type or a number and cost nothing.
fn install_tests(env: &mut Environment<'_>) {
    macro_rules! add {
        ($($function:path: $($name:literal)*;)*) => {$($(
            env.add_test(concat!("%", $name), $function);
            env.add_test($name, |state: &mut State<'_, '_>, args: Rest<Value>| {
                args.iter().try_for_each(|arg| Budget::of(state).scan(arg))?;
                state.perform_test(concat!("%", $name), &args)
            });
        )*)*};
    }
    add! {
        tests::is_eq: "eq" "equalto" "==";
        tests::is_ne: "ne" "!=";
        tests::is_lt: "lt" "lessthan" "<";
        tests::is_le: "le" "<=";
        tests::is_gt: "gt" "greaterthan" ">";
        tests::is_ge: "ge" ">=";
        tests::is_in: "in";
        tests::is_lower: "lower";
        tests::is_upper: "upper";
        tests::is_startingwith: "startingwith";
        tests::is_endingwith: "endingwith";
    }
}

fn install_functions(env: &mut Environment<'_>) {
    env.remove_global("debug");
    env.add_function("range", range);
    env.add_function(
        "namespace",
        |state: &mut State<'_, '_>, defaults: Option<ValueOrKwargs>| {
            if let Some(defaults) = &defaults {
                let value = defaults.clone().into_value();
                Budget::of(state).keep(&value)?;
            }
            functions::namespace(defaults)
        },
    );
    env.add_function(
        "dict",
        |state: &mut State<'_, '_>, value: Option<Value>, options: Kwargs| {
            let made = functions::dict(value, options)?;
            Budget::of(state).made(&made)?;
            Ok::<_, Error>(made)
        },
    );
    env.add_function("raise_exception", |message: Value| -> Outcome {
        let text = match message.as_str() {
            Some(text) => text.chars().take(MAX_RAISED_CHARS).collect(),
            None => format!("{message:.100?}"),
        };
        Err(Stop::Raised(text).into())
    });
    env.add_function("strftime_now", |format: &str| -> Outcome {
        if format.len() > MAX_FORMAT_CHARS {
            return Err(Stop::Budget("the format of strftime_now is too long").into());
        }
        Ok(Value::from(strftime::now(format)))
    });
}

fn range(state: &mut State<'_, '_>, first: i64, second: Option<i64>, step: Option<i64>) -> Outcome {
    let (start, stop) = second.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "cannot create range with step of 0",
        ));
    }
    let span = (i128::from(stop) - i128::from(start)) * i128::from(step.signum());
    let count =
        (span.max(0) + i128::from(step.unsigned_abs()) - 1) / i128::from(step.unsigned_abs());
    if count > i128::from(MAX_RANGE) {
        return Err(Stop::Budget("range has too many elements").into());
    }
    let count = i64::try_from(count).unwrap_or(0);
    Budget::of(state).nodes(usize::try_from(count).unwrap_or(0))?;
    Ok(Value::from(
        (0..count)
            .map(|n| Value::from(start + n * step))
            .collect::<Vec<_>>(),
    ))
}

/// Methods of Python's `str`, `dict` and `list`.
fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Outcome {
    let budget = Budget::of(state);
    match value.len().filter(|_| is_container(value)) {
        Some(_) if name == "get" => {}
        Some(count) => budget.nodes(count)?,
        None => budget.touch(value)?,
    }
    for arg in args {
        budget.scan(arg)?;
    }
    if let Some(text) = value.as_str() {
        match (name, args) {
            ("replace", [from, to, ..]) => replace_cost(budget, text, from.as_str(), to)?,
            ("join", [items]) => {
                budget.text(items)?;
                budget.make(text.len().saturating_mul(items.len().unwrap_or(0)))?;
            }
            ("format", args) => {
                budget.check_widths(text)?;
                // A field can be named any number of times.
                let fields = text.matches('{').count().max(1);
                for arg in args {
                    let before = budget.spent();
                    budget.text(arg)?;
                    let each = budget.spent() - before;
                    budget.spend(each.saturating_mul(fields as u64))?;
                }
            }
            ("strip" | "lstrip" | "rstrip", [characters]) => {
                trim_cost(budget, Some(text), characters.as_str().map_or(0, str::len))?;
            }
            ("split" | "splitlines", _) => budget.nodes(text.len() / 8)?,
            ("removeprefix", [prefix]) => {
                let prefix = prefix.as_str().unwrap_or_default();
                return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
            }
            ("removesuffix", [suffix]) => {
                let suffix = suffix.as_str().unwrap_or_default();
                return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
            }
            ("partition", [separator]) => return Ok(partition(text, separator, false)),
            ("rpartition", [separator]) => return Ok(partition(text, separator, true)),
            _ => {}
        }
    }
    let made = pycompat::unknown_method_callback(state, value, name, args)?;
    if name == "get" {
        return Ok(made);
    }
    let made = eager(state, made)?;
    Budget::of(state).made(&made)?;
    Ok(made)
}

fn partition(text: &str, separator: &Value, last: bool) -> Value {
    let separator = separator.as_str().unwrap_or_default();
    let found = if last {
        text.rsplit_once(separator)
    } else {
        text.split_once(separator)
    };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if last => ["", "", text],
        None => [text, "", ""],
    };
    Value::from(Tuple::from(parts.map(Value::from).to_vec()))
}
