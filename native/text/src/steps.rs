//! The steps that `guard.rs` puts into every template as `$` filters: what is printed, looped over,
//! searched or kept is paid for, and the operators that can make something large are those of
//! Python.

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::budget::{is_container, Budget};
use crate::filters::{self, eager};

type Outcome = Result<Value, Error>;

/// All return their value unless they make a new one.
pub fn install(env: &mut Environment<'_>) {
    env.add_filter("$out", |state: &mut State<'_, '_>, value: Value| {
        let text = printed(state, value)?;
        let bytes = text.as_str().map_or(0, str::len);
        Budget::of(state).write(bytes)?;
        Ok::<_, Error>(text)
    });
    env.add_filter("$capture", |state: &mut State<'_, '_>, value: Value| {
        printed(state, value)
    });
    env.add_filter("$size", |state: &mut State<'_, '_>, value: Value| {
        if let Some(text) = value.as_str() {
            Budget::of(state).make(text.len())?;
        }
        Ok::<_, Error>(value)
    });
    env.add_filter("$touch", |state: &mut State<'_, '_>, value: Value| {
        if let Some(text) = value.as_str() {
            Budget::of(state).read(text.len())?;
        }
        Ok::<_, Error>(value)
    });
    env.add_filter("$iterate", |state: &mut State<'_, '_>, value: Value| {
        // The engine turns all characters of a string into values before the first round.
        if let Some(text) = value.as_str() {
            Budget::of(state).nodes(text.len())?;
        }
        Ok::<_, Error>(value)
    });
    env.add_filter("$splat", |state: &mut State<'_, '_>, value: Value| {
        Budget::of(state).nodes(value.len().unwrap_or(0))?;
        Ok::<_, Error>(value)
    });
    env.add_filter("$scan", |state: &mut State<'_, '_>, value: Value| {
        Budget::of(state).scan(&value)?;
        Ok::<_, Error>(value)
    });
    env.add_filter("$search", |state: &mut State<'_, '_>, value: Value| {
        search_cost(state, &value)?;
        Ok::<_, Error>(value)
    });
    env.add_filter("$made", |state: &mut State<'_, '_>, value: Value| {
        Budget::of(state).made(&value)?;
        Ok::<_, Error>(value)
    });
    env.add_filter("$keep", |state: &mut State<'_, '_>, value: Value| {
        Budget::of(state).keep(&value)?;
        Ok::<_, Error>(value)
    });
    env.add_filter("$list", |state: &mut State<'_, '_>, value: Value| {
        eager(state, value)
    });
    env.add_filter(
        "$concat",
        |state: &mut State<'_, '_>, left: Value, right: Value| {
            let budget = Budget::of(state);
            let mut text = budget.string_of(&left)?;
            text.push_str(&budget.string_of(&right)?);
            Ok::<_, Error>(Value::from(text))
        },
    );
    env.add_filter("$times", times);
    env.add_filter("$remainder", remainder);
    env.add_filter("$refuse", |what: &str| -> Outcome {
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("{what} is not possible in a chat template"),
        ))
    });
}

/// What printing writes; Jinja prints nothing for an undefined value.
fn printed(state: &mut State<'_, '_>, value: Value) -> Outcome {
    let budget = Budget::of(state);
    if let Some(text) = value.as_str() {
        budget.make(text.len())?;
        return Ok(value);
    }
    budget.string_of(&value).map(Value::from)
}

/// Searching a mapping is a lookup, everything else is read from the start.
fn search_cost(state: &mut State<'_, '_>, container: &Value) -> Result<(), Error> {
    match container.kind() {
        ValueKind::Map => Ok(()),
        _ => Budget::of(state).scan(container),
    }
}

/// `*` of Python: numbers, and text or lists repeated.
fn times(state: &mut State<'_, '_>, left: Value, right: Value) -> Outcome {
    let repeatable = |v: &Value| v.as_str().is_some() || is_container(v);
    let (unit, count) = if repeatable(&left) {
        (&left, &right)
    } else if repeatable(&right) {
        (&right, &left)
    } else {
        return multiplied(&left, &right);
    };
    let count = i64::try_from(count.clone()).map_err(|_| not_a_number("*", &left, &right))?;
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let budget = Budget::of(state);
    if let Some(text) = unit.as_str() {
        budget.make(text.len().saturating_mul(count))?;
        return Ok(Value::from(text.repeat(count)));
    }
    if !matches!(unit.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(not_a_number("*", &left, &right));
    }
    let items: Vec<Value> = unit.try_iter()?.collect();
    budget.nodes(items.len().saturating_mul(count))?;
    budget.nodes(if items.is_empty() { 0 } else { count })?;
    let mut out = Vec::with_capacity(items.len() * count);
    for _ in 0..if items.is_empty() { 0 } else { count } {
        out.extend(items.iter().cloned());
    }
    Ok(Value::from(out))
}

fn multiplied(left: &Value, right: &Value) -> Outcome {
    let error = || not_a_number("*", left, right);
    if let (Ok(a), Ok(b)) = (i128::try_from(left.clone()), i128::try_from(right.clone())) {
        if !is_float(left) && !is_float(right) {
            let product = a.checked_mul(b).ok_or_else(error)?;
            return Ok(i64::try_from(product).map_or_else(|_| Value::from(product), Value::from));
        }
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(a), Ok(b)) => Ok(Value::from(a * b)),
        _ => Err(error()),
    }
}

/// `%` of Python: numbers, and a format string with its values.
fn remainder(state: &mut State<'_, '_>, left: Value, right: Value) -> Outcome {
    if left.as_str().is_some() {
        let mut args = vec![left];
        if right.is_tuple() {
            args.extend(right.try_iter()?);
        } else {
            args.push(right);
        }
        return filters::format(state, &args);
    }
    let error = || not_a_number("%", &left, &right);
    if !is_float(&left) && !is_float(&right) {
        let a = i128::try_from(left.clone()).map_err(|_| error())?;
        let b = i128::try_from(right.clone()).map_err(|_| error())?;
        let rest = a.checked_rem(b).ok_or_else(error)?;
        // The sign follows the divisor.
        let rest = if rest != 0 && (rest < 0) != (b < 0) {
            rest + b
        } else {
            rest
        };
        return Ok(i64::try_from(rest).map_or_else(|_| Value::from(rest), Value::from));
    }
    let a = f64::try_from(left.clone()).map_err(|_| error())?;
    let b = f64::try_from(right.clone()).map_err(|_| error())?;
    if b == 0.0 {
        return Err(error());
    }
    let rest = a % b;
    let rest = if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        rest + b
    } else {
        rest
    };
    Ok(Value::from(rest))
}

fn is_float(value: &Value) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

fn not_a_number(op: &str, left: &Value, right: &Value) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!(
            "tried to use {op} operator on unsupported types {} and {}",
            left.kind(),
            right.kind()
        ),
    )
}
