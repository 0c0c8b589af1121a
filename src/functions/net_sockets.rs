//! Which sockets there are: netstat and ss. They ask to read the tables of the kernel that they look into.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1};
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::proc::sockets::{self, Internet, Socket, TABLES, Unix};

pub const FUNCTIONS: &[Function] = &[SS, NETSTAT];

options! {
    /// Options of `ss` and `netstat`.
    SocketOptions {
        protocol: Option<Vec<String>> = None, "Only these tables: `tcp`, `tcp6`, `udp`, `udp6`, `unix`. The others are not asked for.";
        listening: bool = false, "Only those that wait for connections; of UDP those that take datagrams from anyone.";
        state: Option<Vec<String>> = None, "Only these states, e.g. `ESTABLISHED`.";
        port: Option<u64> = None, "Only those with this port, here or at the other end.";
        limit: u64 = 10_000, "Return so many at most.";
    }
}

const SS: Function = Function {
    name: "ss",
    doc: "The sockets of this network namespace: an array of maps.\n\nEach of the internet has `protocol`, `state`, `local_address` and `remote_address` (`127.0.0.1:22`, `[::1]:22`), `local_ip`, `local_port`, `remote_ip`, `remote_port`, `recv_queue`, `send_queue` (bytes), `uid` and `inode`. One of this host has `protocol` (`unix`), `kind` (`STREAM`, `DGRAM`, `SEQPACKET`), `state`, `listening`, `path` (or `()`), `ref_count` and `inode`. States are those of the kernel: `LISTEN`, `ESTABLISHED`, `TIME_WAIT` …; UDP that is not connected is `CLOSE`. Without `protocol` those of `tcp`, `tcp6`, `udp` and `udp6`. Asks to read `/proc/net/tcp` and so on. The kernel shows paths of sockets as they are, so an account can give one a path with a line end in it that looks like another row.",
    body: &with1(ss, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::BadData, Kind::Unsupported, Kind::Permission],
    examples: &[
        Example { given: &[], script: "ss(#{protocol: [\"tcp\"], listening: true}).all(|s| s.state == \"LISTEN\")", gives: "true" },
        Example { given: &[], script: "ss(#{port: 443, state: [\"ESTABLISHED\"]})", gives: "" },
    ],
};

fn ss(call: &Call<'_>, options: SocketOptions) -> Result<Array> {
    let rows = look(call, &options, &["tcp", "tcp6", "udp", "udp6"])?;
    Ok(rows.into_iter().map(|(_, row)| row.into_script()).collect())
}

const NETSTAT: Function = Function {
    name: "netstat",
    doc: "The sockets of this network namespace and of this host: a map of two arrays.\n\n`internet` and `unix` hold maps as [ss] gives them.\n\nAsks to read `/proc/net/tcp`, `tcp6`, `udp`, `udp6` and `unix`.",
    body: &with1(netstat, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[Kind::BadData, Kind::Unsupported, Kind::Permission],
    examples: &[Example { given: &[], script: "netstat().keys()", gives: "[\"internet\", \"unix\"]" }],
};

fn netstat(call: &Call<'_>, options: SocketOptions) -> Result<Map> {
    let (mut internet, mut unix) = (Array::new(), Array::new());
    for (table, row) in look(call, &options, TABLES)? {
        if table == "unix" { &mut unix } else { &mut internet }.push(row.into_script());
    }
    Ok(record([("internet", internet.into_script()), ("unix", unix.into_script())]))
}

/// The rows that the options leave, with the table that each is of.
fn look(call: &Call<'_>, options: &SocketOptions, usual: &[&'static str]) -> Result<Vec<(&'static str, Map)>> {
    let function = call.function.name;
    if let Some(odd) = options.protocol.iter().flatten().find(|name| !TABLES.contains(&name.as_str())) {
        return Err(bad_argument(format!("{function}: option `protocol`: expected `tcp`, `tcp6`, `udp`, `udp6` or `unix`, not `{odd}`")));
    }
    let port = match options.port {
        Some(port) => {
            let port = u16::try_from(port);
            Some(port.map_err(|_| bad_argument(format!("{function}: option `port`: expected a number from 0 to 65535")))?)
        }
        None => None,
    };
    let chosen = |name: &&str| options.protocol.as_ref().map_or(usual.contains(name), |names| names.iter().any(|known| known == name));
    // Every table is asked for before any is read: there is no half answer.
    let mut tables = Vec::new();
    for name in TABLES.iter().copied().filter(chosen) {
        let path = AbsPath::new(format!("/proc/net/{name}").as_str())?;
        tables.push((name, call.permit::<Read>(File::unvisited(path))?));
    }
    let most = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for (name, granted) in &tables {
        sockets::each(granted, &mut |socket| {
            call.check()?;
            if rows.len() >= most {
                return Ok(false);
            }
            if wanted(&socket, options, port) {
                rows.push((*name, row(name, socket)));
            }
            Ok(true)
        })?;
    }
    Ok(rows)
}

fn wanted(socket: &Socket, options: &SocketOptions, port: Option<u16>) -> bool {
    let (state, listening, ports) = match socket {
        Socket::Internet(socket) => {
            let open = socket.state == "LISTEN" || (socket.state == "CLOSE" && socket.remote.port() == 0 && socket.local.port() != 0);
            (socket.state, open, Some([socket.local.port(), socket.remote.port()]))
        }
        Socket::Unix(socket) => (socket.state, socket.listening, None),
    };
    (!options.listening || listening)
        && options.state.as_ref().is_none_or(|states| states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state)))
        && port.is_none_or(|port| ports.is_some_and(|ports| ports.contains(&port)))
}

fn row(table: &str, socket: Socket) -> Map {
    match socket {
        Socket::Internet(Internet { local, remote, state, recv_queue, send_queue, uid, inode }) => record([
            ("protocol", table.into_script()),
            ("state", state.into_script()),
            ("local_address", local.to_string().into_script()),
            ("local_ip", local.ip().to_string().into_script()),
            ("local_port", i64::from(local.port()).into_script()),
            ("remote_address", remote.to_string().into_script()),
            ("remote_ip", remote.ip().to_string().into_script()),
            ("remote_port", i64::from(remote.port()).into_script()),
            ("recv_queue", recv_queue.into_script()),
            ("send_queue", send_queue.into_script()),
            ("uid", uid.into_script()),
            ("inode", inode.into_script()),
        ]),
        Socket::Unix(Unix { kind, state, listening, ref_count, inode, path }) => record([
            ("protocol", table.into_script()),
            ("kind", kind.into_script()),
            ("state", state.into_script()),
            ("listening", listening.into_script()),
            ("path", path.map_or(Dynamic::UNIT, |path| name_value(&path))),
            ("ref_count", ref_count.into_script()),
            ("inode", inode.into_script()),
        ]),
    }
}
