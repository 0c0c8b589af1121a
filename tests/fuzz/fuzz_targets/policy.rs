//! Whatever is in a policy file: it loads or is an error of configuration, the lints agree which, and formatting twice changes nothing more; no stack ever ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexsh::error::Kind;
use rexsh::policy::{Policies, Scope, Source, format, lint};
use std::sync::OnceLock;

fuzz_target!(|text: &str| {
    static SCHEMA: OnceLock<String> = OnceLock::new();
    let schema = SCHEMA.get_or_init(rexsh::terms::schema);
    let source = Source { name: "fuzz.cedar".into(), text: text.into() };
    let (asks, nouns) = rexsh::functions::vocabulary();
    let report = lint::check(std::slice::from_ref(&source), &asks, &nouns, lint::Surroundings::default());
    let errors = report.map_or(1, |report| report.count(lint::Level::Error));
    let loads = Policies::load(std::slice::from_ref(&source), schema, &Scope { name: "alice".into(), groups: vec!["ops".into()] }, None);
    assert_eq!(loads.is_ok(), errors == 0);
    if let Err(error) = loads {
        assert_eq!(error.kind, Kind::Config);
    }
    if let Ok(text) = format::format(&source) {
        let again = format::format(&Source { name: "fuzz.cedar".into(), text: text.clone() });
        assert_eq!(again.as_deref().ok(), Some(text.as_str()));
    }
});
