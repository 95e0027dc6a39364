//! Rewrites a parsed template so that every step that can grow pays for it: `a + b` becomes
//! `$size(a) + $size(b)`, a printed value passes through `$out`. The names with `$` are filters of
//! `steps.rs`; no template can spell them. The copy is made node by node because the engine
//! offers no way to change its tree in place.
//! Relies on minijinja's unstable machinery, hence the exact version in Cargo.toml.

use minijinja::machinery::ast::{self, BinOpKind, Expr, Spanned, Stmt};
use minijinja::machinery::Span;

pub fn guarded<'a>(template: &Stmt<'a>) -> Stmt<'a> {
    stmt(template, Sink::Output)
}

/// Where printed text goes.
#[derive(Clone, Copy)]
enum Sink {
    Output,
    /// A `set` block, a macro, a call or filter block: a string of the template.
    Capture,
}

impl Sink {
    fn filter(self) -> &'static str {
        match self {
            Self::Output => "$out",
            Self::Capture => "$capture",
        }
    }
}

fn spanned<T>(node: T, span: Span) -> Spanned<T> {
    Spanned::new(node, span)
}

/// `name` applied to `expr`, with more arguments.
fn through<'a>(name: &'a str, expr: Expr<'a>, args: Vec<Expr<'a>>) -> Expr<'a> {
    let span = expr.span();
    let args = args.into_iter().map(ast::CallArg::Pos).collect();
    let expr = Some(expr);
    Expr::Filter(spanned(ast::Filter { name, expr, args }, span))
}

fn is_const(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(_) => true,
        Expr::List(list) => list.items.iter().all(is_const),
        Expr::Tuple(tuple) => tuple.items.iter().all(is_const),
        _ => false,
    }
}

fn body<'a>(stmts: &[Stmt<'a>], sink: Sink) -> Vec<Stmt<'a>> {
    stmts.iter().map(|s| stmt(s, sink)).collect()
}

fn stmt<'a>(node: &Stmt<'a>, sink: Sink) -> Stmt<'a> {
    match node {
        Stmt::Template(s) => {
            let children = body(&s.children, sink);
            Stmt::Template(spanned(ast::Template { children }, s.span()))
        }
        Stmt::EmitExpr(s) => {
            let expr = through(sink.filter(), expr(&s.expr), Vec::new());
            Stmt::EmitExpr(spanned(ast::EmitExpr { expr }, s.span()))
        }
        Stmt::EmitRaw(s) => {
            let raw = Expr::Const(spanned(
                ast::Const {
                    value: s.raw.into(),
                },
                s.span(),
            ));
            let expr = through(sink.filter(), raw, Vec::new());
            Stmt::EmitExpr(spanned(ast::EmitExpr { expr }, s.span()))
        }
        Stmt::ForLoop(s) => {
            // The engine captures the body of a loop that calls itself.
            let inner = if s.recursive { Sink::Capture } else { sink };
            let node = ast::ForLoop {
                target: target(&s.target),
                iter: through("$iterate", expr(&s.iter), Vec::new()),
                filter_expr: s.filter_expr.as_ref().map(expr),
                recursive: s.recursive,
                body: body(&s.body, inner),
                else_body: body(&s.else_body, inner),
            };
            Stmt::ForLoop(spanned(node, s.span()))
        }
        Stmt::IfCond(s) => {
            let node = ast::IfCond {
                expr: expr(&s.expr),
                true_body: body(&s.true_body, sink),
                false_body: body(&s.false_body, sink),
            };
            Stmt::IfCond(spanned(node, s.span()))
        }
        Stmt::WithBlock(s) => {
            let node = ast::WithBlock {
                assignments: s
                    .assignments
                    .iter()
                    .map(|(to, from)| (target(to), expr(from)))
                    .collect(),
                body: body(&s.body, sink),
            };
            Stmt::WithBlock(spanned(node, s.span()))
        }
        Stmt::Set(s) => {
            let value = expr(&s.expr);
            let node = ast::Set {
                target: target(&s.target),
                expr: match s.target {
                    Expr::GetAttr(_) => through("$keep", value, Vec::new()),
                    _ => value,
                },
            };
            Stmt::Set(spanned(node, s.span()))
        }
        Stmt::SetBlock(s) => {
            let node = ast::SetBlock {
                target: target(&s.target),
                filter: s.filter.as_ref().map(expr),
                body: body(&s.body, Sink::Capture),
            };
            Stmt::SetBlock(spanned(node, s.span()))
        }
        // Escaping would let text grow behind the account, and a prompt is not HTML.
        Stmt::AutoEscape(s) => refused("autoescape", s.span()),
        Stmt::FilterBlock(s) => {
            let node = ast::FilterBlock {
                filter: expr(&s.filter),
                body: body(&s.body, Sink::Capture),
            };
            Stmt::FilterBlock(spanned(node, s.span()))
        }
        // Without other templates nothing can override a block.
        Stmt::Block(s) => {
            let yes = ast::Const { value: true.into() };
            let node = ast::IfCond {
                expr: Expr::Const(spanned(yes, s.span())),
                true_body: body(&s.body, sink),
                false_body: Vec::new(),
            };
            Stmt::IfCond(spanned(node, s.span()))
        }
        Stmt::Import(s) => refused("import", s.span()),
        Stmt::FromImport(s) => refused("import", s.span()),
        Stmt::Extends(s) => refused("extends", s.span()),
        Stmt::Include(s) => refused("include", s.span()),
        Stmt::Macro(s) => Stmt::Macro(spanned(macro_decl(s), s.span())),
        Stmt::CallBlock(s) => {
            let node = ast::CallBlock {
                call: spanned(call(&s.call), s.call.span()),
                macro_decl: spanned(macro_decl(&s.macro_decl), s.macro_decl.span()),
            };
            // What the called macro prints was paid for inside it.
            Stmt::CallBlock(spanned(node, s.span()))
        }
        Stmt::Continue(s) => Stmt::Continue(spanned(ast::Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(spanned(ast::Break, s.span())),
        Stmt::Do(s) => {
            let call = spanned(call(&s.call), s.call.span());
            Stmt::Do(spanned(ast::Do { call }, s.span()))
        }
    }
}

/// There is one template only; reaching for another fails when it is reached, as in Jinja.
fn refused<'a>(what: &'static str, span: Span) -> Stmt<'a> {
    let value = what.into();
    let expr = through(
        "$refuse",
        Expr::Const(spanned(ast::Const { value }, span)),
        Vec::new(),
    );
    Stmt::EmitExpr(spanned(ast::EmitExpr { expr }, span))
}

