//! Sockets of this network namespace, as `/proc/net/{tcp,tcp6,udp,udp6,unix}` list them, see proc_net(5).

use super::{int, missing, odd};
use crate::error::{Error, Kind, Result};
use crate::policy::{Action, Granted};
use crate::resource::file::File;
use rustix::io::Errno;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The tables, by the names of their files.
pub const TABLES: &[&str] = &["tcp", "tcp6", "udp", "udp6", "unix"];
/// Bytes of one row at most: a path of a socket is shorter (unix(7)).
const MAX_ROW: u64 = 4096;

/// A socket of the internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internet {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// e.g. `LISTEN`.
    pub state: &'static str,
    /// Bytes.
    pub recv_queue: i64,
    pub send_queue: i64,
    pub uid: i64,
    /// 0 where no process has it any more.
    pub inode: i64,
}

/// A socket of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unix {
    /// `STREAM`, `DGRAM` or `SEQPACKET`.
    pub kind: &'static str,
    pub state: &'static str,
    pub listening: bool,
    pub ref_count: i64,
    pub inode: i64,
    /// Of an abstract one with `@` for each zero byte; as the account that made it named it.
    pub path: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socket {
    Internet(Internet),
    Unix(Unix),
}

/// Every socket of the table that the grant names, row by row, until `visit` gives false. A table that this kernel does not have, IPv6 say, has none.
///
/// # Errors
/// [`Kind::BadData`] for a row of another form, [`Kind::Unsupported`] for a file that is no table; errors of reading and of `visit`.
pub fn each<A: Action<On = File>>(granted: &Granted<A>, visit: &mut dyn FnMut(Socket) -> Result<bool>) -> Result<()> {
    let place = granted.resource().asked().as_bytes();
    let name = TABLES.iter().find(|name| place.strip_prefix(b"/proc/net/") == Some(name.as_bytes()));
    let Some(name) = name else { return Err(Error::new(Kind::Unsupported, "this is no table of sockets")) };
    // The same file: `/proc/net` is a link to it.
    let path = format!("/proc/self/net/{name}");
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && name.ends_with('6') => return Ok(()),
        Err(error) => return Err(failed(&path, &error)),
    };
    let mut rows = BufReader::with_capacity(64 << 10, file);
    let (mut row, mut first) = (Vec::new(), true);
    loop {
        row.clear();
        let length = rows.by_ref().take(MAX_ROW).read_until(b'\n', &mut row).map_err(|error| failed(&path, &error))?;
        if length == 0 {
            return Ok(());
        }
        // The headings.
        if std::mem::take(&mut first) {
            continue;
        }
        let row = row.strip_suffix(b"\n").unwrap_or(&row);
        let socket = if *name == "unix" { unix(row).map(Socket::Unix) } else { internet(row).map(Socket::Internet) };
        if !visit(socket.ok_or_else(|| odd(&path))?)? {
            return Ok(());
        }
    }
}

fn failed(path: &str, error: &std::io::Error) -> Error {
    missing(path, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`
fn internet(row: &[u8]) -> Option<Internet> {
    let mut words = std::str::from_utf8(row).ok()?.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    let state = tcp_state(u8::from_str_radix(words.next()?, 16).ok()?);
    let (send, recv) = words.next()?.split_once(':')?;
    let queue = |text: &str| u64::from_str_radix(text, 16).ok().map(int);
    let (send_queue, recv_queue) = (queue(send)?, queue(recv)?);
    let uid = words.nth(2)?.parse().ok()?;
    Some(Internet { local, remote, state, recv_queue, send_queue, uid, inode: words.nth(1)?.parse().ok()? })
}

/// Words of four bytes in this machine's order, each of which holds four bytes of the address in that of the network.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// include/net/tcp_states.h; UDP has the same numbers.
fn tcp_state(number: u8) -> &'static str {
    match number {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        6 => "TIME_WAIT",
        7 => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        12 => "NEW_SYN_RECV",
        _ => "NONE",
    }
}

/// `Num: RefCount Protocol Flags Type St Inode Path`
fn unix(row: &[u8]) -> Option<Unix> {
    let mut rest = row;
    let mut word = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        std::str::from_utf8(word).ok().filter(|word| !word.is_empty())
    };
    word()?;
    let ref_count = i64::from_str_radix(word()?, 16).ok()?;
    word()?;
    let flags = u32::from_str_radix(word()?, 16).ok()?;
    let kind = match u8::from_str_radix(word()?, 16).ok()? {
        1 => "STREAM",
        2 => "DGRAM",
        5 => "SEQPACKET",
        _ => return None,
    };
    let state = match u8::from_str_radix(word()?, 16).ok()? {
        1 => "UNCONNECTED",
        2 => "CONNECTING",
        3 => "CONNECTED",
        4 => "DISCONNECTING",
        _ => "NONE",
    };
    let inode = word()?.parse().ok()?;
    let path = rest.strip_prefix(b" ").filter(|path| !path.is_empty()).map(<[u8]>::to_vec);
    // __SO_ACCEPTCON of linux/net.h.
    Some(Unix { kind, state, listening: flags & 0x1_0000 != 0, ref_count, inode, path })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_the_kernel_are_read() {
        let row = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:0000000B 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0";
        let socket = internet(row).unwrap();
        assert_eq!((socket.local.to_string().as_str(), socket.remote.to_string().as_str()), ("127.0.0.1:8080", "0.0.0.0:0"));
        assert_eq!((socket.state, socket.send_queue, socket.recv_queue), ("LISTEN", 0, 11));
        assert_eq!((socket.uid, socket.inode), (1000, 12345));
        assert_eq!(address("B80D01200000000000000000010000FF:0050").unwrap().to_string(), "[2001:db8::ff00:1]:80");
    }

    #[test]
    fn rows_of_sockets_of_this_host_are_read() {
        let socket = unix(b"0000000000000000: 00000002 00000000 00010000 0001 01 16085 /run/a b").unwrap();
        let expected =
            Unix { kind: "STREAM", state: "UNCONNECTED", listening: true, ref_count: 2, inode: 16085, path: Some(b"/run/a b".to_vec()) };
        assert_eq!(socket, expected);
        let nameless = unix(b"0000000000000000: 00000003 00000000 00000000 0002 03    17").unwrap();
        assert_eq!((nameless.kind, nameless.state, nameless.listening, nameless.path), ("DGRAM", "CONNECTED", false, None));
    }

    #[test]
    fn what_is_no_row_is_none() {
        for row in [&b""[..], b"x", b"0: 0100007F:1F90", b"0: 0100007:1F90 00000000:0000 0A 0:0 0:0 0 0 0 1", b"\xff \xff"] {
            assert_eq!((internet(row), unix(row)), (None, None), "{row:?}");
        }
    }
}
