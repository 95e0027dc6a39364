//! What a template can call: the filters, tests, functions and methods that Hugging Face
//! checkpoints expect, each paying into the budget before it makes something large; and the `$`
//! filters that `guard.rs` puts into every template.

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{filters, functions, tests, Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use crate::budget::{is_container, Budget, Stop};
use crate::json::{dumps, Style};
use crate::strftime;

type Outcome = Result<Value, Error>;

/// Most elements of one `range`, and of one `batch` or `slice`.
const MAX_RANGE: i64 = 1_000_000;
/// Widest indentation of `tojson` and `indent`.
const MAX_INDENT: usize = 64;
const MAX_FORMAT_CHARS: usize = 1_000;
const MAX_RAISED_CHARS: usize = 4_000;

pub fn install(env: &mut Environment<'_>) {
    install_guards(env);
    install_filters(env);
    install_tests(env);
    install_functions(env);
    env.set_unknown_method_callback(method);
}

/// The steps of `guard.rs`. All return their value unless they make a new one.
fn install_guards(env: &mut Environment<'_>) {
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

/// Lazy sequences become lists, so that their cost is known and they cannot nest unseen.
fn eager(state: &mut State<'_, '_>, value: Value) -> Outcome {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        Budget::of(state).nodes(1)?;
        items.push(item);
    }
    Ok(Value::from(items))
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
        return filter(state, "%format", Cost::Format, &args);
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

/// How a built-in filter pays before it runs.
#[derive(Clone, Copy, PartialEq)]
enum Cost {
    /// Picks something that is there.
    Pick,
    /// Makes at most as much as it is given.
    Linear,
    /// Compares items with each other.
    Compare,
    /// Prints its arguments.
    Text,
    /// Prints each character as up to six.
    Escape,
    /// Looks up each character in its argument.
    Trim,
    /// Makes more than it is given, by its arguments.
    Replace,
    Indent,
    Groups,
    Format,
}

fn install_filters(env: &mut Environment<'_>) {
    macro_rules! add {
        ($($name:literal $function:path, $cost:ident;)*) => {$(
            env.add_filter(concat!("%", $name), $function);
            env.add_filter($name, |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
                let args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
                filter(state, concat!("%", $name), Cost::$cost, &args)
            });
        )*};
    }
    add! {
        "abs" filters::abs, Pick;
        "attr" filters::attr, Pick;
        "batch" filters::batch, Groups;
        "bool" filters::bool, Pick;
        "capitalize" filters::capitalize, Linear;
        "chain" filters::chain, Compare;
        "count" filters::length, Pick;
        "d" filters::default, Pick;
        "default" filters::default, Pick;
        "dictsort" filters::dictsort, Compare;
        "e" filters::escape, Escape;
        "escape" filters::escape, Escape;
        "first" filters::first, Pick;
        "float" filters::float, Pick;
        "format" filters::format, Format;
        "groupby" filters::groupby, Compare;
        "indent" filters::indent, Indent;
        "int" filters::int, Pick;
        "items" filters::items, Linear;
        "join" filters::join, Text;
        "last" filters::last, Pick;
        "length" filters::length, Pick;
        "lines" filters::lines, Linear;
        "list" filters::list, Linear;
        "lower" filters::lower, Linear;
        "map" filters::map, Linear;
        "max" filters::max, Compare;
        "min" filters::min, Compare;
        "reject" filters::reject, Linear;
        "rejectattr" filters::rejectattr, Linear;
        "replace" filters::replace, Replace;
        "reverse" filters::reverse, Linear;
        "round" filters::round, Pick;
        "safe" filters::safe, Linear;
        "select" filters::select, Linear;
        "selectattr" filters::selectattr, Linear;
        "slice" filters::slice, Groups;
        "sort" filters::sort, Compare;
        "split" filters::split, Linear;
        "string" filters::string, Text;
        "sum" filters::sum, Compare;
        "title" filters::title, Linear;
        "trim" filters::trim, Trim;
        "unique" filters::unique, Compare;
        "upper" filters::upper, Linear;
        "zip" filters::zip, Linear;
    }
    env.add_filter("tojson", tojson);
}

fn filter(state: &mut State<'_, '_>, name: &str, cost: Cost, args: &[Value]) -> Outcome {
    let budget = Budget::of(state);
    for arg in args {
        match cost {
            Cost::Pick
            | Cost::Linear
            | Cost::Trim
            | Cost::Replace
            | Cost::Indent
            | Cost::Groups => budget.touch(arg)?,
            // Sixteen comparisons an item sort 65,000 of them.
            Cost::Compare => (0..16).try_for_each(|_| budget.scan(arg))?,
            Cost::Text | Cost::Format => budget.text(arg)?,
            Cost::Escape => (0..6).try_for_each(|_| budget.text(arg))?,
        }
    }
    if let [first, options @ ..] = args {
        extra_cost(budget, cost, first, &flattened(options))?;
    }
    let made = state.apply_filter(name, args)?;
    if cost == Cost::Pick {
        return Ok(made);
    }
    let made = eager(state, made)?;
    Budget::of(state).made(&made)?;
    Ok(made)
}

/// What the arguments of a filter multiply.
fn extra_cost(
    budget: &mut Budget,
    cost: Cost,
    first: &Value,
    options: &[Value],
) -> Result<(), Error> {
    let longest = options
        .iter()
        .filter_map(|v| v.as_str().map(str::len))
        .max()
        .unwrap_or(0);
    let largest = options
        .iter()
        .filter_map(|v| i64::try_from(v.clone()).ok())
        .max()
        .unwrap_or(0);
    let largest = usize::try_from(largest.max(0)).unwrap_or(usize::MAX);
    match cost {
        Cost::Replace => {
            let text = budget.string_of(first)?;
            match options {
                [from, to, ..] => replace_cost(budget, &text, from.as_str(), to),
                _ => Ok(()),
            }
        }
        Cost::Text => budget.make(longest.saturating_mul(first.len().unwrap_or(0))),
        Cost::Trim => trim_cost(budget, first.as_str(), longest),
        Cost::Indent => {
            let lines = first.as_str().map_or(0, |text| text.lines().count());
            budget.make(lines.saturating_add(1).saturating_mul(largest.max(longest)))
        }
        Cost::Groups => {
            if largest as u64 > MAX_RANGE as u64 {
                return Err(Stop::Budget("batch or slice asks for too many items").into());
            }
            // One list a group, and the last one may be filled up.
            budget.nodes(largest)
        }
        Cost::Format => match first.as_str() {
            Some(format) => budget.check_widths(format),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Arguments with those given by name among them.
fn flattened(args: &[Value]) -> Vec<Value> {
    let mut all = Vec::with_capacity(args.len());
    for arg in args {
        match arg.as_object().filter(|_| arg.kind() == ValueKind::Map) {
            Some(map) => all.extend(map.try_iter_pairs().into_iter().flatten().map(|p| p.1)),
            None => all.push(arg.clone()),
        }
    }
    all
}

fn trim_cost(budget: &mut Budget, text: Option<&str>, characters: usize) -> Result<(), Error> {
    let length = text.map_or(0, str::len);
    budget.read(length.saturating_mul(characters.max(1)))
}

fn replace_cost(
    budget: &mut Budget,
    text: &str,
    from: Option<&str>,
    to: &Value,
) -> Result<(), Error> {
    let Some(from) = from else { return Ok(()) };
    let grown = budget.string_of(to)?.len();
    let times = if from.is_empty() {
        text.chars().count() + 1
    } else {
        text.matches(from).count()
    };
    budget.make(text.len().saturating_add(times.saturating_mul(grown)))
}

/// `tojson` of transformers: `json.dumps` with `ensure_ascii=False`.
fn tojson(state: &mut State<'_, '_>, value: Value, options: Kwargs) -> Outcome {
    let flag = |name: &str| -> Result<bool, Error> {
        Ok(options
            .get::<Option<Value>>(name)?
            .is_some_and(|v| v.is_true()))
    };
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(width) if width.is_none() => None,
        Some(width) => Some(match width.as_str() {
            Some(text) if text.bytes().all(|b| b == b' ') => text.len(),
            Some(_) => return Err(bad_argument("tojson", "indent", &width)),
            None => usize::try_from(
                i64::try_from(width.clone())
                    .map_err(|_| bad_argument("tojson", "indent", &width))?
                    .max(0),
            )
            .unwrap_or(usize::MAX),
        }),
    };
    if indent.is_some_and(|width| width > MAX_INDENT) {
        return Err(Stop::Budget("tojson asks for too wide an indent").into());
    }
    let separators = match options.get::<Option<Value>>("separators")? {
        Some(pair) if !pair.is_none() => {
            let pair: Vec<Value> = pair.try_iter()?.take(3).collect();
            match pair.as_slice() {
                [item, key] => (
                    item.as_str().unwrap_or(", ").to_owned(),
                    key.as_str().unwrap_or(": ").to_owned(),
                ),
                _ => return Err(bad_argument("tojson", "separators", &Value::from(pair))),
            }
        }
        _ if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        _ => (", ".to_owned(), ": ".to_owned()),
    };
    let style = Style {
        ensure_ascii: flag("ensure_ascii")?,
        indent,
        item_separator: separators.0,
        key_separator: separators.1,
        sort_keys: flag("sort_keys")?,
        max_bytes: Budget::of(state).left(),
    };
    options.assert_all_used()?;
    let budget = Budget::of(state);
    budget.text(&value)?;
    let text = dumps(&value, &style)?;
    budget.make(text.len())?;
    Ok(Value::from(text))
}

fn bad_argument(filter: &str, name: &str, value: &Value) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("{filter}: {name} cannot be {value:.40?}"),
    )
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
