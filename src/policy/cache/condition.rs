//! Conditions of policies in the cache: a node after the nodes that it is made of, so that reading needs no recursion and no parser.

use super::{Reader, put_number, put_text};
use crate::policy::slice::Uid;
use crate::policy::values;
use cedar_policy_core::ast::{BinaryOp, EntityUID, Expr, ExprBuilder, ExprKind, Literal, PatternElem, UnaryOp, Var};
use cedar_policy_core::expr_builder::ExprBuilder as _;
use std::sync::Arc;

const VARIABLES: [Var; 4] = [Var::Principal, Var::Action, Var::Resource, Var::Context];
const UNARY: [UnaryOp; 3] = [UnaryOp::Not, UnaryOp::Neg, UnaryOp::IsEmpty];
const BINARY: [BinaryOp; 12] = [
    BinaryOp::Eq,
    BinaryOp::Less,
    BinaryOp::LessEq,
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::In,
    BinaryOp::Contains,
    BinaryOp::ContainsAll,
    BinaryOp::ContainsAny,
    BinaryOp::GetTag,
    BinaryOp::HasTag,
];

/// Kinds of nodes. `End` comes after the last.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Tag {
    End,
    Bool,
    Long,
    String,
    Entity,
    Variable,
    If,
    And,
    Or,
    Unary,
    Binary,
    Call,
    Get,
    Has,
    HasPath,
    Like,
    Is,
    Set,
    Record,
}

const TAGS: [Tag; 19] = [
    Tag::End,
    Tag::Bool,
    Tag::Long,
    Tag::String,
    Tag::Entity,
    Tag::Variable,
    Tag::If,
    Tag::And,
    Tag::Or,
    Tag::Unary,
    Tag::Binary,
    Tag::Call,
    Tag::Get,
    Tag::Has,
    Tag::HasPath,
    Tag::Like,
    Tag::Is,
    Tag::Set,
    Tag::Record,
];

/// None for what no validated policy holds: slots and unknowns. Recurses as deep as the condition is.
pub(super) fn put(out: &mut Vec<u8>, condition: &Expr) -> Option<()> {
    put_node(out, condition)?;
    out.push(Tag::End as u8);
    Some(())
}

