//! Whatever a client sends: nothing panics, and nothing of it becomes an option of the host's owner.
#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use rexsh::invocation::{Asked, Door, Invocation, Session, Subsystem, from_process, parse_request};

/// The session of an owner's line or login shell that is sound; only the client's text is hostile.
fn session(argv: &[OsString], original: &[OsString]) -> Option<Session> {
    match from_process(argv, original) {
        Ok(Invocation::Session(session)) => Some(session),
        Ok(Invocation::Local(_)) => panic!("a session became the owner's command line"),
        Err(_) => None,
    }
}

fn without_options(session: &Session) -> bool {
    session.config.is_none() && session.principal.is_none() && session.identity_fd.is_none()
}

fuzz_target!(|text: &[u8]| {
    if let Err(error) = parse_request(text) {
        assert_eq!(error.kind.exit() as u8, 2, "a client's mistake is a client's mistake");
        assert!(!error.message.chars().any(char::is_control), "an error is one printable line");
    }
    // Neither argv nor the environment can hold a NUL.
    if text.contains(&0) {
        return;
    }
    let request = OsStr::from_bytes(text).to_owned();
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();

    let owner = words(&["/usr/bin/rex", "session", "--principal", "alice", "--config", "/etc/rex/rex.toml"]);
    let forced = session(&owner, std::slice::from_ref(&request)).expect("the owner's line is sound, whatever the client sends");
    assert_eq!(forced.principal.as_deref(), Some("alice"));
    assert_eq!(forced.config.as_deref(), Some("/etc/rex/rex.toml".as_ref()));
    assert!(forced.identity_fd.is_none() && forced.door == Door::Forced);

    let plain = session(&words(&["rex", "session"]), std::slice::from_ref(&request)).expect("the owner's line is sound");
    assert!(without_options(&plain));

    let subsystem = session(&words(&["rex", "session", "--subsystem"]), std::slice::from_ref(&request)).expect("the owner's line is sound");
    assert!(without_options(&subsystem) && subsystem.subsystem == Subsystem::Rex);
    assert!(!matches!(subsystem.asked, Asked::Request(_)), "a subsystem takes no request");

    for program in ["rexsh", "rex", "-rexsh"] {
        let argv = [OsString::from(program), "-c".into(), request.clone()];
        assert!(session(&argv, std::slice::from_ref(&request)).is_none_or(|session| without_options(&session)));
        let line = words(&[program, "-c", "exec /usr/bin/rex session"]);
        assert!(session(&line, std::slice::from_ref(&request)).is_some_and(|session| without_options(&session)));
    }
});
