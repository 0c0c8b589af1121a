//! The gate: every denial beside the allowance that differs from it in one thing, and the sliced decision against Cedar's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::limits::{Limits, Stop};
use crate::policy::load::Source;
use crate::policy::schema::render;
use crate::policy::words::{Access, Attribute, Object};
use std::borrow::Cow;
use std::cell::RefCell;

const fn attribute(name: &'static str, cedar: &'static str, required: bool, fixed: bool) -> Attribute {
    Attribute { name, cedar, required, fixed, doc: "" }
}

const ATTRIBUTES: &[Attribute] = &[
    attribute("path", "String", true, true),
    attribute("owner", "String", true, false),
    attribute("size", "Long", false, false),
    attribute("links", "Long", true, true),
];
const FILE: Noun = Noun { name: "file_system::File", parents: &["file_system::Dir"], attributes: ATTRIBUTES, doc: "" };
const DIR: Noun = Noun { name: "file_system::Dir", parents: &["file_system::Dir"], attributes: ATTRIBUTES, doc: "" };

/// A file or directory on paper.
#[derive(Debug, Default)]
struct Paper {
    dir: bool,
    path: String,
    owner: String,
    size: Option<i64>,
    missing: bool,
    /// How often each attribute was asked for; the ancestors count as one.
    asked: RefCell<Vec<String>>,
    broken: bool,
}

fn file(path: &str) -> Paper {
    Paper { path: path.into(), owner: "root".into(), size: Some(7), ..Paper::default() }
}

fn dir(path: &str) -> Paper {
    Paper { dir: true, ..file(path) }
}

impl Resource for Paper {
    const NOUNS: &'static [Noun] = &[FILE, DIR];
    fn noun(&self) -> &'static Noun {
        if self.dir { &DIR } else { &FILE }
    }
    fn id(&self) -> &str {
        &self.path
    }
    fn shown(&self) -> Cow<'_, str> {
        Cow::Owned(format!("{}!", self.path))
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        Named { noun: &DIR, id: &self.path }.each_ancestor(visit);
    }
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        self.asked.borrow_mut().push(name.to_owned());
        // What follows from the name is always known.
        if self.broken && !matches!(name, "path" | "links") {
            return Err(Error::new(Kind::Io, "no answer"));
        }
        Ok(match name {
            "path" => Some(Value::String(self.path.clone())),
            "owner" => Some(Value::String(self.owner.clone())),
            "size" => self.size.map(Value::Long),
            "links" => Some(Value::Long(2)),
            _ => None,
        })
    }
    fn obstacle(&self) -> Option<Error> {
        self.missing.then(|| Error::new(Kind::NotFound, "no such file"))
    }
}

macro_rules! verbs {
    ($($verb:ident $name:literal $groups:expr, $open:literal, $context:expr $(, absent: $absent:literal)?;)*) => {$(
        enum $verb {}
        impl Action for $verb {
            type On = Paper;
            const NAMESPACE: &'static str = "file_system";
            const NAME: &'static str = $name;
            const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
            const GROUPS: &'static [&'static str] = $groups;
            const DOC: &'static str = "";
            const ACCESS: Access = Access::ReadOnly;
            const NEEDS_OPEN: bool = $open;
            const CONTEXT: &'static [Attribute] = $context;
            $(const MAY_BE_ABSENT: bool = $absent;)?
        }
    )*};
}
verbs! {
    Read "read" &["view"], true, &[];
    Stat "stat" &["view"], false, &[];
    Delete "delete" &["edit"], false, &[];
    Execute "execute" &[], false, &[attribute("arguments", "file_system::Arguments", true, true)];
    Move "move" &["edit"], false, &[attribute("destination", "{ path: String, name: String, parent_path: String }", true, true)];
    Create "create" &["edit"], false, &[], absent: true;
    Unheard "unheard_of" &[], false, &[];
}

const ASKS: &[Ask] = &[ask::<Read>(), ask::<Stat>(), ask::<Delete>(), ask::<Execute>(), ask::<Move>(), ask::<Create>()];
const SITE: Site<'static> = Site { function: "test", asks: ASKS, line: 3, column: 5 };