fn macro_decl<'a>(node: &ast::Macro<'a>) -> ast::Macro<'a> {
    ast::Macro {
        name: node.name,
        args: node.args.iter().map(target).collect(),
        defaults: node.defaults.iter().map(expr).collect(),
        body: body(&node.body, Sink::Capture),
    }
}

/// Names on the left of an assignment.
fn target<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::List(l) => {
            let items = l.items.iter().map(target).collect();
            Expr::List(spanned(ast::List { items }, l.span()))
        }
        Expr::Tuple(t) => {
            let items = t.items.iter().map(target).collect();
            Expr::Tuple(spanned(ast::Tuple { items }, t.span()))
        }
        Expr::GetAttr(g) => {
            let node = ast::GetAttr {
                expr: target(&g.expr),
                name: g.name,
            };
            Expr::GetAttr(spanned(node, g.span()))
        }
        other => expr(other),
    }
}

fn args<'a>(nodes: &[ast::CallArg<'a>]) -> Vec<ast::CallArg<'a>> {
    use ast::CallArg::{Kwarg, KwargSplat, Pos, PosSplat};
    nodes
        .iter()
        .map(|arg| match arg {
            Pos(e) => Pos(expr(e)),
            Kwarg(name, e) => Kwarg(name, expr(e)),
            PosSplat(e) => PosSplat(through("$splat", expr(e), Vec::new())),
            KwargSplat(e) => KwargSplat(through("$splat", expr(e), Vec::new())),
        })
        .collect()
}

fn call<'a>(node: &ast::Call<'a>) -> ast::Call<'a> {
    let mut args = args(&node.args);
    // `loop.changed` compares with what it was given before.
    if matches!(&node.expr, Expr::GetAttr(e) if e.name == "changed") {
        args = args
            .into_iter()
            .map(|arg| match arg {
                ast::CallArg::Pos(e) => ast::CallArg::Pos(through("$scan", e, Vec::new())),
                ast::CallArg::PosSplat(e) => {
                    ast::CallArg::PosSplat(through("$scan", e, Vec::new()))
                }
                other => other,
            })
            .collect();
    }
    // The engine recognizes `name(...)` and `value.method(...)` by their shape.
    let expr = expr(&node.expr);
    ast::Call { expr, args }
}

