//! Loading: what is refused, with which words, and what the cache may and may not do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::policy::schema::{problems, render};
use std::cell::RefCell;

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

fn ann() -> Scope {
    Scope { name: "ann".into(), groups: vec!["ops".into()] }
}

fn load(text: &str) -> Result<Policies> {
    Policies::load(&[source("a.cedar", text)], &render(&[], &[]), &ann(), None)
}

fn refused(text: &str) -> String {
    let error = load(text).expect_err("it should be refused");
    assert_eq!(error.kind, Kind::Config, "{error}");
    error.message
}

#[derive(Default)]
struct Memory {
    kept: RefCell<HashMap<String, Vec<u8>>>,
    puts: RefCell<u32>,
}

impl Store for Memory {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.kept.borrow().get(key).cloned()
    }
    fn put(&self, key: &str, bytes: &[u8]) {
        *self.puts.borrow_mut() += 1;
        self.kept.borrow_mut().insert(key.to_owned(), bytes.to_vec());
    }
}

#[test]
fn the_schema_is_valid_deterministic_and_without_contradictions() {
    let text = render(&[], &[]);
    assert_eq!(text, render(&[], &[]));
    assert_eq!(problems(&[], &[]), Vec::<String>::new());
    let poor = crate::policy::Noun { name: "file_system::File", parents: &[], attributes: &[], doc: "" };
    assert_eq!(problems(&[], &[poor]), ["file_system::File: one of the nouns of this name lacks `path`"]);
    let (schema, warnings) = ValidatorSchema::from_cedarschema_str(&text, Extensions::all_available()).unwrap();
    assert_eq!(warnings.map(|warning| warning.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
    let verbs = verbs_of(&schema).unwrap();
    assert!(
        verbs
            .iter()
            .any(|(space, name, groups)| space == "file_system" && name == "execute" && groups.iter().any(|group| group.id == "SafeIO"))
    );
    assert!(verbs.iter().all(|(_, name, _)| name != "SafeIO" && name != "view"), "groups are no verbs");
}

#[test]
fn policies_written_for_the_reference_load() {
    load(
        r#"
        permit(principal == User::"ann", action in [file_system::Action::"open", file_system::Action::"read"], resource)
        when { resource in file_system::Dir::"/var/log" && resource.path like "/var/log/*" };
        permit(principal, action in file_system::Action::"SafeIO", resource is file_system::File in file_system::Dir::"/srv");
        permit(principal, action == file_system::Action::"execute", resource == file_system::File::"/usr/bin/id")
        when { context.arguments.hasTag("$ARG0") && context.arguments.getTag("$ARG0") == "-u" && context.environment.names.containsAll(["A"])
            && context.user.username == "nobody" && context.group.gid == 65534 && !(context has namespace) };
        permit(principal, action == file_system::Action::"move", resource) when { context.destination.parent_path == "/srv" };
        permit(principal, action == file_system::Action::"set_x_attr", resource) when { context.xattr.name == "user.a" };
        permit(principal, action == sysinfo::Action::"list", resource is sysinfo::Sysinfo);
        permit(principal, action in sysinfo::Action::"SysinfoAction", resource is sysinfo::Hostname) when { resource.hostname == "a.example" };
        permit(principal, action == network::Action::"GET", resource is network::url) when { resource.url like "https://a.example/*" };
        permit(principal, action == process_system::Action::"kill", resource) when { resource.name == "a" && resource.username == "b" && resource.command like "c*" && resource.pid > 1 };
        permit(principal, action == systemd::Action::"restart", resource == systemd::Service::"nginx.service");
        permit(principal, action == systemd::Action::"daemon_reload", resource);
        permit(principal, action == sysctl::Action::"load", resource is sysctl::Sysctl);
        "#,
    )
    .unwrap();
}

#[test]
fn what_we_added_to_the_language_can_be_used() {
    load(
        r#"
        permit(principal in Group::"ops", action in file_system::Action::"view", resource)
        when { context.session.now < datetime("2027-01-01") && context.session.mode == "session" };
        permit(principal, action in systemd::Action::"edit", resource)
        when { principal has certificate && principal.certificate.principals.contains("ops") && principal.certificate.expiry > context.session.now };
        permit(principal, action, resource) when { principal has client_address && principal.client_address.isInRange(ip("10.0.0.0/8")) };
        "#,
    )
    .unwrap();
}

#[test]
fn a_misspelt_attribute_in_a_forbid_stops_everything() {
    let message = refused(
        "permit(principal, action, resource);\nforbid(principal, action == file_system::Action::\"read\", resource)\n  when { resource.pth == \"/etc/shadow\" };\n",
    );
    assert!(message.starts_with("the policies are invalid: 1 fault\na.cedar:3:"), "{message}");
    assert!(message.contains("pth") && message.contains("3 |   when { resource.pth ==") && message.contains('^'), "{message}");
}

#[test]
fn unknown_actions_and_entity_types_are_refused_each_with_its_place() {
    let message = refused(
        "permit(principal, action == file_system::Action::\"raed\", resource);\n\npermit(principal, action, resource is file_system::Fyle);\n",
    );
    assert!(message.starts_with("the policies are invalid: 2 faults\na.cedar:1:"), "{message}");
    assert!(message.contains("\na.cedar:3:") && message.contains("raed") && message.contains("Fyle"), "{message}");
}

#[test]
fn text_that_is_not_cedar_is_refused_with_its_place() {
    let message = refused("permit(principal, action, resource);\npermit(principal, action resource);\n");
    assert!(message.contains("a.cedar:2:26:"), "{message}");
}

#[test]
fn templates_are_refused() {
    let message = refused("permit(principal == ?principal, action, resource);");
    assert!(message.contains("a.cedar:1:") && message.contains("templates"), "{message}");
}

#[test]
fn an_id_given_twice_is_refused() {
    let message = refused("@id(\"a\")\npermit(principal, action, resource);\n@id(\"a\")\nforbid(principal, action, resource);");
    assert!(message.contains("a.cedar:3:1: the id `a` is taken already, at a.cedar:1"), "{message}");
    assert!(refused("@id(\"\") permit(principal, action, resource);").contains("an id is"));
}

#[test]
fn no_policy_at_all_is_refused() {
    assert!(refused("// nothing here\n").contains("no policy at all"));
    assert!(Policies::load(&[], &render(&[], &[]), &ann(), None).unwrap_err().message.contains("no policy at all"));
}

#[test]
fn deep_nesting_and_long_chains_are_clean_errors() {
    for inner in [
        "(".repeat(100_000),
        "!".repeat(100_000),
        "[".repeat(100_000),
        "-".repeat(100_000) + "1",
        "{\"a\":".repeat(100_000),
        "if true then true else ".repeat(100_000),
    ] {
        let message = refused(&format!("permit(principal, action, resource) when {{ {inner}"));
        assert!(message.len() < 2000, "{}", message.len());
    }
    let chain = vec!["true"; 100_000].join(" && ");
    assert!(refused(&format!("permit(principal, action, resource) when {{ {chain} }};")).contains("operators"));
}

#[test]
fn the_deepest_that_is_let_through_loads_and_is_dropped_without_overflow() {
    // As deep as the bounds allow, in every way at once; on a thread with the small stack that tests have.
    let brackets = format!("{}true{}", "(".repeat(bounds::DEPTH - 2), ")".repeat(bounds::DEPTH - 2));
    let chain = vec!["resource.path == \"x\""; bounds::OPERATORS / 4 - 1].join(" || ");
    let sets = format!(
        "{}1{} == {}1{}",
        "[".repeat(bounds::DEPTH - 2),
        "]".repeat(bounds::DEPTH - 2),
        "[".repeat(bounds::DEPTH - 2),
        "]".repeat(bounds::DEPTH - 2)
    );
    let ifs = format!("{}true", "if true then false else ".repeat(bounds::DEPTH - 2));
    for condition in [brackets, chain, sets, ifs] {
        load(&format!("permit(principal, action == file_system::Action::\"read\", resource) when {{ {condition} }};")).unwrap();
    }
}

#[test]
fn the_deepest_that_is_let_through_can_be_evaluated() {
    use crate::limits::{Limits, Watch};
    use crate::policy::{Answer, Gate, Noun, Principal, Recorder, Rules, Session, Value};
    struct Nowhere;
    impl Recorder for Nowhere {
        fn effect(&self, _: &crate::policy::EffectRecord<'_>) -> Result<()> {
            Ok(())
        }
        fn decision(&self, _: &crate::policy::DecisionRecord<'_>) -> Result<()> {
            Ok(())
        }
        fn walk(&self, _: &crate::policy::WalkRecord<'_>) -> Result<()> {
            Ok(())
        }
    }
    const FILE: Noun = Noun { name: "file_system::File", parents: &["file_system::Dir"], attributes: &[], doc: "" };
    let verb = crate::policy::Ask {
        namespace: "file_system",
        name: "unmount",
        applies_to: &[],
        groups: &[],
        doc: "",
        access: crate::policy::Access::Change,
        context: &[],
        nouns: &[],
    };
    let chain = vec!["principal == User::\"x\""; bounds::OPERATORS / 3 - 1].join(" || ");
    for (condition, answer) in [(format!("{chain} || true"), Answer::Yes), (format!("!({chain})"), Answer::Yes)] {
        let policies =
            load(&format!("permit(principal, action == file_system::Action::\"unmount\", resource) when {{ {condition} }};")).unwrap();
        let session =
            Session { run: "r".into(), attributes: vec![("mode", Value::String("local".into())), ("interactive", Value::Bool(false))] };
        let principal = Principal { name: "ann".into(), groups: vec!["ops".into()], attributes: Vec::new() };
        let watch = std::sync::Arc::new(Watch::new(Limits::default()));
        let gate = Gate::new(std::sync::Arc::new(policies), principal, session, Box::new(Nowhere), watch, Rules::default()).unwrap();
        assert_eq!(gate.would_ask(&verb, false, &FILE, "/a"), answer);
    }
}

#[test]
fn too_large_is_refused() {
    let big = source("big", &" ".repeat(bounds::FILE + 1));
    assert!(Policies::load(&[big], "", &ann(), None).unwrap_err().message.contains("larger than 4 MiB"));
    let many: Vec<Source> = (0..5).map(|n| source(&format!("{n}"), &" ".repeat(bounds::FILE))).collect();
    assert!(Policies::load(&many, "", &ann(), None).unwrap_err().message.contains("larger than 16 MiB"));
}

#[test]
fn only_twenty_faults_are_shown() {
    let message = refused(&"permit(principal, action, resource is Nothing);\n".repeat(30));
    assert!(message.starts_with("the policies are invalid: 30 faults"), "{message}");
    assert_eq!(message.matches("a.cedar:").count(), SHOWN + usize::from(message.contains("policy `a.cedar:")) * SHOWN);
    assert!(message.ends_with("… and 10 more"));
}

#[test]
fn in_is_for_the_variables_only() {
    let message = refused("permit(principal, action, resource) when { User::\"x\" in Group::\"y\" };");
    assert!(message.contains("`in` tells where"), "{message}");
}

#[test]
fn only_the_callers_policies_are_kept() {
    let text = "@id(\"ann\") permit(principal == User::\"ann\", action, resource);
        @id(\"bob\") permit(principal == User::\"bob\", action, resource);
        @id(\"ops\") permit(principal in Group::\"ops\", action, resource);
        @id(\"dev\") permit(principal in Group::\"dev\", action, resource);
        @id(\"is-in\") permit(principal is User in Group::\"ops\", action, resource);
        @id(\"in-self\") permit(principal in User::\"ann\", action, resource);
        @id(\"is\") permit(principal is User, action, resource);
        forbid(principal, action, resource);";
    let policies = load(text).unwrap();
    assert_eq!(policies.names().collect::<Vec<_>>(), ["ann", "ops", "is-in", "in-self", "is", "a.cedar:8"]);
    assert_eq!(policies.total, 8);
}

#[test]
fn the_digest_follows_the_texts_and_not_their_names() {
    let schema = render(&[], &[]);
    let digest = |sources: &[Source]| Policies::load(sources, &schema, &ann(), None).unwrap().digest;
    let (permit, forbid) = ("permit(principal, action, resource);", "forbid(principal, action, resource);");
    let one = digest(&[source("a", permit), source("b", forbid)]);
    assert_eq!(one, digest(&[source("z", forbid), source("m", permit)]));
    assert_ne!(one, digest(&[source("a", forbid), source("b", permit)]));
    assert_ne!(one, digest(&[source("a", &format!("{permit}{forbid}"))]));
    assert_eq!((one.len(), Policies::digest_of(&[source("b", forbid), source("a", permit)])), (64, one));
}

#[test]
fn the_cache_gives_the_same_policies_and_is_made_anew_when_anything_changes() {
    let (store, schema) = (Memory::default(), render(&[], &[]));
    let text = "@id(\"one\") @hint(\"h\") permit(principal in Group::\"ops\", action in file_system::Action::\"view\", resource) when { resource.path like \"/é*\" };\n\npermit(principal == User::\"bob\", action, resource);\nforbid(principal, action == file_system::Action::\"unmount\", resource is file_system::File);\n";
    let load = |text: &str, schema: &str| Policies::load(&[source("a", text)], schema, &ann(), Some(&store)).unwrap();
    let first = load(text, &schema);
    let second = load(text, &schema);
    assert_eq!((first.cached, second.cached, *store.puts.borrow()), (false, true, 1));
    assert_eq!(format!("{:?}", first.summary()), format!("{:?}", second.summary()));
    assert_eq!(first.names().collect::<Vec<_>>(), second.names().collect::<Vec<_>>());
    assert_eq!(second.names().collect::<Vec<_>>(), ["one", "a:4"]);
    assert_eq!((first.digest, first.total), (second.digest, second.total));
    assert!(!load(&text.replace("view", "edit"), &schema).cached);
    assert!(!load(&text.replace("view", "edit"), &format!("{schema}// other\n")).cached);
    store.kept.borrow_mut().values_mut().for_each(|bytes| *bytes = b"rubbish".to_vec());
    assert!(!load(text, &schema).cached);
    assert!(load(text, &schema).cached);
}

#[test]
fn a_cached_policy_without_an_id_is_named_after_the_file_as_it_is_called_now() {
    let (store, schema) = (Memory::default(), render(&[], &[]));
    let load = |name: &str| {
        let sources = [source(name, "permit(principal, action, resource);\n\nforbid(principal == User::\"ann\", action, resource);")];
        Policies::load(&sources, &schema, &ann(), Some(&store)).unwrap()
    };
    assert_eq!(load("a").names().collect::<Vec<_>>(), ["a:1", "a:3"]);
    let moved = load("z");
    assert_eq!((moved.cached, moved.names().collect::<Vec<_>>()), (true, vec!["z:1", "z:3"]));
}

#[test]
fn an_invalid_set_never_enters_the_cache() {
    let (store, schema) = (Memory::default(), render(&[], &[]));
    let sources = [
        source("a", "permit(principal, action, resource);"),
        source("b", "forbid(principal, action, resource) when { resource.pth == \"\" };"),
    ];
    assert!(Policies::load(&sources, &schema, &ann(), Some(&store)).is_err());
    assert_eq!(*store.puts.borrow(), 0);
}
