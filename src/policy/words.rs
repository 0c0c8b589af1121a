//! The words of the policy language as Rust sees them: [`Resource`] (a noun), [`Action`] (a verb), [`Value`]; plain data, no Cedar type in sight.

use crate::error::{Error, Result};
use std::borrow::Cow;

/// A value of the policy language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Long(i64),
    String(String),
    Set(Vec<Value>),
    Record(Vec<(&'static str, Value)>),
    /// Milliseconds since the epoch; Cedar's `datetime`.
    Datetime(i64),
    /// An address or network in text form; Cedar's `ipaddr`.
    Ip(String),
    /// An entity by type and id. A policy can compare it; its attributes and hierarchy are not known.
    Entity(&'static str, String),
    /// An entity made for this one question, e.g. the arguments of a program; only in a verb's context.
    Object(Box<Object>),
    /// A text that policies see whole and records do not: they show the second one.
    Masked(String, String),
}

/// An entity that exists only within one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its entity type, e.g. `file_system::Arguments`.
    pub noun: &'static str,
    /// Unique among the objects of one question.
    pub id: String,
    pub attributes: Vec<(&'static str, Value)>,
    /// Policies read them with `getTag` and test them with `hasTag`.
    pub tags: Vec<(String, String)>,
}

/// An attribute of a noun or of a verb's context.
#[derive(Clone, Copy, Debug)]
pub struct Attribute {
    pub name: &'static str,
    /// Its type in Cedar schema notation, e.g. `String`, `Long`, `Set<String>`, `datetime`, `__cedar::ipaddr`, or a record `{ … }`.
    pub cedar: &'static str,
    /// Whether every entity or context has it (else policies must test with `has`).
    pub required: bool,
    /// Whether it follows from the entity's id alone, so that a remembered decision stays true.
    pub fixed: bool,
    pub doc: &'static str,
}

/// A noun of the policy language: an entity type.
#[derive(Clone, Copy, Debug)]
pub struct Noun {
    /// With its namespace, e.g. `file_system::File`.
    pub name: &'static str,
    /// Entity types that may contain it (`in`).
    pub parents: &'static [&'static str],
    pub attributes: &'static [Attribute],
    pub doc: &'static str,
}

/// Something on the host that a policy can name: located and pinned, not yet touched.
pub trait Resource {
    /// Every entity type that this kind of resource can turn out to be.
    const NOUNS: &'static [Noun];
    /// Which of [`Self::NOUNS`] this one is.
    fn noun(&self) -> &'static Noun;
    /// The entity's id, canonical; free bytes are escaped reversibly.
    fn id(&self) -> &str;
    /// How a denial names it to the caller: in the caller's own spelling, so that a denial tells nothing new.
    fn shown(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.id())
    }
    /// The entity type a denial names: what the function was after, so that it does not tell what is there.
    fn shown_as(&self) -> &'static str {
        self.noun().name
    }
    /// Every entity it is in, nearest first, as (type, id).
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str));
    /// The value of an attribute; called only for those that some policy in question mentions, and for the required ones.
    ///
    /// # Errors
    /// When the host does not tell; the gate then denies.
    fn attribute(&self, name: &str) -> Result<Option<Value>>;
    /// Attributes that records of decisions show, because the id alone does not tell what the thing is. Never what may hold a secret.
    const RECORDED: &'static [&'static str] = &[];
    /// What stands in the way of any use, once the policy has allowed it (it is missing, say): so "missing" and "denied" look alike to whoever may not look.
    fn obstacle(&self) -> Option<Error> {
        None
    }
}

/// How far a verb reaches; `sys` opens pinned files with no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Changes nothing.
    ReadOnly,
    /// Changes the host.
    Change,
}

/// A verb of the policy language. The topic that does it declares it.
pub trait Action {
    /// What it is done to.
    type On: Resource;
    /// e.g. `file_system`.
    const NAMESPACE: &'static str;
    /// e.g. `read`.
    const NAME: &'static str;
    /// Entity types it applies to, e.g. `["file_system::File", "file_system::Dir"]`.
    const APPLIES_TO: &'static [&'static str];
    /// Action groups it is in, by name in its namespace, e.g. `["view"]`.
    const GROUPS: &'static [&'static str];
    const DOC: &'static str;
    const ACCESS: Access;
    /// What its context holds besides `session`.
    const CONTEXT: &'static [Attribute] = &[];
    /// Verbs that must be permitted too where `open = "explicit"`, and must not be forbidden where it is `implied`
    /// (`open` on the file and on its folder).
    const NEEDS_OPEN: bool = false;
    /// Whether it may be done to what is not there yet (creating, writing), so that its absence is no obstacle.
    const MAY_BE_ABSENT: bool = false;
}

/// An [`Action`] as plain data: what the schema, the manual and a function's list of asks are made from.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub namespace: &'static str,
    pub name: &'static str,
    pub applies_to: &'static [&'static str],
    pub groups: &'static [&'static str],
    pub doc: &'static str,
    pub access: Access,
    pub context: &'static [Attribute],
    pub nouns: &'static [Noun],
}

/// The data of an action.
#[must_use]
pub const fn ask<A: Action>() -> Ask {
    Ask {
        namespace: A::NAMESPACE,
        name: A::NAME,
        applies_to: A::APPLIES_TO,
        groups: A::GROUPS,
        doc: A::DOC,
        access: A::ACCESS,
        context: A::CONTEXT,
        nouns: <A::On as Resource>::NOUNS,
    }
}

/// Where in the script, and in which function, a question arises.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    pub function: &'a str,
    /// What the function declared that it asks; anything else is denied.
    pub asks: &'a [Ask],
    /// 1-based; 0 when unknown.
    pub line: u32,
    pub column: u32,
}