fn expr<'a>(node: &Expr<'a>) -> Expr<'a> {
    match node {
        Expr::Var(e) => Expr::Var(spanned(ast::Var { id: e.id }, e.span())),
        Expr::Const(e) => {
            let value = e.value.clone();
            Expr::Const(spanned(ast::Const { value }, e.span()))
        }
        Expr::Slice(e) => {
            let node = ast::Slice {
                expr: through("$size", expr(&e.expr), Vec::new()),
                start: e.start.as_ref().map(expr),
                stop: e.stop.as_ref().map(expr),
                step: e.step.as_ref().map(expr),
            };
            through("$list", Expr::Slice(spanned(node, e.span())), Vec::new())
        }
        Expr::UnaryOp(e) => {
            let node = ast::UnaryOp {
                op: match e.op {
                    ast::UnaryOpKind::Not => ast::UnaryOpKind::Not,
                    ast::UnaryOpKind::Neg => ast::UnaryOpKind::Neg,
                },
                expr: expr(&e.expr),
            };
            Expr::UnaryOp(spanned(node, e.span()))
        }
        Expr::BinOp(e) => bin_op(e, e.span()),
        Expr::Compare(e) => compare(e, e.span()),
        Expr::IfExpr(e) => {
            let node = ast::IfExpr {
                test_expr: expr(&e.test_expr),
                true_expr: expr(&e.true_expr),
                false_expr: e.false_expr.as_ref().map(expr),
            };
            Expr::IfExpr(spanned(node, e.span()))
        }
        Expr::Filter(e) => {
            let node = ast::Filter {
                name: e.name,
                expr: e.expr.as_ref().map(expr),
                args: args(&e.args),
            };
            Expr::Filter(spanned(node, e.span()))
        }
        Expr::Test(e) => {
            let node = ast::Test {
                name: e.name,
                expr: expr(&e.expr),
                args: args(&e.args),
            };
            Expr::Test(spanned(node, e.span()))
        }
        Expr::GetAttr(e) => {
            let node = ast::GetAttr {
                expr: expr(&e.expr),
                name: e.name,
            };
            Expr::GetAttr(spanned(node, e.span()))
        }
        Expr::GetItem(e) => {
            // A number counts characters from the start; a name is a lookup.
            let named = matches!(&e.subscript_expr, Expr::Const(c) if c.value.as_str().is_some());
            let container = expr(&e.expr);
            let node = ast::GetItem {
                expr: if named {
                    container
                } else {
                    through("$touch", container, Vec::new())
                },
                subscript_expr: if is_const(&e.subscript_expr) {
                    expr(&e.subscript_expr)
                } else {
                    through("$touch", expr(&e.subscript_expr), Vec::new())
                },
            };
            Expr::GetItem(spanned(node, e.span()))
        }
        Expr::Call(e) => Expr::Call(spanned(call(e), e.span())),
        Expr::List(e) => {
            let items = e.items.iter().map(expr).collect();
            literal(node, Expr::List(spanned(ast::List { items }, e.span())))
        }
        Expr::Tuple(e) => {
            let items = e.items.iter().map(expr).collect();
            literal(node, Expr::Tuple(spanned(ast::Tuple { items }, e.span())))
        }
        Expr::Map(e) => {
            let copy = ast::Map {
                keys: e.keys.iter().map(expr).collect(),
                values: e.values.iter().map(expr).collect(),
            };
            literal(node, Expr::Map(spanned(copy, e.span())))
        }
    }
}

fn literal<'a>(original: &Expr<'a>, copy: Expr<'a>) -> Expr<'a> {
    if is_const(original) {
        copy
    } else {
        through("$made", copy, Vec::new())
    }
}

fn bin_op<'a>(node: &ast::BinOp<'a>, span: Span) -> Expr<'a> {
    let (left, right) = (expr(&node.left), expr(&node.right));
    let op = node.op;
    let (left, right) = match op {
        BinOpKind::Concat => return through("$concat", left, vec![right]),
        BinOpKind::Mul => return through("$times", left, vec![right]),
        BinOpKind::Rem => return through("$remainder", left, vec![right]),
        BinOpKind::Add => (
            through("$size", left, Vec::new()),
            through("$size", right, Vec::new()),
        ),
        BinOpKind::Eq
        | BinOpKind::Ne
        | BinOpKind::Lt
        | BinOpKind::Lte
        | BinOpKind::Gt
        | BinOpKind::Gte => compared(&node.left, left, &node.right, right),
        BinOpKind::In => searched(&node.right, left, right),
        BinOpKind::ScAnd
        | BinOpKind::ScOr
        | BinOpKind::Sub
        | BinOpKind::Div
        | BinOpKind::FloorDiv
        | BinOpKind::Pow => (left, right),
    };
    let done = Expr::BinOp(spanned(ast::BinOp { op, left, right }, span));
    match op {
        // Joined lists are lazy in the engine; a list of them nests as deep as it was joined.
        BinOpKind::Add => through("$list", done, Vec::new()),
        _ => done,
    }
}

/// Comparing with a constant costs no more than the constant.
fn compared<'a>(
    left: &Expr<'a>,
    left_copy: Expr<'a>,
    right: &Expr<'a>,
    right_copy: Expr<'a>,
) -> (Expr<'a>, Expr<'a>) {
    if is_const(left) || is_const(right) {
        (left_copy, right_copy)
    } else {
        (
            through("$scan", left_copy, Vec::new()),
            through("$scan", right_copy, Vec::new()),
        )
    }
}

fn searched<'a>(container: &Expr<'a>, item: Expr<'a>, copy: Expr<'a>) -> (Expr<'a>, Expr<'a>) {
    if is_const(container) {
        (item, copy)
    } else {
        (
            through("$scan", item, Vec::new()),
            through("$search", copy, Vec::new()),
        )
    }
}

fn compare<'a>(node: &ast::Compare<'a>, span: Span) -> Expr<'a> {
    let guard = |original: &Expr<'a>, copy: Expr<'a>| {
        if is_const(original) {
            copy
        } else {
            through("$scan", copy, Vec::new())
        }
    };
    let ops = node
        .ops
        .iter()
        .map(|op| ast::CompareOp {
            op: op.op,
            expr: guard(&op.expr, expr(&op.expr)),
        })
        .collect();
    let copy = ast::Compare {
        expr: guard(&node.expr, expr(&node.expr)),
        ops,
    };
    Expr::Compare(spanned(copy, span))
}
