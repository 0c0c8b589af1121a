//! What a script will use, found without running it: the functions it calls, and so the verbs it can ask for.

use crate::functions;
use crate::functions::function::Function;
use rhai::{AST, ASTNode, Expr, Stmt};

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
