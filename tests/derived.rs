//! Files of the tree that are derived from the program equal what it derives now. `REX_BLESS=1 cargo test --test derived` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use rexsh::functions::manual;
use std::fs;
use std::path::Path;

/// Compares a checked-in file with what it is derived from; with `REX_BLESS=1`, writes it.
#[track_caller]
fn is_current(name: &str, derived: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("REX_BLESS").is_some_and(|bless| bless == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, derived).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    if checked_in == derived {
        return;
    }
    let line = checked_in.lines().zip(derived.lines()).take_while(|(old, new)| old == new).count();
    panic!(
        "{name} is not what the program derives (line {}); write it anew with REX_BLESS=1 cargo test --test derived\nit has    {:?}\nit should {:?}",
        line + 1,
        checked_in.lines().nth(line).unwrap_or("nothing more"),
        derived.lines().nth(line).unwrap_or("have nothing more")
    );
}

#[test]
fn the_schema_is_current() {
    is_current("policies/rex.cedarschema", &rexsh::terms::schema());
}

#[test]
fn the_settings_are_current() {
    is_current("config/rex.toml", &rexsh::config::rex_toml());
}

#[test]
fn the_functions_are_current() {
    is_current("docs/functions.md", &manual::markdown());
}

#[test]
fn the_policy_reference_is_current() {
    is_current("docs/policy-reference.md", &manual::policy_reference());
}

#[test]
fn the_form_of_records_is_current() {
    is_current("docs/audit.schema.json", &rexsh::audit::fields::json_schema());
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap();
    let (begin, end) = ("cargo test --test derived writes it. -->\n", "<!-- The end of what is derived. -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    is_current("docs/audit.md", &format!("{before}{begin}\n{}\n{end}{after}", rexsh::audit::fields::markdown()));
}

#[test]
fn the_checks_of_doctor_are_current() {
    is_current("docs/doctor.md", &rexsh::doctor::show::markdown());
}

#[test]
fn the_lints_are_current() {
    is_current("docs/policy-lints.md", &rexsh::policy::lint::markdown());
}

#[test]
fn the_exit_codes_of_the_readme_are_those_of_the_manual() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for (exit, meaning) in rexsh::error::EXITS {
        assert!(page.contains(&format!("| {} | {meaning} |", *exit as u8)), "{} {meaning}", *exit as u8);
    }
}

#[test]
fn references_within_the_documents_lead_somewhere() {
    let functions = manual::markdown();
    let reference = manual::policy_reference();
    for (name, text) in [("docs/functions.md", &functions), ("docs/policy-reference.md", &reference)] {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target)) {
            let Some((file, anchor)) = target.split_once('#') else { continue };
            let within = if file.is_empty() { text } else { &functions };
            assert!(file.is_empty() || file == "functions.md", "{name}: {target}");
            assert!(within.contains(&format!("\n### {anchor}\n")), "{name}: {target} leads nowhere");
        }
    }
}
