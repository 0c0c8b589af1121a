//! Each hint, as a script that goes wrong gets it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::engine::{Failure, Runner};
use crate::functions::rig::Rig;
use std::sync::Arc;

fn failure(script: &str) -> Failure {
    let rig = Rig::new("permit(principal, action, resource);");
    Runner::new(Arc::clone(&rig.host), None, script).run(script, &[]).failure.unwrap_or_else(|| panic!("no error: {script}"))
}

fn hint(script: &str) -> String {
    failure(script).error.hint.unwrap_or_default()
}

#[test]
fn names_of_other_tools_lead_to_what_there_is() {
    for (script, part) in [
        ("rename(1, 2)", "`mv(from, to)`"),
        ("system(\"ls\")", "runs a program, without a shell"),
        ("let x = [1]; append(x, 2)", "list.push(item)"),
        ("sum([1])", "reduce"),
        ("makedirs(1)", "`mkdir(path, #{parents: true})`"),
    ] {
        assert!(hint(script).contains(part), "{script}: {}", hint(script));
    }
    // A name that is known after all needs no other.
    for (names, _) in FOREIGN {
        for name in *names {
            assert!(crate::functions::by_name(name).is_none(), "{name} is a function");
            assert!(!LANGUAGE.contains(name), "{name} is in the language");
        }
    }
}

#[test]
fn functions_that_hints_speak_of_are_there() {
    let call = regex::Regex::new(r"\b([a-z_0-9]+)\(").unwrap();
    for (_, hint) in FOREIGN {
        for name in call.captures_iter(hint).map(|found| found[1].to_owned()) {
            let known = crate::functions::by_name(&name).is_some() || LANGUAGE.contains(&name.as_str()) || name == "extract";
            assert!(known, "{name}");
        }
    }
}

#[test]
fn a_name_that_was_called_is_not_its_own_hint() {
    let error = failure("\"x\".keys()").error;
    assert_eq!((error.message.as_str(), error.hint.as_deref()), ("`keys` is not for (string)", None));
    assert!(!hint("lenn([1])").contains("`lenn`"));
}

#[test]
fn a_closure_that_uses_what_the_call_works_on_is_told_with_its_place() {
    let failure = failure("let m = #{a: 1};\nm.keys().map(|k| m[k])");
    assert_eq!(failure.at.map(|(line, _)| line), Some(2));
    assert!(failure.error.hint.unwrap().contains("let ks = m.keys()"));
}

#[test]
fn notations_of_other_languages_are_told() {
    for (script, part) in [
        ("let b = true ? 2 : 3;", "if a { b } else { c }"),
        ("let t = 1; t++; t", "t += 1"),
        ("let m = {\"a\": 1}; m", "#{a: 1}"),
        ("let x = f\"a\"; x", "backticks"),
        ("let x = r\"a\"; x", "backticks"),
        ("let x = \"\\[\"; x", "backslash"),
        ("let x = 'single'; x", "double quotes"),
        ("let x = None; x", "`()`"),
        ("let x = (); x.foo", "`value?.foo`"),
        ("let m = #{a: 1}; for k in m { }", "m.keys()"),
        ("for k in #{a: 1} { }", "m.keys()"),
    ] {
        assert!(hint(script).contains(part), "{script}: {}", hint(script));
    }
}

#[test]
fn flags_that_are_not_there_are_told_with_those_that_are() {
    assert!(hint("ls([ls::bogus], \"/tmp\")").contains("recursive"));
    assert!(hint("tail([tail::n], \"/tmp\")").contains("`tail::n(5)`"));
    assert!(hint("df([df::human])").contains("in a map"));
    assert!(hint("ls::bogus(3)").contains("recursive"));
}

#[test]
fn text_that_is_no_number_has_a_kind_where_it_is_caught() {
    let rig = Rig::new("permit(principal, action, resource);");
    let script = r#"let k = (); try { parse_int("x") } catch (e) { k = [e.kind, e.at.line]; } [k, parse_int(" 7"), parse_int("ff", 16), parse_float("1.5")]"#;
    let outcome = Runner::new(Arc::clone(&rig.host), None, script).run(script, &[]);
    assert_eq!(outcome.value, serde_json::json!([["script", 1], 7, 255, 1.5]));
}

#[test]
fn names_of_options_elsewhere_lead_to_ours() {
    for (script, part) in [
        ("find(\"/nowhere\", #{min_size: 3})", "size: \">1M\""),
        ("find(\"/nowhere\", #{older_than: 3})", "mtime: \">25d\""),
        ("find(\"/nowhere\", #{size: \"+1M\"})", "`size: \">1M\"`"),
        ("find(\"/nowhere\", #{mtime: \"+25\"})", "`mtime: \">25d\"`"),
        ("grep(\"a\", \"text\", #{regex: true})", "unless `fixed"),
        ("rm(\"/nowhere/*.csv\")", "glob("),
        ("template(\"/etc/motd\", #{})", "template(cat(path), #{…})"),
    ] {
        assert!(hint(script).contains(part), "{script}: {}", hint(script));
    }
    assert!(failure("find(\"/nowhere\", #{size: \"x\"})").error.message.starts_with("find: option `size`: "));
    assert!(failure("head(\"/nowhere\", \"x\")").error.message.starts_with("head: options: expected a map"));
}

#[test]
fn a_circle_of_links_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
    let rig = Rig::new("permit(principal, action, resource);");
    let path = || crate::functions::value::Dynamic::from(folder.path().join("loop").to_str().unwrap().to_owned());
    assert!(!rig.call("exists", [path()]).unwrap().as_bool().unwrap());
    assert!(!rig.call("is_file", [path()]).unwrap().as_bool().unwrap());
}

#[test]
fn permission_bits_may_be_octal_text() {
    let script = "[type_of(mkdir(\"/nowhere/x\", #{mode: \"0750\"}))]";
    assert_eq!(failure(script).error.kind, Kind::NotFound);
    for wrong in ["\"rwx\"", "\"+750\"", "\"0999\"", "\"7777\""] {
        let script = format!("mkdir(\"/nowhere/x\", #{{mode: {wrong}}})");
        assert_eq!(failure(&script).error.kind, Kind::BadArgument, "{wrong}");
    }
}

#[test]
fn for_people_maps_with_the_same_keys_are_a_table() {
    let rig = Rig::new("permit(principal, action, resource);");
    let sheet = |script: &str| {
        let runner = Runner::new(Arc::clone(&rig.host), None, script);
        let value = runner.engine.eval::<crate::functions::value::Dynamic>(script).unwrap();
        crate::functions::say::sheet(&value)
    };
    assert_eq!(sheet("[#{a: 1, b: \"x\"}, #{a: 20, b: ()}]").as_deref(), Some(" a  b\n 1  x\n20"));
    assert_eq!(sheet("#{a: 1, b: [1, 2]}").as_deref(), Some("a: 1\nb: [1, 2]"));
    for other in ["[1, 2]", "[]", "#{}", "[#{a: 1}, #{b: 1}]", "[#{a: \"x\\ny\"}]", "#{kind: \"x\", message: \"y\"}", "1"] {
        assert_eq!(sheet(other), None, "{other}");
    }
}