/// Keeps records as text.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>, bool);

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Recorder for Notes {
    fn effect(&self, _: &crate::policy::EffectRecord<'_>) -> Result<()> {
        Ok(())
    }
    fn decision(&self, r: &DecisionRecord<'_>) -> Result<()> {
        if self.1 {
            return Err(Error::new(Kind::Io, "disk full"));
        }
        let word = if r.allowed { "allow" } else { "deny" };
        let mut line = format!("{word} {} {} {}", r.action, r.resource.1, r.policies.join("+"));
        for (name, part) in
            [("why", r.why.map(Why::name)), ("ref", r.reference), ("note", r.note), ("obstacle", r.obstacle.map(|error| error.kind.name()))]
        {
            if let Some(part) = part {
                line.push_str(&format!(" {name}={part}"));
            }
        }
        if r.remembered {
            line.push_str(" remembered");
        }
        self.0.lock().unwrap().push(line);
        Ok(())
    }
    fn walk(&self, r: &WalkRecord<'_>) -> Result<()> {
        self.0.lock().unwrap().push(format!("walk {} {} {:?} {}", r.action, r.root.1, r.counts, r.policies.join("+")));
        if self.1 { Err(Error::new(Kind::Audit, "disk full")) } else { Ok(()) }
    }
}

struct Bench {
    gate: Gate,
    notes: Notes,
}

fn principal() -> Principal {
    Principal {
        name: "ann".into(),
        groups: vec!["ops".into()],
        attributes: vec![("uid", Value::Long(7)), ("client_address", Value::Ip("10.1.2.3".into()))],
    }
}

fn session() -> Session {
    let text = |text: &str| Value::String(text.into());
    Session { run: "0193-abc-7f3a9c".into(), attributes: vec![("mode", text("local")), ("interactive", Value::Bool(false))] }
}

fn policies(text: &str) -> Arc<Policies> {
    let scope = Scope { name: "ann".into(), groups: vec!["ops".into()] };
    let schema = render(ASKS, &[]);
    Arc::new(
        Policies::load(&[Source { name: "p".into(), text: text.into() }], &schema, &scope, None).unwrap_or_else(|error| panic!("{error}")),
    )
}

fn bench_with(text: &str, rules: Rules) -> Bench {
    let notes = Notes::default();
    let gate =
        Gate::new(policies(text), principal(), session(), Box::new(notes.clone()), Arc::new(Watch::new(Limits::default())), rules).unwrap();
    Bench { gate, notes }
}

fn bench(text: &str) -> Bench {
    bench_with(text, Rules::default())
}

fn denial<T: std::fmt::Debug>(result: Result<T>) -> Denial {
    let error = result.expect_err("it should be denied");
    assert_eq!(error.kind, Kind::Denied, "{error}");
    *error.denial.unwrap()
}

const READ_LOGS: &str = "@id(\"logs\") permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\");\n";

#[test]
fn what_is_permitted_is_granted_and_recorded_and_the_next_folder_is_not() {
    let bench = bench(READ_LOGS);
    let granted = bench.gate.permit::<Read>(&SITE, file("/var/log/a/b")).unwrap();
    assert_eq!((granted.resource().path.as_str(), granted.path.as_str()), ("/var/log/a/b", "/var/log/a/b"));
    assert_eq!(granted.into_resource().path, "/var/log/a/b");
    let denial = denial(bench.gate.permit::<Read>(&SITE, file("/var/logs/a")));
    assert_eq!(denial.why, Why::NotPermitted);
    assert_eq!(denial.action, "file_system::Action::\"read\"");
    assert_eq!(denial.resource, "file_system::File::\"/var/logs/a!\"", "in the caller's spelling");
    assert_eq!(denial.principal, "User::\"ann\"");
    assert_eq!((denial.hint.clone(), denial.retry, denial.reference.as_str()), (None, false, "d-7f3a9c-1"));
    assert_eq!(
        bench.notes.take(),
        [
            "allow file_system::Action::\"read\" /var/log/a/b logs",
            "deny file_system::Action::\"read\" /var/logs/a  why=not_permitted ref=d-7f3a9c-1"
        ]
    );
    assert_eq!(bench.gate.denials(), [denial]);
    assert_eq!(bench.gate.counts(), (1, 1));
}

#[test]
fn a_forbid_wins_over_every_permit() {
    let bench = bench(&format!(
        "{READ_LOGS}@id(\"no\") @hint(\"ask the security team\") forbid(principal, action in file_system::Action::\"view\", resource == file_system::File::\"/var/log/secret\");"
    ));
    assert!(bench.gate.permit::<Read>(&SITE, file("/var/log/other")).is_ok());
    let denial = denial(bench.gate.permit::<Read>(&SITE, file("/var/log/secret")));
    assert_eq!((denial.why, denial.hint.as_deref()), (Why::Forbidden, Some("ask the security team")));
    assert!(bench.notes.take()[1].contains("/var/log/secret no why=forbidden"));
}

