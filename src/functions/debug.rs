//! What programs are in the middle of: stacks of a process that runs ([`Trace`]), core_dump of one that crashed ([`CoreDump`]).

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with2, with3};
use super::processes::on_process;
use super::value::{Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::resource::process::Process;
use crate::sys;
use crate::sys::debugger::{self, Frame, Thread};
use crate::sys::proc::process::Table;
use crate::sys::proc::stacks::{Kernel, kernel};
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[STACKS, CORE_DUMP];

/// `process_system::Action::"trace"`: see what a process is in the middle of.
pub enum Trace {}
impl Action for Trace {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "trace";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &["ProcessAction"];
    const DOC: &'static str = "See the stacks of its threads. It stands still while gdb looks.";
    const ACCESS: Access = Access::Change;
}

/// `file_system::Action::"core_dump"`: have gdb look into a core dump.
pub enum CoreDump {}
impl Action for CoreDump {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "core_dump";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File"];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "Have gdb tell what a core dump holds: stacks and variables.";
    const ACCESS: Access = Access::ReadOnly;
}

/// Frames of one thread at most.
const FRAMES: u64 = 1000;

options! {
    /// Options of `stacks`.
    StacksOptions {
        user: bool = true, "The calls of the program itself, which gdb tells. The process stands still meanwhile, mostly for less than a second.";
        kernel: bool = true, "Where in the kernel each thread is. Nothing stands still for it.";
        frames: u64 = 100, "Calls of one thread that are told, at most 1000; the innermost come first.";
        timeout: Duration = Duration::from_secs(20), "How long gdb may take, in seconds.";
    }
}

const STACKS: Function = Function {
    name: "stacks",
    doc: "What a process is in the middle of: the stacks of its threads.\n\nA map: `pid`, `name`, `threads`, an array of maps: `tid`, `id` (gdb's number), `name`, `state`, `frames`, `kernel` (an array of functions of the kernel, the innermost first). A frame is a map: `frame_number`, `function_name`, `instruction_ptr`, `source`, `line_number`, `library`; what is not known is `()`. No arguments and no variables are told.\n\nThe frames are from gdb, which runs as the user of the process with no more than that process may do. Where this host has no gdb, or the kernel does not let it look, `frames` is `()` and `user_error` tells the kind of error; the same for `kernel` and `kernel_error`. If neither can be told, that is an error.",
    body: &with2(stacks, [param("pid", "The process id."), param("options", "")]),
    asks: &[ask::<Trace>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::Timeout, Kind::Io, Kind::Unavailable, Kind::Unsupported],
    examples: &[Example { given: &[], script: "stacks(1, #{user: false}).pid", gives: "" }],
};

options! {
    /// Options of `core_dump`.
    CoreDumpOptions {
        variables: Vec<String> = Vec::new(), "Names whose values are wanted: a variable, or a way to a part of it such as `list->next` or `table[3].name`.";
        thread_id: i64 = 1, "The thread (its `id`) in which they are looked up; 1 is the one that crashed.";
        frame: i64 = 0, "The frame in which they are looked up; 0 is the innermost.";
        locals: bool = true, "Tell the arguments and local variables of every frame too.";
        frames: u64 = 100, "Calls of one thread that are told, at most 1000; the innermost come first.";
        timeout: Duration = Duration::from_secs(60), "How long gdb may take, in seconds.";
    }
}

const CORE_DUMP: Function = Function {
    name: "core_dump",
    doc: "What a crashed program was in the middle of: all threads with all their calls, and variables.\n\nA map: `process` (`pid`, `name`, `args`, `signal`), `threads`, an array of maps: `id` (1 is the thread that crashed), `tid`, `frames`. A frame is a map: `frame_number`, `function_name`, `instruction_ptr`, `source`, `line_number`, `library`, `locals` (a map from name to value as text). `variables` is a map from each name that was asked for to its value, `()` where it is not known there.\n\nIt takes the program that crashed, with its debug information in it for names of sources and variables. gdb reads the two files and the libraries of this host, and no start-up file; nothing in the files makes it do anything. Asks to read both files, and for `core_dump` on the core dump.",
    body: &with3(core_dump, [param("program", "The program that crashed."), param("core", "Its core dump."), param("options", "")]),
    asks: &[ask::<Read>(), ask::<CoreDump>()],
    fails: &[
        Kind::NotFound,
        Kind::IsADirectory,
        Kind::NotAFile,
        Kind::BadData,
        Kind::Permission,
        Kind::Timeout,
        Kind::Io,
        Kind::Unavailable,
        Kind::Unsupported,
    ],
    examples: &[Example {
        given: &[("core", "no core dump")],
        script: r#"let k = (); try { core_dump("/bin/sh", dir + "/core") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
        gives: r#""bad_data""#,
    }],
};

fn most(frames: u64) -> u32 {
    u32::try_from(frames.clamp(1, FRAMES)).unwrap_or(1)
}

fn stacks(call: &Call<'_>, pid: i64, options: StacksOptions) -> Result<Map> {
    if !options.user && !options.kernel {
        return Err(bad_argument("stacks: with `user` and `kernel` both false there is nothing to tell"));
    }
    let (granted, process, _) = on_process::<Trace>(call, pid, Vec::new())?;
    let gone = || Error::new(Kind::NotFound, format!("there is no process {pid}"));
    let process = process.ok_or_else(gone)?;
    if granted.held() {
        return Err(call.withhold(&granted, "", None)?);
    }
    let table = Table::open()?;
    let check = || call.check();
    let rows = kernel(&table, &granted)?.ok_or_else(gone)?;
    let began = std::time::Instant::now();
    let user = options.user.then(|| debugger::trace(&granted, most(options.frames), options.timeout, &check));
    let failed = user.as_ref().and_then(|user| user.as_ref().err()).map(|error| error.kind);
    call.tell(&granted, began, failed, if options.user { "gdb" } else { "" })?;
    call.check()?;
    let no_kernel = options.kernel && rows.iter().all(|row| row.frames.is_none());
    let threads = match user {
        Some(Err(error)) if no_kernel || !options.kernel || error.kind == Kind::NotFound => return Err(error),
        Some(Err(error)) => Err(Some(error.kind)),
        Some(Ok(threads)) => Ok(threads),
        None if no_kernel => return Err(Error::new(Kind::Permission, "the kernel does not tell this user where the process is")),
        None => Err(None),
    };
    let frames = |tid: i64| threads.as_ref().ok().and_then(|threads| threads.iter().find(|thread| thread.tid == Some(tid)));
    let thread = |row: &Kernel| {
        let seen = frames(row.tid);
        record([
            ("tid", row.tid.into_script()),
            ("id", seen.map(|thread| thread.id).into_script()),
            ("name", row.name.as_str().into_script()),
            ("state", row.state.name().into_script()),
            ("frames", seen.map(|thread| thread.frames.iter().map(frame).collect::<Vec<Map>>()).into_script()),
            ("kernel", row.frames.clone().filter(|_| options.kernel).into_script()),
        ])
    };
    let mut map = record([
        ("pid", pid.into_script()),
        ("name", process.name.into_script()),
        ("threads", rows.iter().map(thread).collect::<Vec<Map>>().into_script()),
    ]);
    if let Err(Some(kind)) = threads {
        map.insert("user_error".into(), kind.name().into_script());
    }
    if no_kernel {
        map.insert("kernel_error".into(), Kind::Permission.name().into_script());
    }
    Ok(map)
}

fn frame(frame: &Frame) -> Map {
    record([
        ("frame_number", frame.number.into_script()),
        ("function_name", frame.function.clone().into_script()),
        ("instruction_ptr", frame.address.clone().into_script()),
        ("source", frame.source.clone().into_script()),
        ("line_number", frame.line.into_script()),
        ("library", frame.library.clone().into_script()),
    ])
}

fn core_dump(call: &Call<'_>, program: AbsPath, core: AbsPath, options: CoreDumpOptions) -> Result<Map> {
    if let Some(bad) = options.variables.iter().find(|name| !debugger::is_variable(name)) {
        return Err(bad_argument(format!("core_dump: option `variables`: `{}` is no name of a variable", bad.escape_debug()))
            .with_hint("`name`, `list->next`, `table[3].name`, `*pointer`; nothing is computed or called"));
    }
    let program = call.permit::<Read>(File::locate(&program)?)?;
    let read = call.permit::<Read>(File::locate(&core)?)?;
    let dump = call.permit::<CoreDump>(File::locate(&core)?)?;
    let check = || call.check();
    let elf = sys::elf::look(&read, &check)?;
    let told = elf.core.ok_or_else(|| Error::new(Kind::BadData, "is no core dump").with_path(core.shown()))?;
    let mut threads = debugger::core(&program, &dump, most(options.frames), options.timeout, &check)?;
    let mut values = Vec::new();
    if options.locals || !options.variables.is_empty() {
        let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let at = (number(options.thread_id), number(options.frame));
        let names = (options.variables.as_slice(), at);
        values = debugger::variables((&program, &dump), &mut threads, options.locals, names, options.timeout, &check)?;
    }
    let text = |bytes: Option<Vec<u8>>| bytes.map_or(Dynamic::UNIT, |bytes| name_value(&bytes));
    let process = record([
        ("pid", told.pid.into_script()),
        ("name", text(told.name)),
        ("args", text(told.arguments)),
        ("signal", told.signal.map(u32::from).into_script()),
    ]);
    let thread = |thread: &Thread| {
        let frames = thread.frames.iter().map(|known| {
            let mut map = frame(known);
            if options.locals {
                let locals: Map = known.variables.iter().map(|(name, value)| (name.as_str().into(), value.clone().into_script())).collect();
                map.insert("locals".into(), locals.into_script());
            }
            map
        });
        record([("id", thread.id.into_script()), ("tid", thread.tid.into_script()), ("frames", frames.collect::<Vec<Map>>().into_script())])
    };
    let variables: Map = options.variables.iter().zip(values).map(|(name, value)| (name.as_str().into(), value.into_script())).collect();
    Ok(record([
        ("process", process.into_script()),
        ("threads", threads.iter().map(thread).collect::<Vec<Map>>().into_script()),
        ("variables", variables.into_script()),
    ]))
}