fn put_node(out: &mut Vec<u8>, expr: &Expr) -> Option<()> {
    let all = |out: &mut Vec<u8>, parts: &[&Expr]| parts.iter().try_for_each(|part| put_node(out, part));
    match expr.expr_kind() {
        ExprKind::Lit(Literal::Bool(bool)) => out.extend([Tag::Bool as u8, u8::from(*bool)]),
        ExprKind::Lit(Literal::Long(long)) => {
            out.push(Tag::Long as u8);
            out.extend_from_slice(&long.to_le_bytes());
        }
        ExprKind::Lit(Literal::String(text)) => put_named(out, Tag::String, text),
        ExprKind::Lit(Literal::EntityUID(uid)) => {
            let Uid { kind, id } = Uid::of(uid);
            put_named(out, Tag::Entity, &kind);
            put_text(out, &id);
        }
        ExprKind::Var(variable) => out.extend([Tag::Variable as u8, index(&VARIABLES, variable)?]),
        ExprKind::Slot(_) | ExprKind::Unknown(_) => return None,
        ExprKind::If { test_expr, then_expr, else_expr } => {
            all(out, &[test_expr, then_expr, else_expr])?;
            out.push(Tag::If as u8);
        }
        ExprKind::And { left, right } => {
            all(out, &[left, right])?;
            out.push(Tag::And as u8);
        }
        ExprKind::Or { left, right } => {
            all(out, &[left, right])?;
            out.push(Tag::Or as u8);
        }
        ExprKind::UnaryApp { op, arg } => {
            put_node(out, arg)?;
            out.extend([Tag::Unary as u8, index(&UNARY, op)?]);
        }
        ExprKind::BinaryApp { op, arg1, arg2 } => {
            all(out, &[arg1, arg2])?;
            out.extend([Tag::Binary as u8, index(&BINARY, op)?]);
        }
        ExprKind::ExtensionFunctionApp { fn_name, args } => {
            args.iter().try_for_each(|part| put_node(out, part))?;
            put_named(out, Tag::Call, &fn_name.to_string());
            put_number(out, args.len());
        }
        ExprKind::GetAttr { expr, attr } => {
            put_node(out, expr)?;
            put_named(out, Tag::Get, attr);
        }
        ExprKind::HasAttr { expr, attr } => {
            put_node(out, expr)?;
            put_named(out, Tag::Has, attr);
        }
        ExprKind::ExtHasAttr { expr, attrs } => {
            put_node(out, expr)?;
            put_named(out, Tag::HasPath, &attrs.head);
            put_number(out, attrs.tail.len());
            attrs.tail.iter().for_each(|attr| put_text(out, attr));
        }
        ExprKind::Like { expr, pattern } => {
            put_node(out, expr)?;
            out.push(Tag::Like as u8);
            put_number(out, pattern.len());
            for element in pattern.iter() {
                // No character has the number of the wildcard.
                let number = if let PatternElem::Char(c) = element { u32::from(*c) } else { u32::MAX };
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        ExprKind::Is { expr, entity_type } => {
            put_node(out, expr)?;
            put_named(out, Tag::Is, &entity_type.to_string());
        }
        ExprKind::Set(items) => {
            items.iter().try_for_each(|part| put_node(out, part))?;
            out.push(Tag::Set as u8);
            put_number(out, items.len());
        }
        ExprKind::Record(pairs) => {
            pairs.values().try_for_each(|part| put_node(out, part))?;
            out.push(Tag::Record as u8);
            put_number(out, pairs.len());
            pairs.keys().for_each(|name| put_text(out, name));
        }
    }
    Some(())
}

fn put_named(out: &mut Vec<u8>, tag: Tag, name: &str) {
    out.push(tag as u8);
    put_text(out, name);
}

fn index<T: PartialEq>(all: &[T], one: &T) -> Option<u8> {
    all.iter().position(|known| known == one).and_then(|at| u8::try_from(at).ok())
}

fn known<T: Copy>(all: &[T], reader: &mut Reader<'_>) -> Option<T> {
    all.get(usize::from(reader.byte()?)).copied()
}

/// What [`put`] wrote; None for anything else.
pub(super) fn get(reader: &mut Reader<'_>) -> Option<Expr> {
    let mut made: Vec<Expr> = Vec::new();
    loop {
        let kind = match known(&TAGS, reader)? {
            Tag::End => return made.pop().filter(|_| made.is_empty()),
            Tag::Bool => ExprKind::Lit(Literal::Bool(reader.byte()? != 0)),
            Tag::Long => ExprKind::Lit(Literal::Long(i64::from_le_bytes(*reader.bytes()?))),
            Tag::String => ExprKind::Lit(Literal::String(reader.str()?.into())),
            Tag::Entity => ExprKind::Lit(Literal::EntityUID(Arc::new(entity(reader)?))),
            Tag::Variable => ExprKind::Var(known(&VARIABLES, reader)?),
            Tag::If => {
                let (else_expr, then_expr, test_expr) = (part(&mut made)?, part(&mut made)?, part(&mut made)?);
                ExprKind::If { test_expr, then_expr, else_expr }
            }
            Tag::And => {
                let (right, left) = (part(&mut made)?, part(&mut made)?);
                ExprKind::And { left, right }
            }
            Tag::Or => {
                let (right, left) = (part(&mut made)?, part(&mut made)?);
                ExprKind::Or { left, right }
            }
            Tag::Unary => ExprKind::UnaryApp { op: known(&UNARY, reader)?, arg: part(&mut made)? },
            Tag::Binary => {
                let (arg2, arg1) = (part(&mut made)?, part(&mut made)?);
                ExprKind::BinaryApp { op: known(&BINARY, reader)?, arg1, arg2 }
            }
            Tag::Call => {
                let fn_name = values::name(reader.str()?)?;
                ExprKind::ExtensionFunctionApp { fn_name, args: Arc::new(parts(&mut made, reader.number()?)?) }
            }
            Tag::Get => ExprKind::GetAttr { attr: reader.str()?.into(), expr: part(&mut made)? },
            Tag::Has => ExprKind::HasAttr { attr: reader.str()?.into(), expr: part(&mut made)? },
            Tag::HasPath => {
                let head = reader.str()?.into();
                let tail: Vec<_> = (0..reader.number()?).map(|_| reader.str().map(Into::into)).collect::<Option<_>>()?;
                ExprKind::ExtHasAttr { attrs: (head, tail).into(), expr: part(&mut made)? }
            }
            Tag::Like => {
                let element = |number: u32| match number {
                    u32::MAX => Some(PatternElem::Wildcard),
                    number => char::from_u32(number).map(PatternElem::Char),
                };
                let pattern: Vec<_> = (0..reader.number()?).map(|_| element(reader.number()?)).collect::<Option<_>>()?;
                ExprKind::Like { pattern: pattern.into(), expr: part(&mut made)? }
            }
            Tag::Is => ExprKind::Is { entity_type: values::entity_type(reader.str()?)?, expr: part(&mut made)? },
            Tag::Set => ExprKind::Set(Arc::new(parts(&mut made, reader.number()?)?)),
            Tag::Record => {
                let items = parts(&mut made, reader.number()?)?;
                let pairs = items.into_iter().map(|item| Some((reader.str()?.into(), item))).collect::<Option<_>>()?;
                ExprKind::Record(Arc::new(pairs))
            }
        };
        made.push(ExprBuilder::with_data(()).with_expr_kind(kind));
    }
}

fn entity(reader: &mut Reader<'_>) -> Option<EntityUID> {
    let kind = reader.str()?;
    values::uid(kind, reader.str()?)
}

fn part(made: &mut Vec<Expr>) -> Option<Arc<Expr>> {
    made.pop().map(Arc::new)
}

fn parts(made: &mut Vec<Expr>, count: u32) -> Option<Vec<Expr>> {
    let first = made.len().checked_sub(usize::try_from(count).ok()?)?;
    Some(made.split_off(first))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use cedar_policy_core::parser::parse_policyset;

    fn of(text: &str) -> Arc<Expr> {
        let set = parse_policyset(&format!("permit(principal, action, resource) when {{ {text} }};")).unwrap();
        set.into_policies().next().unwrap().non_scope_constraints_arc().unwrap().clone()
    }

    const ALL: &[&str] = &[
        "true && !false || 1 < -2 && 3 <= 4 && 1 > 2 && 1 >= 2 && 1 != 2",
        "1 + 2 * 3 - 4 == -9223372036854775808",
        "if principal == User::\"é\\\"\\n\" then resource in [Group::\"a\", n::m::T::\"\"] else action == a::Action::\"x\"",
        "resource has a && resource.a has b.c.d && resource.a.b.c.d like \"/x*\\*é*\" && resource[\"no ident\"] == \"\"",
        "resource is file_system::File && resource is T in Group::\"g\"",
        "[1, [2, {}], {a: 1, \"b c\": {d: []}}].contains(1) && [1].containsAll([]) && [1].containsAny([2]) && [].isEmpty()",
        "resource.hasTag(\"k\") && resource.getTag(\"k\") == context.session.run",
        "datetime(\"2026-01-01\").offset(duration(\"1h\")) < context.session.now && ip(\"::1\").isInRange(ip(\"::/0\")) && decimal(\"1.0\").lessThan(decimal(\"2.0\"))",
    ];

    #[test]
    fn every_kind_of_node_is_read_back_as_it_was() {
        for text in ALL {
            let condition = of(text);
            let mut bytes = Vec::new();
            put(&mut bytes, &condition).unwrap();
            let mut reader = Reader(&bytes);
            let again = get(&mut reader).unwrap_or_else(|| panic!("{text}"));
            assert!(again.eq_shape(&condition), "{text}\n{again}\n{condition}");
            assert!(reader.0.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_is_nothing_or_another_condition() {
        for text in ALL {
            let mut bytes = Vec::new();
            put(&mut bytes, &of(text)).unwrap();
            for at in 0..bytes.len() {
                assert!(get(&mut Reader(&bytes[..at])).is_none(), "{text}: cut at {at}");
                for bit in 0..8 {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= 1 << bit;
                    let _ = get(&mut Reader(&bytes));
                }
            }
        }
    }

    #[test]
    fn a_long_chain_is_read_back() {
        let long = vec!["resource has a"; 900].join(" || ");
        let condition = of(&long);
        let mut bytes = Vec::new();
        put(&mut bytes, &condition).unwrap();
        assert!(get(&mut Reader(&bytes)).unwrap().eq_shape(&condition));
    }
}
