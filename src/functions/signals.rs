//! Signals to processes, and waiting for their end. They ask for [`Kill`], for SIGHUP [`Interrupt`], and for [`List`].

use super::function::{Call, Example, Function, param, with2};
use super::processes::{List, on_process};
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, OptionRow, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Attribute, Bound, Granted, Value, ask};
use crate::resource::process::Process;
use crate::sys::proc::process::Table;
use crate::sys::proc::signal::{self, Signal};
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[KILL, WAIT_FOR];

/// `process_system::Action::"kill"`: send a signal.
pub enum Kill {}
impl Action for Kill {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "kill";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &["ProcessAction", "edit"];
    const DOC: &'static str = "Send it a signal.";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] = &[Attribute {
        name: "signal",
        cedar: "String",
        required: true,
        fixed: false,
        doc: "The signal, e.g. `SIGTERM`, `SIGRTMIN+3`; `0` where only asked whether one could be sent.",
    }];
}

/// `process_system::Action::"interrupt"`: send SIGHUP, which many services take as the word to read their configuration again.
pub enum Interrupt {}
impl Action for Interrupt {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "interrupt";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &["ProcessAction", "edit"];
    const DOC: &'static str = "Send it SIGHUP.";
    const ACCESS: Access = Access::Change;
}

impl FromScript for Signal {
    const TYPE: &'static str = "a signal: a name such as \"TERM\" or \"SIGRTMIN+3\", or a number";
    fn from_script(value: Dynamic) -> Result<Self> {
        let wrong = |what: &str| {
            bad_argument(format!("expected {}, got {what}", Self::TYPE)).with_hint("\"TERM\" asks a process to end, \"KILL\" ends it")
        };
        if let Ok(number) = value.as_int() {
            return Self::of_number(number).ok_or_else(|| wrong(&number.to_string()));
        }
        let text = String::from_script(value).map_err(|error| wrong(error.message.rsplit(' ').next().unwrap_or("")))?;
        Self::of_name(&text).ok_or_else(|| wrong(&format!("`{}`", text.chars().take(30).collect::<String>().escape_debug())))
    }
}

options! {
    /// Options of `kill`.
    KillOptions {
        signal: Option<Signal> = None, "The signal, by name or number; SIGTERM if left out. 0 sends nothing and tells whether one could be sent.", flags &["SIGTERM=TERM", "SIGQUIT=QUIT", "SIGHUP=HUP", "SIGKILL=KILL", "SIGINT=INT", "SIGSTOP=STOP", "SIGCONT=CONT", "SIGUSR1=USR1", "SIGUSR2=USR2"];
    }
}

/// What is sent: a signal, or a map of options.
#[derive(Clone, Copy, Debug)]
pub struct How(Signal);

impl FromScript for How {
    const TYPE: &'static str = "a signal, or #{signal: …}";
    const OPTIONS: Option<&'static [OptionRow]> = KillOptions::OPTIONS;
    fn absent() -> Option<Self> {
        Some(Self(Signal::TERM))
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_map() || value.is_unit() {
            return KillOptions::from_script(value).map(|options| Self(options.signal.unwrap_or(Signal::TERM)));
        }
        Signal::from_script(value).map(Self)
    }
}

const KILL: Function = Function {
    name: "kill",
    doc: "Sends a signal to a process, or to several: SIGTERM, or the one named.\n\n`kill(pid)`, `kill(pid, \"KILL\")`, `kill([pid, pid], \"USR1\")`; the array is of numbers as [pgrep] gives them. Every process is judged before \
          anything is sent, and is sent the signal only if it is still that process. SIGHUP asks for `interrupt`, any other for `kill`. The signal does \
          not reach rex itself, or what this session hangs on (sshd, the first process), unless a policy permits it for that very number.\n\nAn array \
          of maps: `pid`, `name`, `signal`, `sent`. Of several, one that has ended meanwhile or that the kernel refuses has `sent: false` and `error` (the kind); \
          of one alone that is an error. [wait_for] waits for the end.",
    body: &with2(kill, [param("pid", "The process id, or an array of them."), param("how", "The signal, or a map of options.")]),
    asks: &[ask::<Kill>(), ask::<Interrupt>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: "kill(1, 0)[0].sent", gives: "" },
        Example {
            given: &[],
            script: r#"exec_stream("/bin/sh", ["-c", "echo $$; while :; do :; done"], |line| kill(parse_int(line), "KILL")).signal"#,
            gives: "9",
        },
        Example {
            given: &[],
            script: r#"exec_stream("/bin/sh", ["-c", "echo $$; while :; do :; done"], |line| kill(parse_int(line), #{signal: "HUP"})).signal"#,
            gives: "1",
        },
    ],
};

/// A permission for one of the two verbs.
enum May {
    Kill(Granted<Kill>),
    Interrupt(Granted<Interrupt>),
}

