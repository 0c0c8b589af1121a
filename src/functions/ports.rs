//! Whether something answers on the network: ports.

use super::file_write::Content;
use super::function::{Call, Example, Function, param, with3};
use super::reach::{self, Connect};
use super::value::{Dynamic, ImmutableString, IntoScript, Map, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::url::Host;
use crate::policy::{Access, Action, Prospect, ask};
use crate::resource::endpoint::{Endpoint, URL};
use crate::sys::net::Patience;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[TCP_CHECK];

/// `network::Action::"send"`: send what the script likes to a port.
pub enum Send {}
impl Action for Send {
    type On = Endpoint;
    const NAMESPACE: &'static str = "network";
    const NAME: &'static str = "send";
    const APPLIES_TO: &'static [&'static str] = &[URL.name];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "Send bytes of the script's own to a port, beside `connect`: whatever the service there takes.";
    const ACCESS: Access = Access::Change;
}

options! {
    /// Options of `tcp_check`.
    TcpOptions {
        timeout: Duration = Duration::from_secs(5), "How long all of it may take, in seconds.";
        send: Option<Content> = None, "Send this once connected. Asks for `send`, which changes things: a dry run withholds it.";
        expect: Option<String> = None, "Read until this text has come, or 64 KiB.";
    }
}

/// What is read at most.
const MOST: usize = 64 << 10;

const TCP_CHECK: Function = Function {
    name: "tcp_check",
    doc: "Whether a port of a host takes connections: a map.\n\n`open`; `error`, why not (`unavailable` when it is refused or not reachable, `timeout`, `not_found` when there is no such name), or nothing; `address`, the one that was connected to; `seconds`, how long that took; with `expect`, `matched` and `text`, what came (bytes that are not UTF-8 as U+FFFD). Asks for `connect` on the host; the port is an attribute of it.",
    body: &with3(tcp_check, [param("host", "A name or an address."), param("port", "The number of the port."), param("options", "")]),
    asks: &[ask::<Connect>(), ask::<Send>()],
    fails: &[Kind::BadData],
    examples: &[
        Example { given: &[], script: r#"tcp_check("127.0.0.1", 1).error"#, gives: r#""unavailable""# },
        Example {
            given: &[],
            script: r#"tcp_check("127.0.0.1", port, #{send: "GET / HTTP/1.0\r\n\r\n", expect: "HTTP/1"}).matched"#,
            gives: "true",
        },
    ],
};

/// A host and a port as scripts give them.
///
/// # Errors
/// [`Kind::BadArgument`] when it is none.
pub fn place(function: &str, scheme: &'static str, host: &str, port: i64) -> Result<Endpoint> {
    let host = Host::parse(host).map_err(|what| bad_argument(format!("{function}: host: {what}")))?;
    let port = u16::try_from(port).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| bad_argument(format!("{function}: port: expected a number from 1 to 65535")))?;
    Ok(Endpoint::of_host(scheme, host, port))
}

fn tcp_check(call: &Call<'_>, host: ImmutableString, port: i64, options: TcpOptions) -> Result<Map> {
    let endpoint = place(call.function.name, "tcp", &host, port)?;
    let check = || call.check();
    let patience = Patience::new(options.timeout, &check);
    if let Some(content) = &options.send {
        return talk(call, &endpoint, &options, Some(content.as_bytes()), patience);
    }
    talk(call, &endpoint, &options, None, patience)
}

fn talk(call: &Call<'_>, endpoint: &Endpoint, options: &TcpOptions, send: Option<&[u8]>, patience: Patience<'_>) -> Result<Map> {
    // Where the address of a name has a say, the question waits until it is known; a dry run reaches nobody, so it is asked by name.
    let gate = &call.host.gate;
    let waits =
        endpoint.address().is_none() && !gate.dry_run() && matches!(gate.foresee::<Send>(endpoint, &[], "address"), Prospect::Open(_));
    let mut sending = None;
    if send.is_some() && !waits {
        let granted = call.permit::<Send>(endpoint.clone())?;
        if granted.held() {
            return Err(call.withhold(&granted, "", None)?);
        }
        sending = Some(granted);
    }
    let way = match reach::open::<Connect>(call, endpoint, &[], patience) {
        Ok(way) => way,
        Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Timeout | Kind::NotFound) => {
            return Ok(told(false, Some(error.kind), None));
        }
        Err(error) => return Err(error),
    };
    if send.is_some() && sending.is_none() {
        sending = Some(call.permit::<Send>(endpoint.at(way.address))?);
    }
    let mut result = told(true, None, Some((way.address.to_string(), way.connect)));
    let mut failed = None;
    if let Some((granted, bytes)) = sending.zip(send) {
        let deed = || way.wire.send_all(bytes);
        let sent = call.effect(&granted, deed, |()| (bytes.len() as u64, format!("sent to {}", way.address)));
        failed = sent.err();
    }
    if let (Some(expect), None) = (&options.expect, &failed) {
        let mut text = Vec::new();
        let found = |text: &[u8]| text.windows(expect.len().max(1)).any(|part| part == expect.as_bytes());
        while !found(&text) && text.len() < MOST {
            let mut buffer = [0u8; 4096];
            match way.wire.receive(&mut buffer) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        result.insert("matched".into(), found(&text).into_script());
        result.insert("text".into(), String::from_utf8_lossy(&text).into_owned().into_script());
    }
    if let Some(error) = failed {
        call.check()?;
        if !matches!(error.kind, Kind::Unavailable | Kind::Timeout) {
            return Err(error);
        }
        result.insert("error".into(), error.kind.name().into_script());
    }
    Ok(result)
}

fn told(open: bool, error: Option<Kind>, at: Option<(String, Duration)>) -> Map {
    let (address, time) = at.unzip();
    record([
        ("open", open.into_script()),
        ("error", error.map_or(Dynamic::UNIT, |kind| kind.name().into_script())),
        ("address", address.into_script()),
        ("seconds", time.map(|time| time.as_secs_f64()).into_script()),
    ])
}
