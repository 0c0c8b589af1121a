//! The ways in: what each argument vector and each SSH_ORIGINAL_COMMAND mean, and what no client can reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::error::Exit;
use proptest::prelude::*;

fn os(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn session(argv: &[&str], original: &[&str]) -> Session {
    match from_process(&os(argv), &os(original)) {
        Ok(Invocation::Session(session)) => session,
        other => panic!("{argv:?} {original:?}: {other:?}"),
    }
}

fn failure(argv: &[&str]) -> Error {
    from_process(&os(argv), &[]).map(|accepted| panic!("{argv:?}: accepted as {accepted:?}")).unwrap_err()
}

const FORCED: &[&str] = &["/usr/bin/rex", "session"];

/// Nothing but the owner's argv gives a session any of these.
fn has_no_option(session: &Session) -> bool {
    session.config.is_none() && session.principal.is_none() && session.identity_fd.is_none()
}

fn is_stdin(session: &Session) -> bool {
    matches!(session.asked, Asked::Stdin)
}

#[test]
fn the_owners_own_command_line_is_passed_on_whole() {
    for rest in [&[][..], &["run", "x.rhai", "--principal", "a"], &["--version"], &["sessions"], &["policy", "session"], &["--", "session"]]
    {
        let argv = [&["rex"], rest].concat();
        match from_process(&os(&argv), &os(&["rex whoami"])) {
            Ok(Invocation::Local(words)) => assert_eq!(words, os(rest)),
            other => panic!("{argv:?}: {other:?}"),
        }
    }
}

#[test]
fn the_owners_line_gives_a_session_its_options() {
    let argv = ["/usr/bin/rex", "session", "--config", "/etc/rex/rex.toml", "--principal=alice", "--subsystem", "--identity-fd", "3"];
    let session = session(&argv, &[]);
    assert_eq!(session.config.as_deref(), Some(std::path::Path::new("/etc/rex/rex.toml")));
    assert_eq!(session.principal.as_deref(), Some("alice"));
    assert_eq!((session.subsystem, session.identity_fd, session.door), (Subsystem::Rex, Some(3), Door::Forced));
    assert!(is_stdin(&session));
    assert_eq!(session.default_format(), Format::Json);
}

#[test]
fn a_subsystem_is_rex_or_mcp() {
    for (options, subsystem) in [
        (&[][..], Subsystem::None),
        (&["--subsystem"], Subsystem::Rex),
        (&["--subsystem", "rex"], Subsystem::Rex),
        (&["--subsystem=rex"], Subsystem::Rex),
        (&["--subsystem", "mcp"], Subsystem::Mcp),
        (&["--subsystem=mcp"], Subsystem::Mcp),
        (&["--subsystem", "--principal", "a"], Subsystem::Rex),
    ] {
        assert_eq!(session(&[FORCED, options].concat(), &[]).subsystem, subsystem, "{options:?}");
    }
    assert_eq!(session(&["rex", "session", "--subsystem=mcp"], &[]).verb().unwrap(), Verb::Mcp);
    assert_eq!(session(&["rex", "session", "--subsystem"], &[]).verb().unwrap(), Verb::Run(Run::default()));
}

#[test]
fn a_wrong_line_of_the_owner_is_a_configuration_error() {
    for options in [
        &["x"][..],
        &["--"],
        &["-c", "x"],
        &["--princ", "x"],
        &["--principal"],
        &["--principal="],
        &["--principal", ""],
        &["--principal", "--subsystem"],
        &["--principal", "a\nb"],
        &["--principal", "a\u{9b}b"],
        &["--principal", "a", "--principal", "a"],
        &["--principal", "a", "--principal=b"],
        &["--config"],
        &["--config", "rex.toml"],
        &["--config="],
        &["--config", "/a", "--config", "/a"],
        &["--subsystem", "sftp"],
        &["--subsystem="],
        &["--subsystem", "--subsystem"],
        &["--subsystem", "rex", "mcp"],
        &["--identity-fd", "2"],
        &["--identity-fd", "-1"],
        &["--identity-fd", "+3"],
        &["--identity-fd=3x"],
        &["--identity-fd", "99999999999"],
        &["--policy", "/x"],
        &["--help"],
        &["--version"],
        &["run"],
    ] {
        let error = failure(&[FORCED, options].concat());
        assert_eq!((error.kind, error.kind.exit()), (Kind::Config, Exit::ConfigInvalid), "{options:?}: {error}");
    }
    let long = "a".repeat(257);
    assert_eq!(failure(&[FORCED, &["--principal", &long]].concat()).kind, Kind::Config);
    let bad = [OsString::from("rex"), "session".into(), "--principal".into(), OsStr::from_bytes(b"a\xff").into()];
    assert_eq!(from_process(&bad, &[]).unwrap_err().kind, Kind::Config);
    assert_eq!(failure(&["rex", "session", "--princpal=x"]).hint.as_deref(), Some("did you mean `--principal`?"));
}

#[test]
fn a_forced_session_takes_its_request_from_the_original_command() {
    let alice = &["rex", "session", "--principal", "alice"][..];
    let asks = session(alice, &["rex whoami"]);
    assert_eq!((asks.verb().unwrap(), asks.principal.as_deref()), (Verb::Whoami { format: None }, Some("alice")));
    assert_eq!((asks.subsystem, asks.default_format()), (Subsystem::None, Format::Human));
    // SSH.md §5, 1 and 11: no request, an empty one, and a blank one are the same.
    for original in [&[][..], &[""], &[" \t"]] {
        let asks = session(alice, original);
        assert!(is_stdin(&asks), "{original:?}");
        assert_eq!(asks.verb().unwrap(), Verb::Run(Run::default()));
    }
}

#[test]
fn a_request_cannot_name_the_principal_or_the_configuration() {
    // SSH.md §5, 7; CVE-2017-15914.
    for request in [
        "rex --principal root",
        "rex --principal=root",
        "rex --config /tmp/x",
        "rex run --config=/tmp/x",
        "rex --policy /tmp/x",
        "rex session --principal root",
        "exec rex session --principal=root",
        "/usr/bin/rex session --config /tmp/x",
        "rex session --subsystem --principal root",
        "rex --identity-fd 3",
        "rex session --identity-fd=3",
        "rex session --subsystem=mcp --config=/tmp/x",
    ] {
        let asks = session(&["rex", "session", "--principal", "alice", "--config", "/etc/rex/rex.toml"], &[request]);
        assert_eq!(asks.verb().unwrap_err().kind, Kind::Usage, "{request}");
        assert_eq!(asks.principal.as_deref(), Some("alice"), "{request}");
        assert_eq!(asks.config.as_deref(), Some(std::path::Path::new("/etc/rex/rex.toml")), "{request}");
        assert_eq!(asks.identity_fd, None, "{request}");
        if let Ok(Invocation::Session(asks)) = from_process(&os(&["rexsh", "-c", request]), &[]) {
            assert!(has_no_option(&asks) && asks.verb().is_err(), "{request}");
        }
    }
}

#[test]
fn a_diverted_subsystem_request_is_that_subsystem_and_takes_nothing_else() {
    for (line, subsystem) in [
        ("/usr/bin/rex session --subsystem", Subsystem::Rex),
        ("exec /usr/bin/rex session --subsystem", Subsystem::Rex),
        ("exec /usr/bin/rexsh session", Subsystem::Rex),
        ("rex session", Subsystem::Rex),
        ("rexsh session --subsystem rex", Subsystem::Rex),
        ("/usr/bin/rex session --subsystem mcp", Subsystem::Mcp),
        ("/usr/bin/rex session --subsystem=mcp", Subsystem::Mcp),
    ] {
        let asks = session(&["rex", "session", "--principal", "alice"], &[line]);
        assert!(is_stdin(&asks), "{line}");
        assert_eq!((asks.subsystem, asks.principal.as_deref(), asks.default_format()), (subsystem, Some("alice"), Format::Json), "{line}");
    }
    for line in [
        "rex session x",
        "rex session --subsystem sftp",
        "rex session --subsystem rex rex",
        "rex session -- --subsystem",
        "rex session --sub",
    ] {
        assert_eq!(session(FORCED, &[line]).verb().unwrap_err().kind, Kind::Usage, "{line}");
    }
}

#[test]
fn the_word_of_the_owner_about_the_subsystem_stands() {
    // SSH.md §5, 14: the mode comes from argv.
    let subsystem = &["rex", "session", "--subsystem"][..];
    assert_eq!(session(subsystem, &["rex session --subsystem mcp"]).subsystem, Subsystem::Rex);
    assert!(is_stdin(&session(subsystem, &[""])));
    // sshd never sets the variable for a subsystem that is not diverted, so such a value is nobody's request; and it is not run as a script.
    for forged in ["rex whoami", "scp -t x", "\n"] {
        assert_eq!(session(subsystem, &[forged]).verb().unwrap_err().kind, Kind::Usage, "{forged:?}");
    }
}

#[test]
fn two_original_commands_are_refused_whatever_they_say() {
    // SSH.md §5, 43.
    for original in [&["rex whoami", "rex whoami"][..], &["", ""], &["rex", "rex", "rex"]] {
        assert_eq!(session(FORCED, original).verb().unwrap_err().message, "SSH_ORIGINAL_COMMAND is set more than once");
        assert!(session(&["rexsh", "-c", "rex session"], original).verb().is_err());
    }
}

#[test]
fn foreign_requests_are_refused_in_one_line_that_says_what_is_accepted() {
    // SSH.md §5, 10, and the shells and file transfers of §4.
    for (request, first) in [
        ("/usr/lib/openssh/sftp-server -l INFO", "/usr/lib/openssh/sftp-server"),
        ("internal-sftp", "internal-sftp"),
        ("scp -t x", "scp"),
        ("rsync --server --sender -logDtpre.iLsfxC . /etc", "rsync"),
        ("/bin/sh ~/.ssh/rc", "/bin/sh"),
        ("git-upload-pack 'x'", "git-upload-pack"),
        ("bash", "bash"),
        ("() { :;}; touch X", "()"),
        ("rex; id", "rex;"),
        ("rex&&id", "rex&&id"),
        ("`id` rex", "`id`"),
        ("$(id)", "$(id)"),
        ("exec /usr/bin/rex whoami", "exec"),
        ("exec", "exec"),
        ("exec rex", "exec"),
        ("env rex", "env"),
        ("rexsh whoami", "rexsh"),
        ("xrex", "xrex"),
        ("rex/", "rex/"),
        ("REX", "REX"),
        ("/usr/bin/xrex session", "/usr/bin/xrex"),
        ("'rex run'", "rex run"),
        ("'' rex", ""),
        ("--sha256 00", "--sha256"),
        ("-e 1", "-e"),
        ("a=1", "a=1"),
        ("--help", "--help"),
        ("-V", "-V"),
        ("-c id", "-c"),
        ("--", "--"),
        ("--princ=x", "--princ=x"),
        ("--split-string=rex", "--split-string=rex"),
        ("LD_PRELOAD=/tmp/x rex", "LD_PRELOAD=/tmp/x"),
    ] {
        for (argv, original) in [(FORCED, &[request][..]), (&["rexsh", "-c", request][..], &[])] {
            let asks = session(argv, original);
            assert!(matches!(&asks.asked, Asked::Foreign { first_word } if first_word == first), "{request}: {:?}", asks.asked);
            let error = asks.verb().unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
            assert_eq!(error.message, format!("this account accepts only rex requests, and `{first}` is none"));
        }
    }
}

#[test]
fn a_malformed_request_keeps_its_session_for_the_record() {
    // SSH.md §5, 2 to 5.
    for request in
        [&b"rex -e '1\n2'"[..], b"rex\r", b"rex \x1b[2J", b"rex \0", b"rex \x7f", b"rex \xc2\x9b", b"rex \xff", b"rex 'x", &[b'a'; 100_000]]
    {
        let original = [OsStr::from_bytes(request).to_owned()];
        let Ok(Invocation::Session(asks)) = from_process(&os(&["rex", "session", "--principal", "alice"]), &original) else {
            panic!("{request:?}")
        };
        assert!(matches!(&asks.asked, Asked::Malformed(error) if error.kind == Kind::Usage), "{request:?}");
        assert_eq!(asks.principal.as_deref(), Some("alice"));
        let argv = [OsString::from("rexsh"), "-c".into(), original[0].clone()];
        let Ok(Invocation::Session(asks)) = from_process(&argv, &[]) else { panic!("{request:?}") };
        assert!(matches!(asks.asked, Asked::Malformed(_)), "{request:?}");
    }
}

#[test]
fn a_login_shell_takes_its_request_behind_c_and_reads_no_variable() {
    for program in ["rexsh", "/usr/bin/rexsh", "rex", "/usr/bin/rex", "-rexsh", "-rex"] {
        // SSH.md §5, 29: a forged variable on a plain request is not read.
        let asks = session(&[program, "-c", "rex whoami"], &["rex -e 'forged'"]);
        assert_eq!((asks.verb().unwrap(), asks.door), (Verb::Whoami { format: None }, Door::LoginShellCommand), "{program}");
        assert!(has_no_option(&asks));
        for empty in ["", "  "] {
            assert!(is_stdin(&session(&[program, "-c", empty], &["rex -e 'forged'"])), "{program}");
        }
    }
}

#[test]
fn a_session_line_through_the_login_shell_points_to_the_original_command() {
    for line in ["exec /usr/bin/rex session", "/usr/bin/rex session", "rex session", "exec rexsh session", "exec /usr/bin/rexsh session"] {
        let asks = session(&["rexsh", "-c", line], &["rex whoami"]);
        assert_eq!(
            (asks.verb().unwrap(), asks.door, asks.subsystem),
            (Verb::Whoami { format: None }, Door::LoginShellCommand, Subsystem::None)
        );
        assert!(has_no_option(&asks));
        for original in [&[][..], &[""]] {
            assert!(is_stdin(&session(&["rexsh", "-c", line], original)), "{line}");
        }
        let diverted = session(&["rexsh", "-c", line], &["/usr/bin/rex session --subsystem mcp"]);
        assert_eq!((diverted.verb().unwrap(), diverted.subsystem), (Verb::Mcp, Subsystem::Mcp));
    }
    let asks = session(&["rexsh", "-c", "/usr/bin/rex session --subsystem"], &[]);
    assert_eq!((asks.subsystem, asks.default_format()), (Subsystem::Rex, Format::Json));
    assert_eq!(session(&["rexsh", "-c", "/usr/bin/rex session --subsystem mcp"], &[]).subsystem, Subsystem::Mcp);
}

#[test]
fn options_of_a_session_line_through_the_login_shell_stop_everything() {
    for options in [
        "--principal alice",
        "--principal=root",
        "--config /etc/rex/rex.toml",
        "--identity-fd 3",
        "--subsystem --principal x",
        "x",
        "--",
        "--subsystem sftp",
    ] {
        let error = failure(&["rexsh", "-c", &format!("exec /usr/bin/rex session {options}")]);
        assert_eq!((error.kind, error.kind.exit()), (Kind::Config, Exit::ConfigInvalid), "{options}");
        assert!(error.hint.unwrap().contains("/bin/sh"), "{options}");
    }
}

#[test]
fn a_login_without_a_command_has_its_script_on_stdin_and_reads_no_variable() {
    for program in ["-rexsh", "-rex", "-", "rexsh", "/usr/bin/rexsh", "-/usr/bin/rexsh"] {
        let asks = session(&[program], &["rex -e 'forged'"]);
        assert_eq!(asks.door, Door::LoginShellLogin, "{program}");
        assert!(is_stdin(&asks) && has_no_option(&asks) && asks.subsystem == Subsystem::None, "{program}");
    }
}

#[test]
fn argument_vectors_that_no_way_in_produces_are_refused() {
    // SSH.md §5, 13.
    for argv in [
        &[][..],
        &[""],
        &["", "session"],
        &["", "-c", "rex"],
        &["rexsh", "session"],
        &["rexsh", "session", "--principal", "root"],
        &["/usr/bin/rexsh", "--principal", "root"],
        &["-rexsh", "session"],
        &["-rex", "run"],
        &["rexsh", "--version"],
        &["rexsh", "-c"],
        &["rex", "-c"],
        &["rexsh", "-c", "rex", "x"],
        &["rex", "-c", "rex", "--principal", "root"],
        &["rexsh", "-l", "-c", "rex"],
        &["rexsh", ""],
    ] {
        assert_eq!(failure(argv).kind, Kind::Usage, "{argv:?}");
    }
}

proptest! {
    #[test]
    fn no_argument_vector_panics(
        argv in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6),
        original in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3),
    ) {
        let words = |list: Vec<Vec<u8>>| list.iter().map(|word| OsStr::from_bytes(word).to_owned()).collect::<Vec<_>>();
        _ = from_process(&words(argv), &words(original));
    }

    #[test]
    fn the_owners_options_do_not_depend_on_the_request(
        options in prop::collection::vec(prop::sample::select(&["--config", "/x", "--principal", "alice", "--subsystem", "--identity-fd=4"][..]), 0..5),
        request in prop::collection::vec(prop::sample::select(
            &["rex", "exec", "session", "--principal", "root", "--principal=root", "--config", "--config=/y", "--subsystem", "mcp", "--identity-fd=5", "'", "-e", "x"][..],
        ), 0..8),
    ) {
        let argv = os(&[FORCED, &options[..]].concat());
        let request = request.join(" ");
        match (from_process(&argv, &[]), from_process(&argv, &os(&[&request]))) {
            (Ok(Invocation::Session(without)), Ok(Invocation::Session(with))) => {
                prop_assert_eq!((without.config, without.principal, without.identity_fd), (with.config, with.principal, with.identity_fd));
                prop_assert!(without.subsystem == Subsystem::None || without.subsystem == with.subsystem);
            }
            (Err(_), Err(_)) => {}
            other => prop_assert!(false, "{:?}", other),
        }
        if let Ok(Invocation::Session(asks)) = from_process(&os(&["rexsh", "-c", &request]), &os(&[&request])) {
            prop_assert!(has_no_option(&asks));
        }
    }
}
