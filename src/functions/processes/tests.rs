//! Tests of ps: what a policy shows, that a filter tells nothing of the rest, trees, measuring.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Kind;
use crate::functions::rig::{Rig, maps, options};
use crate::functions::value::{Dynamic, Map};
use std::process::{Child, Command};

/// A process that ends with the test.
struct Sleeper(Child);
impl Sleeper {
    fn new() -> Self {
        let child = Command::new("sleep").arg("61.25").spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        while std::fs::read_to_string(&comm).unwrap().trim() != "sleep" {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Self(child)
    }
    fn pid(&self) -> i64 {
        self.0.id().into()
    }
}
impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pids(rows: &[Map]) -> Vec<i64> {
    rows.iter().map(|row| row["pid"].as_int().unwrap()).collect()
}

fn text(text: &str) -> Dynamic {
    text.to_owned().into()
}

#[test]
fn a_policy_shows_the_processes_that_it_names_and_no_other() {
    let sleeper = Sleeper::new();
    let rig = Rig::new(r#"permit(principal, action == process_system::Action::"list", resource) when { resource.name == "sleep" };"#);
    let rows = maps(rig.call("ps", []).unwrap());
    assert!(pids(&rows).contains(&sleeper.pid()));
    assert!(rows.iter().all(|row| row["name"].clone().into_string().unwrap() == "sleep"));
    assert!(!rig.host.gate.denials().is_empty(), "what is left out is on record");
    let by_command =
        Rig::new(r#"permit(principal, action, resource is process_system::Process) when { resource.command == "sleep 61.25" };"#);
    assert!(pids(&maps(by_command.call("ps", []).unwrap())).contains(&sleeper.pid()));
}

#[test]
fn no_permission_at_all_is_a_denial_and_not_an_empty_list() {
    // rest.md S10.
    let rig = Rig::new("permit(principal, action, resource is file_system::File);");
    assert_eq!(rig.call("ps", []).unwrap_err().kind, Kind::Denied);
}

#[test]
fn a_filter_tells_nothing_of_what_may_not_be_seen() {
    let hidden = Sleeper::new();
    let own = std::process::id();
    let rig = Rig::new(&format!(r#"permit(principal, action, resource == process_system::Process::"{own}");"#));
    let there = rig.call("ps", [options([("pid", hidden.pid().into())])]).unwrap();
    let denials = rig.host.gate.counts();
    let absent = rig.call("ps", [options([("pid", i64::from(i32::MAX).into())])]).unwrap();
    assert_eq!((there.into_array().unwrap().len(), absent.into_array().unwrap().len()), (0, 0));
    assert!(denials.1 > 0);
}

#[test]
fn rows_are_filtered_sorted_limited_and_put_into_a_tree() {
    let sleeper = Sleeper::new();
    let rig = Rig::new("permit(principal, action, resource);");
    let rows = maps(rig.call("ps", [options([("command", text("sleep 61.25")), ("user", text("0"))])]).unwrap());
    if rustix::process::getuid().is_root() {
        assert!(pids(&rows).contains(&sleeper.pid()));
    }
    assert_eq!(maps(rig.call("ps", [options([("limit", 1_i64.into())])]).unwrap()).len(), 1);
    let rows = maps(rig.call("ps", [options([("sort", text("memory"))])]).unwrap());
    assert!(rows.windows(2).all(|pair| pair[0]["memory"].as_int().unwrap() >= pair[1]["memory"].as_int().unwrap()));
    let rows = maps(rig.call("ps", [options([("tree", true.into())])]).unwrap());
    let at = |pid: i64| rows.iter().position(|row| row["pid"].as_int() == Ok(pid)).unwrap();
    let (parent, child) = (at(std::process::id().into()), at(sleeper.pid()));
    assert!(parent < child);
    assert_eq!(rows[child]["depth"].as_int().unwrap(), rows[parent]["depth"].as_int().unwrap() + 1);
    assert_eq!(rig.call("ps", [options([("sort", text("size"))])]).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn threads_io_and_an_interval_are_there_when_asked_for() {
    let rig = Rig::new("permit(principal, action, resource);");
    let own = i64::from(std::process::id());
    let set = options([
        ("pid", own.into()),
        ("threads", true.into()),
        ("io", true.into()),
        ("wchan", true.into()),
        ("seconds", Dynamic::from_float(0.05)),
    ]);
    let rows = maps(rig.call("ps", [set]).unwrap());
    assert_eq!(pids(&rows), [own]);
    assert!(!rows[0]["tasks"].clone().into_array().unwrap().is_empty());
    assert!(rows[0]["io"].is_map() && rows[0].contains_key("wchan"));
    assert!(rows[0]["cpu"].as_float().unwrap() >= 0.0);
}
