//! For tests of functions: a host with given policies, and calls without a script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "compiled for tests only")]

use super::function::{Call, Host};
use super::value::{Array, Dynamic, Map};
use crate::error::Result;
use crate::limits::{Limits, Watch};
use crate::output::{Form, Output};
use crate::policy::{Gate, Policies, Principal, Rules, Scope, Session, Silent, Source, Value};
use crate::sys::redact;
use std::sync::Arc;

/// A run's host without a run.
pub struct Rig {
    pub host: Arc<Host>,
}

impl Rig {
    pub fn new(policy: &str) -> Self {
        Self::with_redaction(policy, redact::Rules::hide_all)
    }

    /// The same with the owner's rules of redacted reading.
    pub fn with_redaction(policy: &str, rules: impl Fn() -> Result<redact::Rules> + Send + Sync + 'static) -> Self {
        let watch = Arc::new(Watch::new(Limits::default()));
        let scope = Scope { name: "alice".into(), groups: Vec::new() };
        let sources = [Source { name: "test.cedar".into(), text: policy.into() }];
        let (asks, nouns) = super::vocabulary();
        let schema = crate::policy::schema::render(&asks, &nouns);
        let policies = Arc::new(Policies::load(&sources, &schema, &scope, None).unwrap());
        let principal = Principal { name: "alice".into(), ..Principal::default() };
        let attributes = vec![("mode", Value::String("local".into())), ("interactive", Value::Bool(false))];
        let session = Session { run: "test".into(), attributes };
        let gate = Gate::new(policies, principal, session, Box::new(Silent), Arc::clone(&watch), Rules::default()).unwrap();
        let out = Arc::new(Output::new(Form::Json, false, Arc::clone(&watch)));
        Self { host: Arc::new(Host { gate, watch, out, redaction: redact::Source::new(rules), broker: None }) }
    }

    pub fn call<const N: usize>(&self, name: &str, args: [Dynamic; N]) -> Result<Dynamic> {
        let function = super::by_name(name).unwrap();
        function.body.call(&Call::new(&self.host, function, None), &mut Vec::from(args))
    }
}

/// A map of options.
pub fn options<const N: usize>(rows: [(&str, Dynamic); N]) -> Dynamic {
    Dynamic::from_map(rows.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

pub fn strings(value: Dynamic) -> Vec<String> {
    value.into_array().unwrap().into_iter().map(|item| item.into_string().unwrap()).collect()
}

pub fn maps(value: Dynamic) -> Vec<Map> {
    let rows: Array = value.into_array().unwrap();
    rows.into_iter().map(|row| row.cast::<Map>()).collect()
}
