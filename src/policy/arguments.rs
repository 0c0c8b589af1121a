//! The arguments of a program as policies see them: in order as one text, and as the sets and tags that policies for the reference name.

use super::words::{Object, Value};
use crate::error::{Result, bad_argument};

/// Arguments as text, free bytes escaped reversibly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    words: Vec<String>,
    keys: Vec<String>,
    flags: Vec<String>,
    positional: Vec<String>,
    tags: Vec<(String, String)>,
}

impl Arguments {
    /// A name with its value. What policies could take for something else is refused: they must not see less than the program does.
    ///
    /// # Errors
    /// [`crate::error::Kind::BadArgument`] when the value looks like a flag, or a name is given twice.
    pub fn pair(&mut self, name: String, value: String) -> Result<()> {
        if value.starts_with('-') {
            return Err(bad_argument(
                "the value of a pair begins with `-`; give name and value as two arguments, so that policies see both",
            ));
        }
        self.tag(name.clone(), value.clone())?;
        self.keys.push(name.clone());
        self.words.extend([name, value]);
        Ok(())
    }

    /// One argument.
    ///
    /// # Errors
    /// [`crate::error::Kind::BadArgument`] when policies could take it for another one.
    pub fn single(&mut self, text: String) -> Result<()> {
        let number = self.flags.len() + self.positional.len();
        if text.starts_with("$ARG") || self.keys.contains(&text) {
            return Err(bad_argument("this argument has the name of another one, as policies see them"));
        }
        if !self.tags.iter().any(|(known, _)| *known == text) {
            self.tag(text.clone(), "true".to_owned())?;
        }
        self.tag(format!("$ARG{number}"), text.clone())?;
        self.words.push(text.clone());
        if text.starts_with('-') {
            self.flags.push(text)
        } else {
            self.positional.push(text)
        }
        Ok(())
    }

    fn tag(&mut self, name: String, value: String) -> Result<()> {
        if self.tags.iter().any(|(known, _)| *known == name) {
            return Err(bad_argument("a name is given twice; policies could see only one of its values"));
        }
        self.tags.push((name, value));
        Ok(())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// As a shell would need it, so that two different lists never read the same. `hidden`: positions that are not shown.
    #[must_use]
    pub fn quoted(&self, hidden: &[usize]) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        let quote = |(at, text): (usize, &String)| {
            if hidden.contains(&at) {
                return "***".to_owned();
            }
            if !text.is_empty() && text.chars().all(plain) { text.clone() } else { format!("'{}'", text.replace('\'', "'\\''")) }
        };
        self.words.iter().enumerate().map(quote).collect::<Vec<_>>().join(" ")
    }

    /// The entity `file_system::Arguments`.
    #[must_use]
    pub fn object(&self) -> Value {
        let set = |items: &[String]| Value::Set(items.iter().cloned().map(Value::String).collect());
        Value::Object(Box::new(Object {
            noun: "file_system::Arguments",
            id: "arguments".to_owned(),
            attributes: vec![("keys", set(&self.keys)), ("flags", set(&self.flags)), ("positional_values", set(&self.positional))],
            tags: self.tags.clone(),
        }))
    }
}

/// The entity `file_system::Environment` of these variables.
#[must_use]
pub fn environment(variables: Vec<(String, String)>) -> Value {
    let names = Value::Set(variables.iter().map(|(name, _)| Value::String(name.clone())).collect());
    let attributes = vec![("names", names)];
    Value::Object(Box::new(Object { noun: "file_system::Environment", id: "environment".to_owned(), attributes, tags: variables }))
}
