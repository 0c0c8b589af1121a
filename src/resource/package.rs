//! `package_system::Package` and `package_system::Database`: what the package manager of this host has installed.

use crate::error::{Result, bad_argument};
use crate::policy::{Attribute, Noun, Resource, Value};

pub const PACKAGE: Noun = Noun {
    name: "package_system::Package",
    parents: &["package_system::Database"],
    attributes: &[Attribute { name: "name", cedar: "String", required: true, fixed: true, doc: "Its name, without architecture." }],
    doc: "A package, installed or not. Its id is its name without architecture, e.g. `libc6`.",
};
pub const DATABASE: Noun = Noun {
    name: "package_system::Database",
    parents: &[],
    attributes: &[],
    doc: "What the package manager knows of this host; its id is `local`. Every package is in it.",
};

/// The longest name of a package.
const LONGEST: usize = 200;

/// A package, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    name: String,
    architecture: Option<String>,
}

impl Package {
    /// `libc6`, or `libc6:i386` where a name alone does not say which.
    ///
    /// # Errors
    /// [`crate::error::Kind::BadArgument`] when it cannot be the name of a package.
    pub fn of(text: &str) -> Result<Self> {
        let (name, architecture) = text.split_once(':').map_or((text, None), |(name, architecture)| (name, Some(architecture)));
        // What Debian's policy, apk and rpm have together; nothing that is more than one name of a file.
        let legal = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
        };
        if text.len() > LONGEST || !legal(name) || !architecture.is_none_or(legal) {
            let shown: String = text.chars().take(60).collect();
            return Err(bad_argument(format!("`{}` is no name of a package: letters, digits and `+-._` are", shown.escape_debug())));
        }
        Ok(Self { name: name.to_owned(), architecture: architecture.map(str::to_owned) })
    }
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
    #[must_use]
    pub fn architecture(&self) -> Option<&str> {
        self.architecture.as_deref()
    }
}

impl Resource for Package {
    const NOUNS: &'static [Noun] = &[PACKAGE];
    fn noun(&self) -> &'static Noun {
        &PACKAGE
    }
    fn id(&self) -> &str {
        &self.name
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        visit(DATABASE.name, "local");
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        Ok((name == "name").then(|| Value::String(self.name.clone())))
    }
}

/// The package manager's account of this host.
#[derive(Clone, Copy, Debug)]
pub struct Database;

impl Resource for Database {
    const NOUNS: &'static [Noun] = &[DATABASE];
    fn noun(&self) -> &'static Noun {
        &DATABASE
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
    fn names_are_names_of_packages_and_of_nothing_else() {
        for (text, name, architecture) in [
            ("libc6", "libc6", None),
            ("libstdc++6:i386", "libstdc++6", Some("i386")),
            ("linux-image-6.1.0-9", "linux-image-6.1.0-9", None),
        ] {
            let package = Package::of(text).unwrap();
            assert_eq!((package.name(), package.architecture()), (name, architecture));
        }
        for bad in ["", ":", "a:", "../x", "a/b", ".x", "a b", "a\n", "a:../x", "-x", "ü", &"a".repeat(300)] {
            assert_eq!(Package::of(bad).unwrap_err().kind, crate::error::Kind::BadArgument, "{bad:?}");
        }
    }
}
