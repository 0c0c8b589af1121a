//! What entries at a prompt leave for those that come after them: variables, constants and functions.

use super::{Error, Failure, Kind, Outcome, Runner};
use crate::functions::value::Dynamic;
use rhai::{AST, Scope};

/// What a session has defined so far.
#[derive(Default)]
pub struct Kept {
    scope: Scope<'static>,
    /// Functions alone, without a statement.
    functions: AST,
    /// How many entries there were.
    entries: u64,
}

impl Kept {
    /// The variables and constants: name, whether it is a constant, the type of its value.
    pub fn variables(&self) -> impl Iterator<Item = (&str, bool, &'static str)> {
        self.scope.iter_raw().map(|(name, constant, value)| (name, constant, value.type_name()))
    }

    /// The functions: name and parameters.
    pub fn functions(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        let of = |function: rhai::ScriptFnMetadata<'_>| {
            (function.name.to_owned(), function.params.iter().map(|name| (*name).to_owned()).collect())
        };
        self.functions.iter_functions().map(of)
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.scope.contains(name) || self.functions.iter_functions().any(|function| function.name == name)
    }

    /// Lets go of every value.
    pub fn forget_values(&mut self) {
        self.scope.clear();
    }

    /// Of several variables of one name only the last can be reached.
    fn tidy(&mut self) {
        let mut seen = std::collections::HashSet::new();
        let doubled = !self.scope.iter_raw().all(|(name, ..)| seen.insert(name.to_owned()));
        if !doubled {
            return;
        }
        let all: Vec<(String, bool, Dynamic)> =
            self.scope.iter_raw().map(|(name, constant, value)| (name.to_owned(), constant, value.clone())).collect();
        let mut last = std::collections::HashSet::new();
        let mut kept: Vec<_> = all.into_iter().rev().filter(|(name, ..)| last.insert(name.clone())).collect();
        kept.reverse();
        self.scope.clear();
        for (name, constant, value) in kept {
            if constant {
                self.scope.push_constant_dynamic(name, value);
            } else {
                self.scope.push_dynamic(name, value);
            }
        }
    }
}

impl Runner {
    /// Compiles and runs an entry on what is kept, and keeps what it defines; also when it fails on its way.
    #[must_use]
    pub fn run_entry(self, mut kept: Kept, script: &str) -> (Kept, Outcome) {
        kept.entries += 1;
        let entry = match self.compile_in(&kept.scope, script) {
            Ok(mut ast) => {
                ast.set_source(format!("entry {}", kept.entries));
                ast
            }
            Err(failure) => {
                let outcome = Outcome { failure: Some(*failure), ..Outcome::failed(Error::new(Kind::Compile, "")) };
                return (kept, outcome);
            }
        };
        let whole = kept.functions.merge(&entry);
        kept.functions = whole.clone_functions_only();
        let mut outcome = self.run_in(&mut kept.scope, &whole);
        kept.tidy();
        if let Some(Failure { at, .. }) = &mut outcome.failure {
            // The place may be in a function of an entry before, whose lines are not at hand.
            *at = at.filter(|(line, _)| usize::try_from(*line).is_ok_and(|line| line <= script.lines().count()));
        }
        (kept, outcome)
    }
}