impl May {
    fn ask(call: &Call<'_>, pid: i64, signal: Signal) -> Result<Self> {
        if signal.is_hangup() {
            return on_process::<Interrupt>(call, pid, Vec::new()).map(|(granted, ..)| Self::Interrupt(granted));
        }
        let context = vec![("signal", Value::String(signal.name()))];
        on_process::<Kill>(call, pid, context).map(|(granted, ..)| Self::Kill(granted))
    }
    fn process(&self) -> &Process {
        match self {
            Self::Kill(granted) => granted.resource(),
            Self::Interrupt(granted) => granted.resource(),
        }
    }
    fn held(&self) -> bool {
        match self {
            Self::Kill(granted) => granted.held(),
            Self::Interrupt(granted) => granted.held(),
        }
    }
    fn send(&self, call: &Call<'_>, signal: Signal) -> Result<()> {
        let told = |(): &()| (0, signal.name());
        match self {
            Self::Kill(granted) => call.effect(granted, || signal::send(granted, signal), told),
            Self::Interrupt(granted) => call.effect(granted, || signal::send(granted, signal), told),
        }
    }
    /// Whether a policy permits it for exactly this number.
    fn is_named(&self, call: &Call<'_>) -> bool {
        let verb = if matches!(self, Self::Kill(_)) { Kill::NAME } else { Interrupt::NAME };
        let id = self.process().pid.to_string();
        call.host.gate.policies().hull(Kill::NAMESPACE, verb).contains(&Bound::Exactly(id))
    }
}

fn kill(call: &Call<'_>, pids: Vec<i64>, how: How) -> Result<Array> {
    let signal = how.0;
    if let Some(bad) = pids.iter().find(|pid| **pid < 1 || **pid > i64::from(i32::MAX)) {
        return Err(bad_argument(format!("kill: {bad} is no process id; they go from 1 up"))
            .with_hint("groups of processes are not signalled at once: `kill(pgrep(\"name\"))`"));
    }
    let mut granted = Vec::with_capacity(pids.len().min(4096));
    for pid in &pids {
        call.check()?;
        granted.push(May::ask(call, *pid, signal)?);
    }
    if signal != Signal::NONE && !granted.is_empty() {
        let table = Table::open()?;
        for may in &granted {
            let pid = may.process().pid;
            if signal::is_own(&table, pid)? && !may.is_named(call) {
                return Err(bad_argument(format!("kill: {pid} is rex itself or what this session hangs on; nothing was sent"))
                    .with_hint(format!("a policy about `process_system::Process::\"{pid}\"` permits it")));
            }
        }
    }
    let mut rows = Array::with_capacity(granted.len());
    let mut held = None;
    for may in &granted {
        call.check()?;
        let error = match may.send(call, signal) {
            Ok(()) => None,
            Err(error) if may.held() => {
                held = Some(error);
                continue;
            }
            Err(error) if pids.len() > 1 && matches!(error.kind, Kind::NotFound | Kind::Permission) => Some(error.kind),
            Err(error) => return Err(error),
        };
        let mut row = record([
            ("pid", may.process().pid.into_script()),
            ("name", may.process().name.as_str().into_script()),
            ("signal", signal.name().into_script()),
            ("sent", error.is_none().into_script()),
        ]);
        if let Some(kind) = error {
            row.insert("error".into(), kind.name().into_script());
        }
        rows.push(row.into_script());
    }
    held.map_or(Ok(rows), Err)
}

/// The pause between two looks: short at first, for what ends at once.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(100);

const WAIT_FOR: Function = Function {
    name: "wait_for",
    doc: "Waits until a process has ended, at most so long.\n\nA map: `pid`, `ended`, `seconds` (waited). A process that is not there has ended. A zombie has ended too. That the number is given out again is noticed.",
    body: &with2(wait_for, [param("pid", "The process id."), param("timeout", "Seconds; 60 if left out.")]),
    asks: &[ask::<List>()],
    fails: &[],
    examples: &[
        Example { given: &[], script: "wait_for(1, 0).ended", gives: "false" },
        Example { given: &[], script: "wait_for(2147483647, 5).ended", gives: "true" },
    ],
};

fn wait_for(call: &Call<'_>, pid: i64, timeout: Option<Duration>) -> Result<Map> {
    if pid < 1 {
        return Err(bad_argument(format!("wait_for: {pid} is no process id; they go from 1 up")));
    }
    let began = Instant::now();
    let end = timeout.unwrap_or(Duration::from_secs(60));
    let told = |ended: bool| {
        let seconds = began.elapsed().as_secs_f64();
        record([("pid", pid.into_script()), ("ended", ended.into_script()), ("seconds", seconds.into_script())])
    };
    let granted = match on_process::<List>(call, pid, Vec::new()) {
        Ok((granted, ..)) => granted,
        // After an allow: it is not there.
        Err(Error { kind: Kind::NotFound, .. }) => return Ok(told(true)),
        Err(error) => return Err(error),
    };
    let table = Table::open()?;
    let mut pause = FIRST_PAUSE;
    loop {
        if !table.runs(granted.resource()) {
            return Ok(told(true));
        }
        let left = end.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(told(false));
        }
        call.host.watch.sleep(pause.min(left))?;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}
