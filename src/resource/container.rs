//! `container_system::Container` and `container_system::Engine`: containers of Docker or Podman, and what runs them.

use crate::error::{Error, Result, bad_argument};
use crate::policy::{Attribute, Noun, Resource, Value};
use std::borrow::Cow;

pub const CONTAINER: Noun = Noun {
    name: "container_system::Container",
    parents: &["container_system::Engine"],
    attributes: &[
        Attribute { name: "name", cedar: "String", required: true, fixed: true, doc: "Its name." },
        Attribute {
            name: "image",
            cedar: "String",
            required: false,
            fixed: false,
            doc: "The image that it was made from, as it was named then.",
        },
    ],
    doc: "A container. Its id is its name, e.g. `web-1`, however the script names it.",
};
pub const ENGINE: Noun = Noun {
    name: "container_system::Engine",
    parents: &[],
    attributes: &[],
    doc: "Docker or Podman on this host; its id is `local`. Every container is in it.",
};

/// The longest name or id.
const LONGEST: usize = 255;

/// Whether it can name a container. There is nothing in it that has a meaning in a path or query of the engine's API.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= LONGEST
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        // Never a step upwards, though no path is made of it alone.
        && !text.contains("..")
}

/// A name or id, or the beginning of an id.
///
/// # Errors
/// [`crate::error::Kind::BadArgument`] when it cannot be one.
pub fn container_name(text: &str) -> Result<&str> {
    if is_name(text) {
        return Ok(text);
    }
    let shown: String = text.chars().take(60).collect();
    Err(bad_argument(format!("`{}` is no name of a container: letters, digits and `_.-` are", shown.escape_debug())))
}

/// A container, found by the engine under its own name and id.
#[derive(Debug)]
pub struct Container {
    asked: String,
    name: String,
    id: String,
    image: Option<String>,
    why_not: Option<Error>,
}

impl Container {
    /// What the engine found for the name or id `asked`.
    #[must_use]
    pub fn found(asked: String, name: String, id: String, image: Option<String>) -> Self {
        Self { asked, name, id, image, why_not: None }
    }
    /// The container that would have this name, and why it cannot be used. The policy is asked first, and told nothing.
    #[must_use]
    pub fn absent(asked: String, why_not: Error) -> Self {
        Self { name: asked.clone(), asked, id: String::new(), image: None, why_not: Some(why_not) }
    }
    /// Its own name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What it is whatever it is called.
    #[must_use]
    pub fn own_id(&self) -> &str {
        &self.id
    }
}

impl Resource for Container {
    const NOUNS: &'static [Noun] = &[CONTAINER];
    const RECORDED: &'static [&'static str] = &["image"];
    fn noun(&self) -> &'static Noun {
        &CONTAINER
    }
    fn id(&self) -> &str {
        &self.name
    }
    fn shown(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.asked)
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        visit(ENGINE.name, "local");
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok(match name {
            "name" => Some(Value::String(self.name.clone())),
            "image" => self.image.clone().map(Value::String),
            _ => None,
        })
    }
    fn obstacle(&self) -> Option<Error> {
        self.why_not.clone()
    }
}

/// What runs the containers of this host.
#[derive(Clone, Copy, Debug)]
pub struct Engine;

impl Resource for Engine {
    const NOUNS: &'static [Noun] = &[ENGINE];
    fn noun(&self) -> &'static Noun {
        &ENGINE
    }
    fn id(&self) -> &'static str {
        "local"
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, _: &str) -> Result<Option<Value>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn names_lead_nowhere_else_in_the_api() {
        for name in ["web", "web-1", "a.b_c", "0123456789abcdef"] {
            assert!(is_name(name), "{name}");
        }
        for bad in ["", "/", "a/b", "..", "a..b", ".a", "a?x=1", "a%2fb", "a#b", "a b", "a\r\n", "ü", "-a", &"a".repeat(256)] {
            assert!(!is_name(bad) && container_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_judged_as_the_container_that_has_it_and_shown_as_asked() {
        let container = Container::found("4f2a".into(), "database".into(), "4f2a".repeat(16), None);
        assert_eq!((Resource::id(&container), &*container.shown()), ("database", "4f2a"));
    }
}
