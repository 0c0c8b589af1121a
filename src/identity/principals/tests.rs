//! principals.toml: what it maps, and what it refuses with line and column.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

const SHIPPED: &str = include_str!("../../../config/principals.toml");
const A: &str = "SHA256:JQ6FV0rf7qqJHZqIj4zNH8eV0oB8KLKh9Pph3FTD98g";
const B: &str = "SHA256:uNiVztksCsDhcc0u9e8BrANOGcMgfBwVR5xC5SZ6wKg";

fn parse(text: &str) -> Principals {
    Principals::parse(text, "principals.toml").unwrap()
}

fn wrong(text: &str) -> String {
    let error = Principals::parse(text, "principals.toml").unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(!error.message.contains('\n'), "{}", error.message);
    error.message
}

fn certificate(authority: &str, key_id: &str, principals: &[&str]) -> Certificate {
    Certificate {
        key_id: key_id.into(),
        serial: 1,
        authority: authority.into(),
        principals: principals.iter().map(|&name| name.into()).collect(),
        valid_before: None,
        extensions: BTreeMap::new(),
    }
}

#[test]
fn the_shipped_file_maps_nobody_and_refuses() {
    let principals = parse(SHIPPED);
    assert_eq!(principals.people().count(), 0);
    assert_eq!(principals.of_unix_user("alice").unwrap_err().kind, Kind::Denied);
}