#[test]
fn an_action_that_the_function_did_not_declare_is_denied() {
    let bench = bench("permit(principal, action, resource);");
    let site = Site { asks: &[const { ask::<Stat>() }], ..SITE };
    assert!(bench.gate.permit::<Stat>(&site, file("/a")).is_ok());
    assert_eq!(denial(bench.gate.permit::<Read>(&site, file("/a"))).why, Why::NotPermitted);
    assert!(bench.notes.take()[1].contains("note=`test` did not declare"));
}

#[test]
fn an_action_that_the_schema_does_not_know_is_denied() {
    let bench = bench("permit(principal, action, resource);");
    let site = Site { asks: &[const { ask::<Unheard>() }], ..SITE };
    assert_eq!(denial(bench.gate.permit::<Unheard>(&site, file("/a"))).why, Why::NotPermitted);
    assert!(bench.notes.take()[0].contains("the schema does not know"));
}

#[test]
fn a_policy_that_fails_denies_whether_it_permits_or_forbids() {
    let overflow = "when { resource.links * 9223372036854775807 > 0 }";
    for effect in ["permit", "forbid"] {
        let text = format!(
            "@id(\"all\") permit(principal, action, resource); @id(\"bad\") {effect}(principal, action == file_system::Action::\"stat\", resource) {overflow};"
        );
        let bench = bench(&text);
        assert!(bench.gate.permit::<Delete>(&SITE, file("/a")).is_ok());
        assert_eq!(denial(bench.gate.permit::<Stat>(&SITE, file("/a"))).why, Why::PolicyError);
        assert!(bench.notes.take()[1].contains(" bad why=policy_error"));
    }
}

#[test]
fn an_attribute_that_the_host_does_not_tell_denies() {
    let bench = bench(
        "permit(principal, action, resource); forbid(principal, action == file_system::Action::\"stat\", resource) when { resource.owner == \"root\" };",
    );
    assert!(bench.gate.permit::<Stat>(&SITE, Paper { owner: "ann".into(), ..file("/a") }).is_ok());
    assert!(bench.gate.permit::<Stat>(&SITE, Paper { owner: "ann".into(), broken: true, ..file("/a") }).is_err());
    assert!(bench.gate.permit::<Delete>(&SITE, Paper { broken: true, ..file("/a") }).is_ok(), "nothing asks for it there");
    assert!(bench.notes.take()[1].contains("note=the attribute `owner` could not be had: no answer"));
}

#[test]
fn only_attributes_that_a_policy_in_question_mentions_are_asked_for() {
    let bench = bench(
        "permit(principal, action == file_system::Action::\"stat\", resource) when { resource has size && resource.size < 10 }; permit(principal, action == file_system::Action::\"delete\", resource) when { resource.owner == \"root\" };",
    );
    let granted = bench.gate.permit::<Stat>(&SITE, file("/a")).unwrap();
    assert_eq!(*granted.asked.borrow(), ["size"]);
    assert_eq!(denial(bench.gate.permit::<Stat>(&SITE, Paper { size: Some(11), ..file("/a") })).why, Why::ConditionFailed);
    assert_eq!(denial(bench.gate.permit::<Stat>(&SITE, Paper { size: None, ..file("/a") })).why, Why::ConditionFailed);
}

