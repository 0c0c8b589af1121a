//! What is shown of the engine's answers (Docker Engine API): a list of keys, so that nothing comes along that nobody thought of.

use serde_json::{Map, Value, json};

/// Id and name, which the engine writes with a slash in front.
pub(super) fn identity(whole: &Value) -> Option<(String, String)> {
    let text = |key: &str| whole.get(key)?.as_str();
    Some((text("Id")?.to_owned(), text("Name")?.trim_start_matches('/').to_owned()))
}

/// The word for its state.
pub(super) fn state(whole: &Value) -> Value {
    whole.pointer("/State/Status").cloned().unwrap_or_default()
}

/// What is there at the place, or null where it is empty.
fn at(value: &Value, place: &str) -> Value {
    match value.pointer(place) {
        Some(Value::String(text)) if text.is_empty() => Value::Null,
        other => other.cloned().unwrap_or_default(),
    }
}

/// A moment; the engine writes the year 1 for none.
fn moment(value: &Value, place: &str) -> Value {
    match at(value, place) {
        Value::String(text) if text.starts_with("0001-") => Value::Null,
        other => other,
    }
}

/// A list, which the engine writes as null where it is empty.
fn list_at(value: &Value, place: &str) -> Value {
    match value.pointer(place) {
        Some(list @ Value::Array(_)) => list.clone(),
        _ => json!([]),
    }
}

pub(super) fn list(containers: &Value) -> Value {
    let row = |container: &Value| {
        let names: Vec<String> = container
            .get("Names")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.trim_start_matches('/').to_owned()))
            .collect();
        // A name with a slash in it is another container's word for this one.
        let name = names.iter().find(|name| !name.contains('/')).or(names.first()).cloned();
        let ports = container.get("Ports").and_then(Value::as_array).into_iter().flatten().map(|port| {
            json!({ "port": at(port, "/PrivatePort"), "protocol": at(port, "/Type"), "host_ip": at(port, "/IP"), "host_port": at(port, "/PublicPort") })
        });
        json!({
            "id": at(container, "/Id"),
            "name": name,
            "image": at(container, "/Image"),
            "command": command_of(container.get("Command")),
            "created": at(container, "/Created"),
            "state": at(container, "/State"),
            "status": at(container, "/Status"),
            "ports": ports.collect::<Vec<Value>>(),
            "labels": at(container, "/Labels"),
        })
    };
    let mut rows: Vec<Value> = containers.as_array().into_iter().flatten().map(row).collect();
    rows.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Value::Array(rows)
}

/// Docker writes it as a text, Podman as a list in some versions.
fn command_of(command: Option<&Value>) -> Value {
    match command {
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ").into(),
        Some(Value::String(text)) if !text.is_empty() => text.as_str().into(),
        _ => Value::Null,
    }
}