#[test]
fn the_examples_in_the_shipped_file_work_and_leave_no_key_out() {
    let live: Vec<&str> = SHIPPED
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty()).unwrap_or(line))
        .collect();
    let live = live.join("\n");
    let principals = parse(&live);
    let names: Vec<&str> = principals.people().map(|person| person.name.as_str()).collect();
    assert_eq!(names, ["alice", "fixer"]);
    for key in [
        "groups",
        "unix_users",
        "keys",
        "certificates",
        "on_behalf_of",
        "authority",
        "key_id",
        "principals",
        "fingerprint",
        "map_principals",
        "variable",
        "people",
    ] {
        assert!(live.contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn without_a_file_arguments_and_users_are_themselves_in_no_group() {
    let principals = Principals::absent();
    for person in [principals.of_argument("alice").unwrap(), principals.of_unix_user("alice").unwrap()] {
        assert_eq!(person, Person { name: "alice".into(), ..Person::default() });
    }
    assert!(principals.of_key(A).is_none() && !principals.knows_authority(A));
}

#[test]
fn with_a_file_the_unmapped_are_refused_unless_it_says_pass() {
    let text = "[[principal]]\nname = \"alice\"\ngroups = [\"g\"]\nunix_users = [\"al\"]\n";
    let refuse = parse(text);
    assert_eq!(refuse.of_argument("alice").unwrap().groups, ["g"]);
    assert_eq!(refuse.of_unix_user("al").unwrap().name, "alice");
    assert_eq!(refuse.of_argument("bob").unwrap_err().kind, Kind::Denied);
    assert_eq!(refuse.of_unix_user("bob").unwrap_err().kind, Kind::Denied);
    let pass = parse(&format!("default = \"pass\"\n{text}"));
    assert_eq!(pass.of_argument("bob").unwrap().groups, Vec::<String>::new());
    assert_eq!(pass.of_unix_user("bob").unwrap().name, "bob");
}

#[test]
fn a_unix_user_never_becomes_a_described_principal_by_having_its_name() {
    let pass = parse("default = \"pass\"\n[[principal]]\nname = \"alice\"\ngroups = [\"g\"]\nunix_users = [\"al\"]\n");
    assert_eq!(pass.of_unix_user("alice").unwrap_err().kind, Kind::Denied);
    assert_eq!(pass.of_unix_user("al").unwrap().name, "alice");
}

#[test]
fn an_argument_must_be_a_name() {
    for name in ["", "a\nb", " a", &"x".repeat(257)] {
        assert_eq!(Principals::absent().of_argument(name).unwrap_err().kind, Kind::Denied);
    }
}

#[test]
fn certificates_are_mapped_by_authority_key_id_and_whole_principals() {
    let principals = parse(&format!(
        "[[authority]]\nname = \"corp\"\nfingerprint = \"{A}\"\n[[authority]]\nname = \"lab\"\nfingerprint = \"{B}\"\n\
         [[principal]]\nname = \"alice\"\ncertificates = [{{ authority = \"corp\", principals = [\"alice\", \"al\"] }}]\n\
         [[principal]]\nname = \"bob\"\ncertificates = [{{ authority = \"corp\", key_id = \"bob@x\", principals = [\"ops\"] }}]\n\
         [[principal]]\nname = \"carol\"\ncertificates = [{{ authority = \"lab\", key_id = \"c\" }}]\n"
    ));
    let of = |authority: &str, key_id: &str, names: &[&str]| {
        principals.of_certificate(&certificate(authority, key_id, names)).map(|person| person.name)
    };
    assert_eq!(of(A, "", &["al"]).unwrap(), "alice");
    assert_eq!(of(A, "", &["x", "alice", "al"]).unwrap(), "alice");
    assert_eq!(of(A, "bob@x", &["ops"]).unwrap(), "bob");
    assert_eq!(of(B, "c", &["whatever"]).unwrap(), "carol");
    for (authority, key_id, names) in [
        (B, "", ["alice"].as_slice()), // the other authority
        (A, "", &["alice,root"]),      // a comma is no separator
        (A, "", &["root,alice"]),
        (A, "", &["Alice"]),
        (A, "", &["alice "]),
        (A, "bob@x", &["other"]), // both conditions must fit
        (A, "bob@x\n", &["ops"]),
        (A, "bob@", &["ops"]),
        (A, "c", &["whatever"]),
        (A, "bob@x", &["ops", "alice"]), // two different principals
    ] {
        assert_eq!(of(authority, key_id, names).unwrap_err().kind, Kind::Denied, "{authority} {key_id} {names:?}");
    }
}

#[test]
fn an_authority_may_name_principals_only_where_the_owner_says_so() {
    let text = |map: &str| {
        format!(
            "[[authority]]\nname = \"corp\"\nfingerprint = \"{A}\"\n{map}\n[[principal]]\nname = \"alice\"\n[[principal]]\nname = \"bob\"\n"
        )
    };
    let on = parse(&text("map_principals = true"));
    assert_eq!(on.of_certificate(&certificate(A, "", &["alice", "login"])).unwrap().name, "alice");
    assert!(on.of_certificate(&certificate(A, "", &["alice", "bob"])).is_err());
    assert!(on.of_certificate(&certificate(A, "", &["mallory"])).is_err());
    assert!(on.of_certificate(&certificate(B, "", &["alice"])).is_err());
    assert!(parse(&text("")).of_certificate(&certificate(A, "", &["alice"])).is_err());
}

#[test]
fn a_bastion_names_only_whom_it_may() {
    let principals = parse(&format!(
        "[[principal]]\nname = \"alice\"\n[[principal]]\nname = \"root\"\n\
         [[bastion]]\nname = \"jump\"\nfingerprint = \"{A}\"\nvariable = \"LC_BASTION\"\npeople = [\"alice\"]\n"
    ));
    let bastion = principals.bastion(A).unwrap();
    assert_eq!(principals.of_bastion(bastion, "alice").unwrap().name, "alice");
    for name in ["root", "nobody", "", "alice\n"] {
        assert_eq!(principals.of_bastion(bastion, name).unwrap_err().kind, Kind::Denied);
    }
    assert!(principals.bastion(B).is_none());
}

#[test]
fn mistakes_are_named_with_line_and_column() {
    for (text, place, what) in [
        ("default = \"maybe\"\n", "1:11", "`default` is \"refuse\" or \"pass\""),
        ("\n  defualt = \"pass\"\n", "2:3", "unknown field `defualt`"),
        ("[[principal]]\nname = \"a\"\ngroup = [\"g\"]\n", "3:1", "unknown field `group`"),
        ("[[principal]]\ngroups = []\n", "1:1", "missing field `name`"),
        ("[[principal]]\nname = \"a\nb\"\n", "3:", "expected `=`"),
        ("[[principal]]\nname = \"a\\nb\"\n", "2:8", "control character"),
        ("[[principal]]\nname = \"a\"\n[[principal]]\nname = \"a\"\n", "4:8", "there twice"),
        ("[[principal]]\nname = \"a\"\ngroups = [\"g\", \"\"]\n", "3:16", "is empty"),
        ("[[principal]]\nname = \"a\"\ngroups = [\"g\", \"g\"]\n", "3:16", "there twice"),
        ("[[principal]]\nname = \"a\"\nunix_users = [\"u\"]\n[[principal]]\nname = \"b\"\nunix_users = [\"u\"]\n", "6:15", "there twice"),
        ("[[principal]]\nname = \"a\"\nkeys = [\"MD5:00\"]\n", "3:9", "ssh-keygen -lf"),
        ("[[principal]]\nname = \"a\"\nkeys = [\"SHA256:JQ6\"]\n", "3:9", "not a fingerprint"),
        (
            "[[principal]]\nname = \"a\"\ncertificates = [{ authority = \"x\", key_id = \"k\" }]\n",
            "3:31",
            "not the name of an `[[authority]]`",
        ),
    ] {
        let message = wrong(text);
        assert!(message.starts_with(&format!("principals.toml:{place}")) && message.contains(what), "{text}\n{message}");
    }
}

#[test]
fn a_key_an_authority_or_a_bastion_is_registered_once() {
    let key = |name: &str| format!("[[principal]]\nname = \"{name}\"\nkeys = [\"{A}\"]\n");
    let authority = |name: &str, fingerprint: &str| format!("[[authority]]\nname = \"{name}\"\nfingerprint = \"{fingerprint}\"\n");
    let bastion =
        |name: &str, fingerprint: &str| format!("[[bastion]]\nname = \"{name}\"\nfingerprint = \"{fingerprint}\"\nvariable = \"LC_B\"\n");
    assert!(wrong(&(key("a") + key("b").as_str())).contains("a key is one principal"));
    assert!(wrong(&(authority("a", A) + authority("b", A).as_str())).contains("registered twice"));
    assert!(wrong(&(authority("a", A) + authority("a", B).as_str())).contains("two authorities"));
    assert!(wrong(&(bastion("a", A) + bastion("b", A).as_str())).contains("registered twice"));
    assert!(wrong(&(bastion("a", A) + bastion("a", B).as_str())).contains("two bastions"));
    assert!(wrong(&(key("a") + bastion("j", A).as_str())).contains("speaks for others only"));
    parse(&(key("a") + bastion("j", B).as_str() + authority("c", A).as_str()));
}

#[test]
fn conditions_that_would_fit_everything_are_refused() {
    let text = format!(
        "[[authority]]\nname = \"corp\"\nfingerprint = \"{A}\"\n[[principal]]\nname = \"a\"\ncertificates = [{{ authority = \"corp\" }}]\n"
    );
    assert!(wrong(&text).contains("every certificate"));
}

#[test]
fn a_bastion_cannot_take_a_variable_that_means_something_else() {
    for variable in ["SSH_CONNECTION", "LC_REX_AGENT", "", "A B", "1A", "A=B", "A\\n"] {
        let text = format!("[[bastion]]\nname = \"j\"\nfingerprint = \"{A}\"\nvariable = \"{variable}\"\n");
        assert!(wrong(&text).contains(":4:12:"), "{variable}");
    }
    let unknown = format!("[[bastion]]\nname = \"j\"\nfingerprint = \"{A}\"\nvariable = \"LC_B\"\npeople = [\"typo\"]\n");
    assert!(wrong(&unknown).contains("not the name of a `[[principal]]`"));
}
