//! What a script will use, found without running it: the functions it calls, and so the verbs it can ask for.

use crate::functions;
use crate::functions::function::Function;
use rhai::{AST, ASTNode, Expr, Position, Stmt};

/// Where a function is called, if that is in one place only.
#[must_use]
pub fn only_call(ast: &AST, wanted: &str) -> Option<Position> {
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(
            ASTNode::Expr(Expr::FnCall(call, position) | Expr::MethodCall(call, position)) | ASTNode::Stmt(Stmt::FnCall(call, position)),
        ) = path.last()
            && call.name.as_str() == wanted
        {
            found.push(*position);
        }
        true
    });
    if let [position] = found.as_slice() { Some(*position) } else { None }
}

/// Functions of the table that the script calls, in the order of first use, with the line.
#[must_use]
pub fn functions_used(ast: &AST) -> Vec<(&'static Function, u32)> {
    let mut used: Vec<(&'static Function, u32)> = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        let call = match path.last() {
            Some(
                ASTNode::Expr(Expr::FnCall(call, position) | Expr::MethodCall(call, position))
                | ASTNode::Stmt(Stmt::FnCall(call, position)),
            ) => Some((call.name.as_str(), position)),
            _ => None,
        };
        if let Some((name, position)) = call
            && let Some(function) = functions::by_name(name)
            && !used.iter().any(|(known, _)| known.name == name)
        {
            used.push((function, position.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(0)));
        }
        true
    });
    used
}
