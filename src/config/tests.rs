//! Tests of the settings: what is read, what is refused and how it is said, and that the checked-in rex.toml is the one printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, Path::new("/etc/rex/rex.toml"))
}

fn refused(text: &str) -> String {
    let error = parse(text).expect_err(text);
    assert_eq!(error.kind, Kind::Config);
    error.message
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    let config = Config::default();
    assert_eq!(config.identity, [Evidence::User]);
    assert_eq!(config.on_audit_failure, OnFailure::Deny);
    assert_eq!(config.limits.wall, Duration::from_secs(300));
    assert_eq!(config.limits.memory, 256 << 20);
}

#[test]
fn the_printed_rex_toml_holds_every_setting_and_reads_back_as_the_defaults() {
    let text = rex_toml();
    assert_eq!(parse(&text).unwrap(), Config::default());
    for row in manual() {
        assert!(text.contains(&format!("\n{} = {}\n", row.name, row.default)), "{} is missing", row.name);
        assert!(row.doc.ends_with('.'), "{}", row.name);
    }
    // The example in the comment is legal too.
    parse("[groups.agents.limits]\nwall = \"1m\"\n").unwrap();
}

#[test]
fn the_checked_in_rex_toml_is_the_one_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/rex.toml");
    if std::env::var_os("REX_BLESS").is_some() {
        std::fs::write(&path, rex_toml()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), rex_toml(), "run this test with REX_BLESS=1");
}

#[test]
fn every_row_takes_its_bounds_and_nothing_beyond_them() {
    let mut ranges = 0;
    for row in manual() {
        let Some((low, high)) = row.range else { continue };
        ranges += 1;
        let file = |value: &str| match row.section {
            "" => format!("{} = {value}", row.name),
            section => format!("[{section}]\n{} = {value}", row.name),
        };
        parse(&file(&low)).unwrap();
        parse(&file(&high)).unwrap();
        let message = refused(&file("9000000000000000000"));
        assert!(message.contains("out of range") && message.contains(&high) || message.contains("whole number"), "{message}");
        refused(&file("-1"));
    }
    assert!(ranges > 10);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_one() {
    assert_eq!(
        refused("open = \"implied\"\n  read_timout = 5\n"),
        "/etc/rex/rex.toml:2:3: unknown key `read_timout`; the nearest is `read_timeout`"
    );
    assert_eq!(refused("[limit]\n"), "/etc/rex/rex.toml:1:2: unknown key `limit`; the nearest is `limits`");
    assert!(refused("[limits]\nwal = 1").contains("2:1: unknown key `wal`; the nearest is `wall`"));
    assert!(refused("[audit]\nzzz = 1").contains("the keys here are `syslog`"));
    assert!(refused("[groups.agents]\nwall = 1").contains("2:1: unknown key `wall`"));
    assert!(refused("[groups.agents.limits]\nwrong = 1").contains("2:1: unknown key `wrong`"));
}

#[test]
fn a_value_of_the_wrong_form_is_refused_with_what_would_be_right() {
    assert_eq!(refused("open = \"maybe\""), "/etc/rex/rex.toml:1:8: `open`: expected \"implied\", \"explicit\", not `\"maybe\"`");
    assert_eq!(refused("read_timeout = 0"), "/etc/rex/rex.toml:1:16: `read_timeout`: `0` is out of range, 1 to \"1d\"");
    for text in [
        "identity = []",
        "identity = [\"user\", \"user\"]",
        "identity = [\"root\"]",
        "identity = \"user\"",
        "require_layers = 1",
        "read_timeout = \"5 m\"",
        "read_timeout = \"m\"",
        "read_timeout = \"99999999999999999999d\"",
        "allow_writes_to = [\"relative\"]",
        "allow_writes_to = [\"/home/../etc\"]",
        "limits = 3",
        "groups = 3",
        "[groups]\nagents = 3",
        "[limits]\nmemory = \"256M\"",
        "[limits]\ndepth = 4294967297",
        "[audit]\nsyslog = \"yes\"",
        "[audit]\nfile = \"/var\\u001b/x\"",
        "[serve]\nlisten = []",
        "[serve]\nlisten = [\"localhost:22\"]",
        "open = \"implied\"\nopen = \"implied\"",
        "open = ",
    ] {
        let message = refused(text);
        assert!(message.starts_with("/etc/rex/rex.toml:") && !message.contains('\n') && !message.contains('\u{1b}'), "{message}");
    }
}

#[test]
fn times_and_sizes_are_numbers_or_have_units() {
    let config = parse("read_timeout = \"2m\"\n[limits]\nwall = 90\ncpu = \"1h\"\nmemory = \"1GiB\"\noutput = 4096\n").unwrap();
    assert_eq!(config.read_timeout, Duration::from_secs(120));
    assert_eq!(config.limits.wall, Duration::from_secs(90));
    assert_eq!(config.limits.cpu, Duration::from_secs(3600));
    assert_eq!((config.limits.memory, config.limits.output), (1 << 30, 4096));
}

#[test]
fn the_lowest_of_several_groups_holds_and_one_group_can_raise() {
    let text =
        "[limits]\nwall = 100\n[groups.agents.limits]\nwall = 10\nchildren = 0\n[groups.oncall.limits]\nwall = 1000\nmemory = \"1GiB\"\n";
    let config = parse(text).unwrap();
    let wall = |groups: &[&str]| config.limits_for(groups).wall.as_secs();
    assert_eq!(wall(&[]), 100);
    assert_eq!(wall(&["nobody"]), 100);
    assert_eq!(wall(&["oncall"]), 1000);
    assert_eq!(wall(&["oncall", "agents"]), 10);
    assert_eq!(wall(&["agents", "oncall"]), 10);
    let both = config.limits_for(&["agents", "oncall"]);
    assert_eq!((both.children, both.memory), (0, 1 << 30));
    assert_eq!(config.limits_for(&["oncall"]).children, 16);
}

#[test]
fn every_limit_can_be_a_groups_own_and_the_lowest_of_several_holds() {
    for row in manual().into_iter().filter(|row| row.section == "limits") {
        let (low, high) = row.range.clone().unwrap();
        let name = row.name;
        let alone = |value: &str| parse(&format!("[limits]\n{name} = {value}\n")).unwrap().limits;
        let config = parse(&format!("[groups.a.limits]\n{name} = {low}\n[groups.b.limits]\n{name} = {high}\n")).unwrap();
        assert_ne!(alone(&low), alone(&high), "{name}");
        assert_eq!(config.limits_for(&["a"]), alone(&low), "{name}");
        assert_eq!(config.limits_for(&["b"]), alone(&high), "{name}");
        assert_eq!(config.limits_for(&["a", "b"]), alone(&low), "{name}");
        assert_eq!(config.limits_for(&["b", "a"]), alone(&low), "{name}");
        assert_eq!(config.limits_for(&["c"]), Limits::default(), "{name}");
    }
}

#[test]
fn the_folder_of_the_file_is_where_relative_paths_are() {
    let config = Config::parse("", Path::new("/srv/rex/rex.toml")).unwrap();
    assert_eq!(config.beside("host_key"), Path::new("/srv/rex/host_key"));
    assert_eq!(config.beside("/etc/keys"), Path::new("/etc/keys"));
    assert_eq!(Config::default().beside("policies"), Path::new("/etc/rex/policies"));
}
