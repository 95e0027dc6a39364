//! The filters a template can name, each paying into the budget before it makes something large.

use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{filters, Environment, Error, ErrorKind, State};

use crate::budget::{Budget, Stop};
use crate::json::{dumps, Style};

type Outcome = Result<Value, Error>;

/// Most items of one `batch` or `slice`, as of one `range`.
const MAX_GROUPS: usize = 1_000_000;
/// Widest indentation of `tojson` and `indent`.
const MAX_INDENT: usize = 64;

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

pub fn install(env: &mut Environment<'_>) {
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
            if largest > MAX_GROUPS {
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

pub fn trim_cost(budget: &mut Budget, text: Option<&str>, characters: usize) -> Result<(), Error> {
    let length = text.map_or(0, str::len);
    budget.read(length.saturating_mul(characters.max(1)))
}

pub fn replace_cost(
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

/// `%` with a format string.
pub fn format(state: &mut State<'_, '_>, args: &[Value]) -> Outcome {
    filter(state, "%format", Cost::Format, args)
}

/// Lazy sequences become lists, so that their cost is known and they cannot nest unseen.
pub fn eager(state: &mut State<'_, '_>, value: Value) -> Outcome {
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
