//! What comes with a session besides proof of who is asking: the client's address, and what the client says about itself.

use std::net::{IpAddr, Ipv6Addr};

use super::name;
use crate::error::{Error, Kind, Result};
use crate::os::process::Environment;

/// The client says which agent it is; recorded, and of use to a policy only to narrow what is allowed.
pub const AGENT: &str = "LC_REX_AGENT";
/// The client says which task it is on; as [`AGENT`].
pub const TASK: &str = "LC_REX_TASK";
const CONNECTION: &str = "SSH_CONNECTION";

/// The value of a variable that must not be there twice: sshd never sets one twice, so somebody else added one.
///
/// # Errors
/// [`Kind::Denied`] when it is there more than once.
pub fn single<'a>(environment: &'a Environment, variable: &str) -> Result<Option<&'a [u8]>> {
    match environment.all(variable).as_slice() {
        [] => Ok(None),
        [value] => Ok(Some(*value)),
        _ => Err(Error::new(Kind::Denied, format!("{variable} is there more than once"))),
    }
}

/// The address of the other end of the connection, the last hop. `None` where there is none (`UNKNOWN`, a local run) or the value is
/// not what sshd writes; never a proof of anything by its absence.
///
/// # Errors
/// As [`single`].
pub fn client_address(environment: &Environment) -> Result<Option<IpAddr>> {
    Ok(single(environment, CONNECTION)?.and_then(address_of))
}

/// `client-address client-port server-address server-port` (ssh(1), ENVIRONMENT).
fn address_of(value: &[u8]) -> Option<IpAddr> {
    let fields: Vec<&str> = std::str::from_utf8(value).ok()?.split(' ').collect();
    let [client, client_port, server, server_port] = fields.as_slice() else { return None };
    client_port.parse::<u16>().ok()?;
    server_port.parse::<u16>().ok()?;
    address(server)?;
    address(client)
}

/// An address; the zone of a link-local one is dropped, an IPv4 address in IPv6 form is the IPv4 address.
fn address(text: &str) -> Option<IpAddr> {
    match text.split_once('%') {
        None => text.parse::<IpAddr>().ok().map(|address| address.to_canonical()),
        Some((_, "")) => None,
        Some((address, _zone)) => address.parse::<Ipv6Addr>().ok().map(|address| IpAddr::V6(address).to_canonical()),
    }
}

/// What the client says about itself in `variable`, if it is 1–256 bytes of UTF-8 without control characters; else it is left out and
/// `notes` says so.
///
/// # Errors
/// As [`single`].
pub fn word(environment: &Environment, variable: &str, notes: &mut Vec<String>) -> Result<Option<String>> {
    let Some(value) = single(environment, variable)? else { return Ok(None) };
    let text = std::str::from_utf8(value).map_err(|_| "is not UTF-8").and_then(|text| name::fault(text).map_or(Ok(text), Err));
    match text {
        Ok(text) => Ok(Some(text.into())),
        Err(fault) => {
            notes.push(format!("{variable} was ignored: it {fault}"));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn environment(entries: &[(&str, &[u8])]) -> Environment {
        Environment::of(entries.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect())
    }

    fn connection(value: &[u8]) -> Option<IpAddr> {
        client_address(&environment(&[(CONNECTION, value)])).unwrap()
    }

    #[test]
    fn the_address_of_the_client_is_read() {
        assert_eq!(connection(b"192.0.2.7 50000 192.0.2.1 22"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(connection(b"2001:db8::7 50000 2001:db8::1 22"), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(connection(b"fe80::1%eth0 50000 fe80::2%eth0 22"), Some("fe80::1".parse().unwrap()));
        assert_eq!(connection(b"::ffff:192.0.2.7 5 192.0.2.1 22"), Some("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn an_unknown_or_odd_connection_is_no_address() {
        let odd: [&[u8]; 12] = [
            b"",
            b"UNKNOWN 65535 UNKNOWN 65535",
            b"192.0.2.7 50000 192.0.2.1",
            b"192.0.2.7 50000 192.0.2.1 22 x",
            b"192.0.2.7 70000 192.0.2.1 22",
            b"192.0.2.7  50000 192.0.2.1 22",
            b"192.0.2.7 x 192.0.2.1 22",
            b"127.0.0.1%lo 50000 192.0.2.1 22",
            b"fe80::1% 50000 fe80::2 22",
            b"\xff 50000 192.0.2.1 22",
            b"localhost 50000 192.0.2.1 22",
            b"192.0.2.7 50000 192.0.2.1 22\n",
        ];
        for value in odd {
            assert_eq!(connection(value), None, "{value:?}");
        }
        assert_eq!(client_address(&environment(&[])).unwrap(), None);
    }

    #[test]
    fn a_variable_there_twice_is_a_denial() {
        for variable in [CONNECTION, AGENT, TASK] {
            let twice = environment(&[(variable, b"a"), ("X", b""), (variable, b"a")]);
            assert_eq!(single(&twice, variable).unwrap_err().kind, Kind::Denied);
        }
    }

    #[test]
    fn what_the_client_says_about_itself_is_taken_or_noted() {
        let mut notes = Vec::new();
        assert_eq!(word(&environment(&[(AGENT, b"fixer/2.1")]), AGENT, &mut notes).unwrap().as_deref(), Some("fixer/2.1"));
        assert!(notes.is_empty());
        for value in [b"".as_slice(), b"a\nb", b"\xff", &[b'x'; 257], "\u{202e}x".as_bytes()] {
            assert_eq!(word(&environment(&[(AGENT, value)]), AGENT, &mut notes).unwrap(), None);
            assert!(notes.pop().unwrap().starts_with("LC_REX_AGENT was ignored: it "));
        }
    }
}
