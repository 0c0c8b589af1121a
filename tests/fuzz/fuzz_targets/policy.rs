//! Whatever is in a policy file: it loads or is an error of configuration; the parser's stack never ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexsh::error::Kind;
use rexsh::policy::{Policies, Scope, Source};
use std::sync::OnceLock;

fuzz_target!(|text: &str| {
    static SCHEMA: OnceLock<String> = OnceLock::new();
    let schema = SCHEMA.get_or_init(rexsh::terms::schema);
    let source = Source { name: "fuzz.cedar".into(), text: text.into() };
    if let Err(error) = Policies::load(&[source], schema, &Scope { name: "alice".into(), groups: vec!["ops".into()] }, None) {
        assert_eq!(error.kind, Kind::Config);
    }
});