pub(super) fn details(whole: &Value, name: &str) -> Value {
    let arguments = whole.get("Args").and_then(Value::as_array).into_iter().flatten().cloned();
    let command: Vec<Value> = Some(at(whole, "/Path")).filter(Value::is_string).into_iter().chain(arguments).collect();
    // Values of variables are secrets more often than not.
    let environment: Vec<&str> = whole
        .pointer("/Config/Env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|pair| pair.as_str()?.split('=').next())
        .collect();
    let ports = whole.pointer("/NetworkSettings/Ports").and_then(Value::as_object).into_iter().flatten().flat_map(|(port, bindings)| {
        let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let port: Value = port.parse::<u64>().map_or(Value::Null, Value::from);
        let of = |ip: Value, number: Value| json!({ "port": port, "protocol": protocol, "host_ip": ip, "host_port": number });
        match bindings.as_array().filter(|bindings| !bindings.is_empty()) {
            None => vec![of(Value::Null, Value::Null)],
            Some(bindings) => bindings
                .iter()
                .map(|binding| {
                    let number = binding.get("HostPort").and_then(Value::as_str).and_then(|text| text.parse::<u64>().ok());
                    of(at(binding, "/HostIp"), number.map_or(Value::Null, Value::from))
                })
                .collect(),
        }
    });
    let mounts = whole.get("Mounts").and_then(Value::as_array).into_iter().flatten().map(|mount| {
        json!({
            "type": at(mount, "/Type"),
            "source": at(mount, "/Source"),
            "destination": at(mount, "/Destination"),
            "read_only": mount.get("RW").and_then(Value::as_bool).map(|writes| !writes),
        })
    });
    let networks = whole.pointer("/NetworkSettings/Networks").and_then(Value::as_object).into_iter().flatten().map(|(name, network)| {
        json!({ "name": name, "ip_address": at(network, "/IPAddress"), "gateway": at(network, "/Gateway"), "mac_address": at(network, "/MacAddress") })
    });
    let pid = whole.pointer("/State/Pid").and_then(Value::as_u64).filter(|pid| *pid > 0);
    json!({
        "id": at(whole, "/Id"),
        "name": name,
        "image": at(whole, "/Config/Image"),
        "image_id": at(whole, "/Image"),
        "created": moment(whole, "/Created"),
        "state": state(whole),
        "running": at(whole, "/State/Running"),
        "paused": at(whole, "/State/Paused"),
        "restarting": at(whole, "/State/Restarting"),
        "oom_killed": at(whole, "/State/OOMKilled"),
        "pid": pid,
        "exit_code": at(whole, "/State/ExitCode"),
        "error": at(whole, "/State/Error"),
        "started": moment(whole, "/State/StartedAt"),
        "finished": moment(whole, "/State/FinishedAt"),
        "health": health(whole),
        "restarts": at(whole, "/RestartCount"),
        "command": command,
        "user": at(whole, "/Config/User"),
        "working_dir": at(whole, "/Config/WorkingDir"),
        "environment": environment,
        "labels": at(whole, "/Config/Labels"),
        "ports": ports.collect::<Vec<Value>>(),
        "mounts": mounts.collect::<Vec<Value>>(),
        "networks": networks.collect::<Vec<Value>>(),
        "network_mode": at(whole, "/HostConfig/NetworkMode"),
        "restart_policy": at(whole, "/HostConfig/RestartPolicy/Name"),
        "privileged": at(whole, "/HostConfig/Privileged"),
        "added_capabilities": list_at(whole, "/HostConfig/CapAdd"),
        "dropped_capabilities": list_at(whole, "/HostConfig/CapDrop"),
        "read_only": at(whole, "/HostConfig/ReadonlyRootfs"),
        "memory_limit": whole.pointer("/HostConfig/Memory").and_then(Value::as_u64).filter(|bytes| *bytes > 0),
        "log_driver": at(whole, "/HostConfig/LogConfig/Type"),
    })
}

/// Docker and Podman have it in two places; without a check there is none.
fn health(whole: &Value) -> Value {
    let word = whole.pointer("/State/Health/Status").or_else(|| whole.pointer("/State/Healthcheck/Status")).and_then(Value::as_str);
    word.filter(|word| !matches!(*word, "" | "none")).map_or(Value::Null, Value::from)
}

pub(super) fn stats(stats: &Value) -> Value {
    let number = |place: &str| stats.pointer(place).and_then(Value::as_u64);
    let (memory, limit) = (number("/memory_stats/usage"), number("/memory_stats/limit"));
    // As `docker stats` counts it: without what the kernel keeps of files and would let go.
    let cache = number("/memory_stats/stats/inactive_file").or_else(|| number("/memory_stats/stats/total_inactive_file")).unwrap_or(0);
    let memory = memory.map(|bytes| if cache < bytes { bytes - cache } else { bytes });
    #[allow(clippy::cast_precision_loss, reason = "percentages for people")]
    let percent = |part: Option<u64>, of: Option<u64>| match (part, of) {
        (Some(part), Some(of)) if of > 0 => Some((part as f64 / of as f64 * 10_000.0).round() / 100.0),
        _ => None,
    };
    let used = delta(stats, "/cpu_stats/cpu_usage/total_usage", "/precpu_stats/cpu_usage/total_usage");
    let system = delta(stats, "/cpu_stats/system_cpu_usage", "/precpu_stats/system_cpu_usage");
    let processors = number("/cpu_stats/online_cpus")
        .filter(|count| *count > 0)
        .or_else(|| stats.pointer("/cpu_stats/cpu_usage/percpu_usage").and_then(Value::as_array).map(|list| list.len() as u64));
    let cpu = percent(used.and_then(|used| used.checked_mul(processors.unwrap_or(1))), system);
    let networks = || stats.get("networks").and_then(Value::as_object).into_iter().flatten().map(|(_, network)| network);
    let sum = |key: &str| networks().filter_map(|network| network.get(key)?.as_u64()).fold(0u64, u64::saturating_add);
    let blocks = |wanted: &str| {
        let rows = stats.pointer("/blkio_stats/io_service_bytes_recursive").and_then(Value::as_array);
        let rows = rows.into_iter().flatten().filter(|row| row["op"].as_str().is_some_and(|op| op.eq_ignore_ascii_case(wanted)));
        rows.filter_map(|row| row.get("value")?.as_u64()).fold(0u64, u64::saturating_add)
    };
    json!({
        "time": at(stats, "/read"),
        "cpu_percent": cpu,
        "memory": memory,
        "memory_limit": limit,
        "memory_percent": percent(memory, limit),
        "processes": number("/pids_stats/current"),
        "received": sum("rx_bytes"),
        "sent": sum("tx_bytes"),
        "read": blocks("read"),
        "written": blocks("write"),
    })
}

fn delta(stats: &Value, now: &str, before: &str) -> Option<u64> {
    let number = |place: &str| stats.pointer(place).and_then(Value::as_u64);
    number(now)?.checked_sub(number(before).unwrap_or(0))
}

/// Lines with the time that the engine puts before each. Without a terminal they come in frames: a stream's number, three zeros, a length of four bytes, the
/// text.
pub(super) fn lines(body: &[u8], terminal: bool) -> Value {
    let mut lines = Vec::new();
    if terminal || !is_framed(body) {
        add(&mut lines, "stdout", body, true);
        return Value::Array(lines);
    }
    // A long line comes in several frames, the last of which ends it.
    let (mut rest, mut open): (&[u8], [Vec<u8>; 2]) = (body, Default::default());
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let [stream, _, _, _, size @ ..] = head;
        let size = usize::try_from(u32::from_be_bytes(size.to_owned())).unwrap_or(usize::MAX).min(after.len());
        let (text, next) = after.split_at(size);
        rest = next;
        let [out, err] = &mut open;
        let (name, held) = if *stream == 2 { ("stderr", err) } else { ("stdout", out) };
        held.extend_from_slice(text);
        if held.ends_with(b"\n") {
            add(&mut lines, name, &std::mem::take(held), true);
        }
    }
    let [out, err] = open;
    for (name, held) in [("stdout", out), ("stderr", err)] {
        if !held.is_empty() {
            add(&mut lines, name, &held, true);
        }
    }
    Value::Array(lines)
}

fn is_framed(body: &[u8]) -> bool {
    matches!(body, [0..=2, 0, 0, 0, ..] | [])
}

fn add(lines: &mut Vec<Value>, stream: &str, text: &[u8], timed: bool) {
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let (time, text) = match line.split_once(' ') {
            Some((time, text)) if timed && is_time(time) => (Value::from(time), text.to_owned()),
            None if timed && is_time(&line) => (Value::from(line.as_str()), String::new()),
            _ => (Value::Null, line),
        };
        let row: Map<String, Value> =
            [("time".to_owned(), time), ("stream".to_owned(), stream.into()), ("text".to_owned(), text.into())].into_iter().collect();
        lines.push(Value::Object(row));
    }
}

/// As in RFC 3339.
fn is_time(text: &str) -> bool {
    text.len() >= 20 && text.as_bytes().get(10) == Some(&b'T') && text.starts_with(|c: char| c.is_ascii_digit())
}