#[test]
fn a_condition_that_does_not_hold_gives_the_hint_of_the_nearest_permit() {
    let bench = bench(
        "@hint(\"far\") permit(principal, action == file_system::Action::\"stat\", resource) when { resource.owner == \"ann\" };
         @hint(\"near\") permit(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/a\") when { resource.owner == \"ann\" };",
    );
    let denied = denial(bench.gate.permit::<Stat>(&SITE, file("/a/b")));
    assert_eq!((denied.why, denied.hint.as_deref(), denied.retry), (Why::ConditionFailed, Some("near"), false));
    assert_eq!(denial(bench.gate.permit::<Stat>(&SITE, file("/b"))).hint.as_deref(), Some("far"));
}

#[test]
fn the_policy_author_says_how_much_a_denial_tells() {
    let forbid = |annotations: &str| {
        bench(&format!("permit(principal, action, resource); @id(\"x\") {annotations} forbid(principal, action, resource);"))
    };
    let denied = |annotations: &str| {
        let denied = denial(forbid(annotations).gate.permit::<Stat>(&SITE, file("/a")));
        (denied.why, denied.hint)
    };
    assert_eq!(denied("@hint(\"h\")"), (Why::Forbidden, Some("h".into())));
    assert_eq!(denied("@hint(\"h\") @reveal(\"none\")"), (Why::NotPermitted, None));
    assert_eq!(denied("@hint(\"h\") @reveal(\"rule\")"), (Why::Forbidden, Some("h".into())));
    assert_eq!(denied("@reveal(\"rule\")"), (Why::Forbidden, None));
    let policy = |annotations: &str| denial(forbid(annotations).gate.permit::<Stat>(&SITE, file("/a"))).policy;
    assert_eq!((policy("@reveal(\"rule\")").as_deref(), policy("@hint(\"h\")")), (Some("x"), None));
    let bench = forbid("@reveal(\"none\")");
    let _ = bench.gate.permit::<Stat>(&SITE, file("/a"));
    assert!(bench.notes.take()[0].contains(" x why=forbidden"), "the record tells it all");
}

#[test]
fn ids_are_data_whatever_is_in_them() {
    let name = "/a\"::\n\\x, resource) unless {";
    let bench = bench(
        "permit(principal, action == file_system::Action::\"stat\", resource == file_system::File::\"/a\\\"::\\n\\\\x, resource) unless {\");",
    );
    assert!(bench.gate.permit::<Stat>(&SITE, file(name)).is_ok());
    assert!(bench.gate.permit::<Stat>(&SITE, file("/a")).is_err());
    let scope = Scope { name: "a\" || \"".into(), groups: vec!["g\n".into()] };
    let source = Source { name: "p".into(), text: "permit(principal in Group::\"g\\n\", action, resource) when { principal in Group::\"g\\n\" && principal == User::\"a\\\" || \\\"\" };".into() };
    let policies = Arc::new(Policies::load(&[source], &render(ASKS, &[]), &scope, None).unwrap());
    let principal = Principal { name: scope.name, groups: scope.groups, attributes: Vec::new() };
    let gate =
        Gate::new(policies, principal, session(), Box::new(Notes::default()), Arc::new(Watch::new(Limits::default())), Rules::default())
            .unwrap();
    assert!(gate.permit::<Stat>(&SITE, file("/a")).is_ok());
    assert_eq!(gate.principal(), "User::\"a\\\" || \\\"\"");
}

#[test]
fn ancestors_in_conditions_and_action_groups_work() {
    let bench = bench(
        "permit(principal, action, resource) when { action in file_system::Action::\"view\" && resource in file_system::Dir::\"/a/b\" };
         permit(principal, action in [file_system::Action::\"edit\"], resource) unless { resource in [file_system::Dir::\"/a\", file_system::Dir::\"/z\"] };",
    );
    assert!(bench.gate.permit::<Stat>(&SITE, file("/a/b/c/d")).is_ok());
    assert!(bench.gate.permit::<Stat>(&SITE, dir("/a/b")).is_ok(), "a thing is in itself");
    assert!(bench.gate.permit::<Stat>(&SITE, file("/a/c")).is_err());
    assert!(bench.gate.permit::<Execute>(&SITE, file("/a/b/c")).is_err());
    assert!(bench.gate.permit::<Delete>(&SITE, file("/b")).is_ok());
    assert!(bench.gate.permit::<Delete>(&SITE, file("/a/b/c")).is_err());
    assert!(bench.gate.permit::<Delete>(&SITE, file("/z")).is_ok());
    assert!(bench.gate.permit::<Delete>(&SITE, file("/z/y")).is_err());
}

#[test]
fn addresses_and_attributes_of_the_principal_are_judged() {
    let text = |network: &str| {
        format!(
            "permit(principal, action, resource) when {{ principal has client_address && principal.client_address.isInRange(ip(\"{network}\")) && principal has uid && principal.uid == 7 }};"
        )
    };
    assert!(bench(&text("10.0.0.0/8")).gate.permit::<Stat>(&SITE, file("/a")).is_ok());
    assert_eq!(denial(bench(&text("192.168.0.0/16")).gate.permit::<Stat>(&SITE, file("/a"))).why, Why::ConditionFailed);
}

#[test]
fn time_is_judged_at_each_question_and_a_denial_says_that_later_may_help() {
    use std::sync::atomic::AtomicI64;
    static NOW: AtomicI64 = AtomicI64::new(0);
    let text =
        "permit(principal, action == file_system::Action::\"stat\", resource) when { context.session.now >= datetime(\"2027-01-01\") };
        permit(principal, action == file_system::Action::\"delete\", resource) when { context.session.mode == \"local\" };";
    let Bench { gate, notes } = bench(text);
    let gate = gate.with_clock(|| NOW.load(Ordering::Relaxed));
    NOW.store(1_798_761_599_999, Ordering::Relaxed);
    let denied = denial(gate.permit::<Stat>(&SITE, file("/a")));
    assert_eq!((denied.why, denied.retry), (Why::ConditionFailed, true));
    NOW.store(1_798_761_600_000, Ordering::Relaxed);
    assert!(gate.permit::<Stat>(&SITE, file("/a")).is_ok());
    assert!(gate.permit::<Stat>(&SITE, file("/a")).is_ok());
    assert!(gate.permit::<Delete>(&SITE, file("/a")).is_ok());
    assert!(gate.permit::<Delete>(&SITE, file("/a")).is_ok());
    let remembered: Vec<bool> = notes.take().iter().map(|note| note.ends_with("remembered")).collect();
    assert_eq!(remembered, [false, false, false, false, true], "what depends on time is never remembered");
}

#[test]
fn only_what_cannot_change_is_remembered_and_all_is_recorded() {
    let bench = bench(
        "permit(principal, action == file_system::Action::\"stat\", resource) when { resource.path like \"/a*\" && resource.links == 2 }; permit(principal, action == file_system::Action::\"delete\", resource) when { resource.owner == \"root\" };",
    );
    for _ in 0..2 {
        assert!(bench.gate.permit::<Stat>(&SITE, file("/a")).is_ok());
        assert!(bench.gate.permit::<Stat>(&SITE, file("/b")).is_err());
    }
    assert!(bench.gate.permit::<Delete>(&SITE, file("/a")).is_ok());
    assert!(bench.gate.permit::<Delete>(&SITE, Paper { owner: "ann".into(), ..file("/a") }).is_err(), "the owner changed");
    assert!(bench.gate.permit::<Stat>(&SITE, dir("/a")).is_ok());
    let remembered: Vec<bool> = bench.notes.take().iter().map(|note| note.ends_with("remembered")).collect();
    assert_eq!(remembered, [false, false, true, true, false, false, false]);
}

#[test]
fn memory_is_bounded() {
    let bench = bench(READ_LOGS);
    for number in 0..=REMEMBERED {
        assert!(bench.gate.permit::<Read>(&SITE, file(&format!("/var/log/{number}"))).is_ok());
    }
    assert!(bench.gate.memory.lock().unwrap().len() <= REMEMBERED);
}

#[test]
fn open_is_implied_unless_a_policy_forbids_it_on_the_file_or_its_folder() {
    let read = "permit(principal, action == file_system::Action::\"read\", resource);";
    assert!(bench(read).gate.permit::<Read>(&SITE, file("/a/b")).is_ok());
    for place in ["resource == file_system::File::\"/a/b\"", "resource == file_system::Dir::\"/a\"", "resource in file_system::Dir::\"/\""]
    {
        let bench = bench(&format!("{read} @id(\"shut\") forbid(principal, action == file_system::Action::\"open\", {place});"));
        let denied = denial(bench.gate.permit::<Read>(&SITE, file("/a/b")));
        assert_eq!((denied.why, denied.action.as_str()), (Why::Forbidden, "file_system::Action::\"open\""), "{place}");
        assert!(bench.notes.take()[0].contains(" shut why=forbidden"));
    }
    let other = format!(
        "{read} forbid(principal, action == file_system::Action::\"open\", resource == file_system::Dir::\"/b\"); forbid(principal, action == file_system::Action::\"open\", resource is file_system::Dir) when {{ resource.path == \"/\" }};"
    );
    assert!(bench(&other).gate.permit::<Read>(&SITE, file("/a/b")).is_ok());
    let failing = format!(
        "{read} forbid(principal, action == file_system::Action::\"open\", resource) when {{ resource.links * 9223372036854775807 > 0 }};"
    );
    assert_eq!(denial(bench(&failing).gate.permit::<Read>(&SITE, file("/a/b"))).why, Why::PolicyError);
}

#[test]
fn what_is_not_known_of_a_folder_closes_it_where_a_policy_asks() {
    let text = |condition: &str| {
        format!(
            "permit(principal, action == file_system::Action::\"read\", resource); forbid(principal, action == file_system::Action::\"open\", resource is file_system::Dir) when {{ {condition} }};"
        )
    };
    assert!(bench(&text("resource.path == \"/x\"")).gate.permit::<Read>(&SITE, file("/a/b")).is_ok());
    assert!(bench(&text("resource has size && resource.size == 1")).gate.permit::<Read>(&SITE, file("/a/b")).is_err());
}

#[test]
fn explicit_open_must_be_permitted_on_the_file_and_its_folder() {
    let explicit = || Rules { open: Open::Explicit, ..Rules::default() };
    let read = "@id(\"r\") permit(principal, action == file_system::Action::\"read\", resource);";
    let open = |place: &str| {
        format!(
            "@id(\"{}\") permit(principal, action == file_system::Action::\"open\", resource == file_system::{place});",
            place.replace('"', "")
        )
    };
    let (on_file, on_dir) = (open("File::\"/a/b\""), open("Dir::\"/a\""));
    for (text, fine) in [
        (read.to_owned(), false),
        (format!("{read}{on_file}"), false),
        (format!("{read}{on_dir}"), false),
        (format!("{read}{on_file}{on_dir}"), true),
    ] {
        let bench = bench_with(&text, explicit());
        assert_eq!(bench.gate.permit::<Read>(&SITE, file("/a/b")).is_ok(), fine, "{text}");
        if fine {
            assert!(bench.notes.take()[0].ends_with(" r+File::/a/b+Dir::/a"), "all that decided are on record");
        }
    }
    assert!(
        bench_with("permit(principal, action == file_system::Action::\"stat\", resource);", explicit())
            .gate
            .permit::<Stat>(&SITE, file("/a/b"))
            .is_ok()
    );
}

#[test]
fn closed_places_stay_closed_whatever_a_policy_says() {
    let closed: Closed = Arc::new(|ask, kind, id| {
        (ask.name == "delete" && kind == "file_system::File" && id.starts_with("/home/ann/.ssh/")).then_some("decides the next login")
    });
    let bench = bench_with("permit(principal, action, resource);", Rules { closed, ..Rules::default() });
    assert!(bench.gate.permit::<Delete>(&SITE, file("/home/ann/x")).is_ok());
    assert!(bench.gate.permit::<Stat>(&SITE, file("/home/ann/.ssh/x")).is_ok());
    assert_eq!(denial(bench.gate.permit::<Delete>(&SITE, file("/home/ann/.ssh/x"))).why, Why::Forbidden);
    assert!(bench.notes.take()[2].contains("note=decides the next login"));
}

#[test]
fn missing_and_denied_look_alike_to_whoever_may_not_look() {
    let bench = bench(READ_LOGS);
    let missing = |path: &str| bench.gate.permit::<Read>(&SITE, Paper { missing: true, ..file(path) }).unwrap_err();
    assert_eq!(missing("/var/log/a").kind, Kind::NotFound);
    let here = bench.gate.permit::<Read>(&SITE, file("/etc/shadow")).unwrap_err();
    let gone = missing("/etc/shadow");
    let plain = |error: Error| Denial { reference: String::new(), ..*error.denial.unwrap() };
    assert_eq!(plain(here), plain(gone));
    assert!(bench.notes.take()[0].ends_with("obstacle=not_found"));
}

#[test]
fn a_verb_that_makes_things_may_meet_nothing_and_only_that() {
    let bench = bench("permit(principal, action, resource in file_system::Dir::\"/srv\");");
    assert!(bench.gate.permit::<Create>(&SITE, Paper { missing: true, ..file("/srv/new") }).is_ok());
    assert_eq!(bench.gate.permit::<Delete>(&SITE, Paper { missing: true, ..file("/srv/new") }).unwrap_err().kind, Kind::NotFound);
    assert_eq!(denial(bench.gate.permit::<Create>(&SITE, Paper { missing: true, ..file("/etc/new") })).why, Why::NotPermitted);
}

#[test]
fn missing_and_denied_look_alike_also_where_a_condition_looks_at_the_file() {
    let plain = |error: Error| Denial { reference: String::new(), ..*error.denial.unwrap() };
    let text = "@hint(\"h\") permit(principal, action == file_system::Action::\"stat\", resource) when { resource.owner == \"ann\" };
         @hint(\"f\") forbid(principal, action in file_system::Action::\"view\", resource) when { resource.owner == \"eve\" };";
    let bench = bench(text);
    let here = plain(bench.gate.permit::<Stat>(&SITE, file("/a")).unwrap_err());
    let gone = plain(bench.gate.permit::<Stat>(&SITE, Paper { broken: true, missing: true, ..file("/a") }).unwrap_err());
    assert_eq!((here.why, here.hint.as_deref()), (Why::ConditionFailed, Some("h")));
    assert_eq!(here, gone);
    assert!(bench.notes.take()[1].contains("why=policy_error"), "the record tells the difference");
    let here = plain(bench.gate.permit::<Read>(&SITE, file("/a")).unwrap_err());
    let gone = plain(bench.gate.permit::<Read>(&SITE, Paper { broken: true, missing: true, ..file("/a") }).unwrap_err());
    assert_eq!((here.why, &here), (Why::NotPermitted, &gone));
}

#[test]
fn without_a_record_nothing_is_granted() {
    let gate = Gate::new(
        policies("permit(principal, action, resource);"),
        principal(),
        session(),
        Box::new(Notes(Arc::default(), true)),
        Arc::new(Watch::new(Limits::default())),
        Rules::default(),
    )
    .unwrap();
    assert_eq!(gate.permit::<Stat>(&SITE, file("/a")).unwrap_err().kind, Kind::Audit);
    let site = Site { asks: &[], ..SITE };
    assert_eq!(gate.permit::<Stat>(&site, file("/a")).unwrap_err().kind, Kind::Audit, "a denial that is not recorded either");
}

#[test]
fn a_run_that_has_to_stop_is_granted_nothing() {
    let bench = bench("permit(principal, action, resource);");
    bench.gate.watch().stop(Stop::Deadline);
    assert_eq!(bench.gate.permit::<Stat>(&SITE, file("/a")).unwrap_err().kind, Kind::Deadline);
    assert!(bench.notes.take().is_empty());
}

#[test]
fn a_walk_records_its_root_each_denial_and_the_counts() {
    let bench = bench(&format!(
        "{READ_LOGS}@id(\"st\") permit(principal, action == file_system::Action::\"stat\", resource); @id(\"no\") forbid(principal, action == file_system::Action::\"read\", resource == file_system::Dir::\"/var/log/b\");"
    ));
    let root = dir("/var/log");
    let walk = bench.gate.walk::<Read>(&SITE, &root).unwrap();
    assert!(walk.permit(dir("/var/log/a")).is_ok());
    assert!(walk.permit(dir("/var/log/b")).is_err());
    assert!(walk.permit_as::<Stat>(file("/var/log/c")).is_ok());
    walk.finish().unwrap();
    let read = "file_system::Action::\"read\"";
    let expected = [
        format!("allow {read} /var/log logs"),
        format!("deny {read} /var/log/b no why=forbidden ref=d-7f3a9c-1"),
        format!("walk {read} /var/log [({read:?}, 1, 1), (\"file_system::Action::\\\"stat\\\"\", 1, 0)] logs+st"),
    ];
    assert_eq!(bench.notes.take(), expected);
    assert!(bench.gate.walk::<Read>(&SITE, &dir("/etc")).is_err());
    drop(bench.gate.walk::<Read>(&SITE, &root).unwrap());
    assert!(bench.notes.take().last().unwrap().starts_with("walk "), "also when it ends early");
}

#[test]
fn the_circumstances_of_a_verb_are_judged_and_not_remembered() {
    let bench = bench(
        "permit(principal, action == file_system::Action::\"move\", resource) when { context.destination.parent_path == \"/srv\" };
         permit(principal, action == file_system::Action::\"execute\", resource) when { context.arguments.hasTag(\"$ARG0\") && context.arguments.getTag(\"$ARG0\") == \"-u\" && context.arguments.flags.contains(\"-u\") };",
    );
    let text = |text: &str| Value::String(text.into());
    let to = |parent: &str| {
        vec![("destination", Value::Record(vec![("path", text("/x/y")), ("name", text("y")), ("parent_path", text(parent))]))]
    };
    assert!(bench.gate.permit_with::<Move>(&SITE, file("/a"), to("/srv")).is_ok());
    assert!(bench.gate.permit_with::<Move>(&SITE, file("/a"), to("/etc")).is_err());
    assert!(bench.gate.permit_with::<Move>(&SITE, file("/a"), to("/srv")).is_ok());
    assert_eq!(denial(bench.gate.permit::<Move>(&SITE, file("/a"))).why, Why::PolicyError, "circumstances forgotten");
    let arguments = |flag: &str| {
        let set = |items: &[&str]| Value::Set(items.iter().map(|item| text(item)).collect());
        let attributes = vec![("keys", set(&[])), ("flags", set(&[flag])), ("positional_values", set(&[]))];
        let object = Object {
            noun: "file_system::Arguments",
            id: "1".into(),
            attributes,
            tags: vec![("$ARG0".into(), flag.into()), (flag.into(), "true".into())],
        };
        vec![("arguments", Value::Object(Box::new(object)))]
    };
    assert!(bench.gate.permit_with::<Execute>(&SITE, file("/bin/id"), arguments("-u")).is_ok());
    assert!(bench.gate.permit_with::<Execute>(&SITE, file("/bin/id"), arguments("-g")).is_err());
}

#[test]
fn a_gate_is_made_only_for_the_principal_that_the_policies_were_loaded_for_and_with_values_of_the_right_type() {
    let under = |text: &str, principal: Principal, session: Session| {
        Gate::new(policies(text), principal, session, Box::new(Notes::default()), Arc::new(Watch::new(Limits::default())), Rules::default())
            .map(|_| ())
    };
    let make = |principal: Principal, session: Session| under("permit(principal, action, resource);", principal, session);
    assert!(make(principal(), session()).is_ok());
    assert!(make(Principal { name: "bob".into(), ..principal() }, session()).is_err());
    assert!(make(Principal { groups: Vec::new(), ..principal() }, session()).is_err());
    assert!(
        make(Principal { attributes: vec![("uid", Value::String("7".into()))], ..principal() }, session())
            .unwrap_err()
            .message
            .contains("`uid` is not of its type")
    );
    assert!(make(Principal { attributes: vec![("shoe_size", Value::Long(7))], ..principal() }, session()).is_err());
    // Whatever a policy can look at is a value of the policy language.
    let looks = "permit(principal, action, resource) when { principal has client_address && principal.client_address.isLoopback() };";
    let odd = Principal { attributes: vec![("client_address", Value::Ip("x".into()))], ..principal() };
    assert!(under(looks, principal(), session()).is_ok() && under(looks, odd, session()).is_err());
    assert!(make(principal(), Session { attributes: Vec::new(), ..session() }).unwrap_err().message.contains("is missing"));
}

#[test]
fn would_tells_yes_no_or_what_it_depends_on_and_records_nothing() {
    let bench = bench(
        "permit(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/a\");
         permit(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/b\") when { resource.owner == \"ann\" };
         forbid(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/a/x\") when { resource.path == \"/a/x/1\" };
         forbid(principal, action == file_system::Action::\"stat\", resource in file_system::Dir::\"/a/y\") when { resource.owner == \"root\" };
         permit(principal, action == file_system::Action::\"move\", resource) when { context.destination.path == \"/q\" };
         permit(principal, action == file_system::Action::\"read\", resource);
         forbid(principal, action == file_system::Action::\"open\", resource == file_system::Dir::\"/shut\");",
    );
    let would = |ask: &Ask, open: bool, path: &str| bench.gate.would_ask(ask, open, &FILE, path);
    let stat = const { ask::<Stat>() };
    assert_eq!(would(&stat, false, "/a/1"), Answer::Yes);
    assert_eq!(would(&stat, false, "/c"), Answer::No(Why::NotPermitted));
    assert_eq!(would(&stat, false, "/b/1"), Answer::Depends(vec!["conditions".into()]));
    assert_eq!(would(&stat, false, "/a/x/1"), Answer::No(Why::Forbidden));
    assert_eq!(would(&stat, false, "/a/x/2"), Answer::Yes);
    assert_eq!(would(&stat, false, "/a/y/2"), Answer::Depends(vec!["conditions".into()]));
    assert_eq!(would(&const { ask::<Move>() }, false, "/a"), Answer::Depends(vec!["conditions".into()]));
    let read = const { ask::<Read>() };
    assert_eq!(would(&read, true, "/open/a"), Answer::Yes);
    assert_eq!(would(&read, true, "/shut/a"), Answer::No(Why::Forbidden));
    assert_eq!(bench.gate.would::<Stat>(&file("/a/y/1")), Answer::No(Why::Forbidden));
    assert_eq!(bench.gate.would::<Stat>(&Paper { owner: "ann".into(), ..file("/a/y/1") }), Answer::Yes);
    assert!(bench.notes.take().is_empty());
    assert_eq!(bench.gate.counts(), (0, 0));
}

#[test]
fn the_summary_says_what_reaches_where() {
    let bench = bench(
        "permit(principal, action == file_system::Action::\"stat\", resource);
         permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\") when { context.session.mode == \"local\" };
         permit(principal, action == file_system::Action::\"delete\", resource); forbid(principal, action in file_system::Action::\"edit\", resource);
         permit(principal == User::\"bob\", action == systemd::Action::\"restart\", resource);",
    );
    let summary = bench.gate.summary();
    let line = |action: &str| summary.iter().find(|line| line.action == action).unwrap();
    assert_eq!(line("file_system::Action::\"stat\"").answer(), "yes");
    let read = line("file_system::Action::\"read\"");
    assert_eq!(
        (read.answer(), read.conditional(), read.allows[0].reach.to_string().as_str()),
        ("some", true, "in file_system::Dir::\"/var/log\"")
    );
    assert_eq!(line("file_system::Action::\"delete\"").answer(), "no");
    assert_eq!(line("systemd::Action::\"restart\"").answer(), "no");
    assert!(summary.iter().all(|line| !line.action.contains("SafeIO")));
    assert_eq!(bench.gate.policies().reaches("file_system", "read").len(), 1);
}

mod against_cedar;
mod telling;
