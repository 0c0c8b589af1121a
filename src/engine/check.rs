//! What a script will use, found without running it: the functions it calls, with what of the arguments is known, and so the verbs it can ask for.

use crate::functions;
use crate::functions::function::Function;
use crate::functions::value::Dynamic;
use rhai::{AST, ASTFlags, ASTNode, Expr, FnCallExpr, Position, Stmt};
use std::collections::HashMap;

/// The longest text that is put together here, in bytes.
const LONGEST: usize = 64 << 10;

/// A call of a function or method.
fn call<'a>(node: Option<&'a ASTNode<'a>>) -> Option<(&'a FnCallExpr, Position, bool)> {
    match node? {
        ASTNode::Expr(Expr::FnCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position)) => Some((call, *position, false)),
        ASTNode::Expr(Expr::MethodCall(call, position)) => Some((call, *position, true)),
        _ => None,
    }
}

/// Where a function is called, if that is in one place only.
#[must_use]
pub fn only_call(ast: &AST, wanted: &str) -> Option<Position> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some((call, position, _)) = call(path.last()).filter(|(call, ..)| call.name.as_str() == wanted) {
            let _ = call;
            found.push(position);
        }
        true
    });
    if let [position] = found.as_slice() { Some(*position) } else { None }
}

/// Functions of the table that the script calls, in the order of first use, with the line.
#[must_use]
pub fn functions_used(ast: &AST) -> Vec<(&'static Function, u32)> {
    let mut used: Vec<(&'static Function, u32)> = Vec::new();
    for (function, _, line, _) in sites(ast) {
        if !used.iter().any(|(known, _)| known.name == function.name) {
            used.push((function, line));
        }
    }
    used
}

/// Calls of functions of the table in the order of the text.
fn sites(ast: &AST) -> Vec<(&'static Function, Vec<Option<Expr>>, u32, u32)> {
    let mut sites = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some((call, position, method)) = call(path.last())
            && let Some(function) = functions::by_name(&call.name)
        {
            let number = |n: Option<usize>| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            // What a method is called on stands elsewhere, and is its first argument.
            let object = method.then_some(None);
            let arguments = object.into_iter().chain(call.args.iter().cloned().map(Some)).collect();
            sites.push((function, arguments, number(position.line()), number(position.position())));
        }
        true
    });
    sites.sort_by_key(|(_, _, line, column)| (*line, *column));
    sites
}

/// An argument that is known before the script runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    Text(String),
    List(Vec<String>),
}

/// A call of a function of the table.
pub struct Site {
    pub function: &'static Function,
    pub line: u32,
    pub column: u32,
    /// `None` for one that only the run can tell.
    pub arguments: Vec<Option<Known>>,
}

/// The calls of the script with what is known of their arguments: literals, constants of the script and those given to it, and texts put together
/// from these.
#[must_use]
pub fn calls(ast: &AST, given: &[(String, Dynamic)]) -> Vec<Site> {
    let texts = Texts::of(ast, given);
    let site = |(function, arguments, line, column): (&'static Function, Vec<Option<Expr>>, u32, u32)| {
        let arguments = arguments.iter().map(|argument| texts.known(argument.as_ref()?)).collect();
        Site { function, line, column, arguments }
    };
    sites(ast).into_iter().map(site).collect()
}

/// Names with a text that never changes.
struct Texts(HashMap<String, String>);

impl Texts {
    fn of(ast: &AST, given: &[(String, Dynamic)]) -> Self {
        let mut texts: HashMap<String, String> = HashMap::new();
        for (name, value) in given {
            if let Ok(text) = value.as_immutable_string_ref() {
                texts.insert(name.clone(), text.to_string());
            }
        }
        // A name that is bound in more than one place may mean this or that: it counts as unknown.
        let mut bound: HashMap<String, u32> = given.iter().map(|(name, _)| (name.clone(), 1)).collect();
        let mut bind = |name: &str| *bound.entry(name.to_owned()).or_default() += 1;
        let mut constants: Vec<(String, Expr)> = Vec::new();
        for function in ast.iter_functions() {
            function.params.iter().for_each(|name| bind(name));
        }
        ast.walk(&mut |path: &[ASTNode]| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::Var(variable, flags, _))) => {
                    bind(&variable.0.name);
                    if flags.intersects(ASTFlags::CONSTANT) {
                        constants.push((variable.0.name.to_string(), variable.1.clone()));
                    }
                }
                Some(ASTNode::Stmt(Stmt::For(parts, _))) => {
                    bind(&parts.0.name);
                    if let Some(counter) = &parts.1 {
                        bind(&counter.name);
                    }
                }
                Some(ASTNode::Stmt(Stmt::TryCatch(flow, _))) => {
                    if let Expr::Variable(name, ..) = &flow.expr {
                        bind(&name.1);
                    }
                }
                _ => {}
            }
            true
        });
        let mut known = Self(texts);
        for (name, value) in constants {
            if let Some(text) = known.text(&value) {
                known.0.insert(name, text);
            }
        }
        known.0.retain(|name, _| bound.get(name).copied() == Some(1));
        known
    }

    fn known(&self, expr: &Expr) -> Option<Known> {
        match expr {
            Expr::Array(items, _) => items.iter().map(|item| self.text(item)).collect::<Option<Vec<_>>>().map(Known::List),
            expr => self.text(expr).map(Known::Text),
        }
    }

    fn text(&self, expr: &Expr) -> Option<String> {
        let text = match expr {
            Expr::StringConstant(text, _) => text.to_string(),
            Expr::IntegerConstant(int, _) => return Some(int.to_string()),
            Expr::Variable(name, ..) if name.2.is_empty() => self.0.get(name.1.as_str())?.clone(),
            Expr::InterpolatedString(parts, _) => parts.iter().map(|part| self.text(part)).collect::<Option<Vec<_>>>()?.concat(),
            Expr::FnCall(call, _) if call.name == "+" && call.op_token.is_some() => {
                // Numbers are added, and not put together.
                if call.args.iter().any(|part| matches!(part, Expr::IntegerConstant(..))) {
                    return None;
                }
                call.args.iter().map(|part| self.text(part)).collect::<Option<Vec<_>>>()?.concat()
            }
            Expr::Stmt(block) => match block.statements() {
                [Stmt::Expr(inner)] => self.text(inner)?,
                _ => return None,
            },
            _ => return None,
        };
        (text.len() <= LONGEST).then_some(text)
    }
}
