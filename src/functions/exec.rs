//! Running programs: exactly the file, the arguments and the environment that the policy was asked about. They ask for [`Execute`].

use super::file_write::Content;
use super::function::{Call, Example, Function, param, with2, with3, with4};
use super::launch::{Arguments, Execute, How, Prepared, prepare};
use super::value::{Array, Dynamic, FnPtr, FromScript, IntoScript, Map, OptionRow, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::ask;
use crate::resource::path::AbsPath;
use crate::sys::broker::{Ended, Limit, Running, Streams};
use crate::sys::pipes::{self, Output};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[EXEC, EXEC_STREAM, PIPELINE];

options! {
    /// Options of `exec`.
    ExecOptions {
        env: Map = Map::new(), "The environment: names and values. It is empty otherwise.";
        cwd: Option<AbsPath> = None, "The folder it starts in; `/` if left out.";
        stdin: Option<Content> = None, "What it reads on standard input; nothing (`/dev/null`) if left out.";
        timeout: Duration = Duration::from_secs(60), "Seconds after which it gets SIGTERM, and SIGKILL two seconds later; the call then fails with `timeout`.";
        user: Option<Dynamic> = None, "The user it runs as, by name or number; rex's own if left out. Its primary group comes with it, its other groups do not.";
        group: Option<Dynamic> = None, "The group it runs as, by name or number.";
        capabilities: Vec<String> = Vec::new(), "Capabilities it has, e.g. `CAP_NET_ADMIN`. It has no other, as root neither.";
        max_output: u64 = 4 << 20, "Bytes kept of each of stdout and stderr; what is more is left out and `truncated` is true.";
        merge_stderr: bool = false, "Put stderr into stdout, in the order in which it was written.";
        binary: bool = false, "Give stdout and stderr as blobs.";
        check: bool = false, "Fail with `program_failed` unless it exits with 0.";
        secret: Vec<i64> = Vec::new(), "Positions of arguments, from 0, that records show as `***`.";
    }
}

options! {
    /// Options of `exec_stream`.
    StreamOptions {
        env: Map = Map::new(), "As for `exec`.";
        cwd: Option<AbsPath> = None, "As for `exec`.";
        stdin: Option<Content> = None, "As for `exec`.";
        timeout: Duration = Duration::from_secs(60), "As for `exec`.";
        user: Option<Dynamic> = None, "As for `exec`.";
        group: Option<Dynamic> = None, "As for `exec`.";
        capabilities: Vec<String> = Vec::new(), "As for `exec`.";
        max_output: u64 = 4 << 20, "Bytes kept of stderr.";
        max_line: u64 = 1 << 20, "Fail with `too_large` when a line is more bytes than this.";
        merge_stderr: bool = false, "Give the lines of stderr to the closure too.";
        lossy: bool = false, "Show bytes that are not UTF-8 as U+FFFD instead of failing with `not_text`.";
        check: bool = false, "Fail with `program_failed` unless it exits with 0 or the closure stopped it.";
        secret: Vec<i64> = Vec::new(), "As for `exec`.";
    }
}

options! {
    /// Options of `pipeline`.
    PipelineOptions {
        env: Map = Map::new(), "The environment of every program.";
        cwd: Option<AbsPath> = None, "The folder they start in; `/` if left out.";
        stdin: Option<Content> = None, "What the first reads on standard input; nothing if left out.";
        timeout: Duration = Duration::from_secs(60), "Seconds for all of them together.";
        user: Option<Dynamic> = None, "The user they run as.";
        group: Option<Dynamic> = None, "The group they run as.";
        capabilities: Vec<String> = Vec::new(), "Capabilities they have.";
        max_output: u64 = 4 << 20, "Bytes kept of the last one's stdout and of the stderr of all.";
        binary: bool = false, "Give stdout and stderr as blobs.";
        check: bool = false, "Fail with `program_failed` unless `ok`.";
    }
}

const FAILS: &[Kind] = &[
    Kind::NotFound,
    Kind::NotAFile,
    Kind::NotADirectory,
    Kind::Permission,
    Kind::BadData,
    Kind::TooLarge,
    Kind::Busy,
    Kind::Timeout,
    Kind::ProgramFailed,
    Kind::Unavailable,
    Kind::Unsupported,
];

const EXEC: Function = Function {
    name: "exec",
    doc: "Runs a program and waits for its end. No shell: the arguments reach it as they are.\n\nThe policy is asked about the very file that runs, its arguments in order (`context.argv`), the name it is called by (`context.argv0`, the path as given), its environment, user, group, capabilities, folder. An argument is a string, an int or a blob; `[name, value]` is two arguments that policies for the reference see as a pair. The environment is empty but for `env`, no descriptor is inherited, there is no terminal, and standard input is empty.\n\nA map: `status` (the exit code, or nothing if a signal ended it), `signal`, `stdout`, `stderr`, `truncated`, `lossy` (some output was not UTF-8 and was replaced), `duration` (seconds), `ok`, `exit_code` (the exit code, or the signal below zero). Another exit code than 0 is no error unless `check`.\n\nWhen the program ends, everything it started is killed too, and when the run ends, the program. What policy does not permit this caller the program cannot do either: it stays behind the fence of the run, with what it needs to start added. So it reads and writes only files that some permit is about, and starts only programs that a permit without a condition lets run, where no forbid concerns `execute`.",
    body: &with3(
        exec,
        [param("program", "The program, an absolute path."), param("arguments", "Its arguments, an array."), param("options", "")],
    ),
    asks: &[ask::<Execute>(), ask::<super::file_stat::Stat>()],
    fails: FAILS,
    examples: &[
        Example { given: &[], script: r#"exec("/bin/echo", ["hello", "world"]).stdout"#, gives: r#""hello world\n""# },
        Example { given: &[("f", "")], script: r#"exec("/bin/ls", [dir], #{cwd: dir, check: true}).status"#, gives: "0" },
        Example { given: &[], script: r#"exec("/bin/cat", [], #{stdin: "through"}).stdout"#, gives: r#""through""# },
        Example { given: &[], script: r#"exec("/bin/false").status"#, gives: "1" },
    ],
};

const EXEC_STREAM: Function = Function {
    name: "exec_stream",
    doc: "Runs a program and gives each line of its output to the closure as it comes, without the newline.\n\nWrite `exec_stream(program, arguments, |line| …)` or with options before the closure. When the closure returns `false` the program is asked to end (SIGTERM, then SIGKILL). The policy is asked as by [exec].\n\nA map as that of [exec] without `stdout`, with `lines` (how many) and `stopped` (whether the closure did).",
    body: &with4(
        exec_stream,
        [
            param("program", "The program, an absolute path."),
            param("arguments", "Its arguments, an array."),
            param("options", ""),
            param("closure", "What is done with each line."),
        ],
    ),
    asks: &[ask::<Execute>(), ask::<super::file_stat::Stat>()],
    fails: &[
        Kind::NotFound,
        Kind::NotAFile,
        Kind::NotADirectory,
        Kind::Permission,
        Kind::BadData,
        Kind::TooLarge,
        Kind::NotText,
        Kind::Busy,
        Kind::Timeout,
        Kind::ProgramFailed,
        Kind::Unavailable,
        Kind::Unsupported,
    ],
    examples: &[
        Example {
            given: &[],
            script: "let all = [];\nexec_stream(\"/bin/cat\", [], #{stdin: \"a\\nb\", cwd: dir}, |line| { all.push(line); });\nall",
            gives: r#"["a", "b"]"#,
        },
        Example { given: &[], script: r#"exec_stream("/usr/bin/yes", [], |line| false).stopped"#, gives: "true" },
    ],
};

const PIPELINE: Function = Function {
    name: "pipeline",
    doc: "Runs programs of which each reads what the one before it writes.\n\nEach is an array: the program, then its arguments. The policy is asked about all of them, as by [exec], before the first starts; `context.stdin` of the second and later ones is true.\n\nA map as that of [exec] of the last program, with `statuses` (the `exit_code` of each) and the stderr of all in one. `ok`: each exited with 0, or was ended by SIGPIPE because the next had enough.",
    body: &with2(pipeline, [param("programs", "Arrays of program and arguments."), param("options", "")]),
    asks: &[ask::<Execute>(), ask::<super::file_stat::Stat>()],
    fails: FAILS,
    examples: &[
        Example {
            given: &[],
            script: r#"pipeline([["/bin/echo", "b a"], ["/usr/bin/tr", " ", "\n"], ["/usr/bin/sort"]], #{cwd: dir}).stdout"#,
            gives: r#""a\nb\n""#,
        },
        Example { given: &[], script: r#"pipeline([["/usr/bin/yes"], ["/usr/bin/head", "-n1"]]).statuses"#, gives: "[-13, 0]" },
    ],
};

fn broker<'a>(call: &'a Call<'_>) -> Result<&'a crate::sys::broker::Broker> {
    call.host.broker.as_deref().ok_or_else(|| Error::new(Kind::Unsupported, "programs cannot be run in this way of running a script"))
}

/// Bytes of output, kept up to a limit.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn add(&mut self, bytes: &[u8], limit: u64) {
        let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(self.bytes.len());
        self.truncated |= bytes.len() > room;
        self.bytes.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
    }
    fn value(self, binary: bool) -> Dynamic {
        if binary {
            return self.bytes.into_script();
        }
        String::from_utf8(self.bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()).into_script()
    }
    fn lossy(&self) -> bool {
        std::str::from_utf8(&self.bytes).is_err()
    }
}

fn exec(call: &Call<'_>, program: AbsPath, arguments: Arguments, options: ExecOptions) -> Result<Map> {
    let how = How {
        env: &options.env,
        cwd: options.cwd.as_ref(),
        user: options.user.as_ref(),
        group: options.group.as_ref(),
        capabilities: &options.capabilities,
        secret: &options.secret,
    };
    let prepared = [prepare(call, &program, arguments, &how, options.stdin.is_some())?];
    let (mut out, mut err) = (Kept::default(), Kept::default());
    let began = Instant::now();
    let ended = run(call, &prepared, options.stdin.as_ref(), options.merge_stderr, options.timeout, &mut |which, bytes| {
        match which {
            Output::Stdout => out.add(bytes, options.max_output),
            Output::Stderr => err.add(bytes, options.max_output),
        }
        Ok(true)
    })?;
    let [ended] = ended.as_slice() else { return Err(Error::new(Kind::Internal, "a program without an end")) };
    if options.check {
        succeeded(ended, &program)?;
    }
    let mut map = outcome(ended, began);
    results(&mut map, out, err, options.binary);
    Ok(map)
}

/// The third argument of `exec_stream`, which may be left out.
enum Third {
    Options(Box<StreamOptions>),
    Each(FnPtr),
}

impl FromScript for Third {
    const TYPE: &'static str = StreamOptions::TYPE;
    const OPTIONS: Option<&'static [OptionRow]> = StreamOptions::OPTIONS;
    fn absent() -> Option<Self> {
        StreamOptions::absent().map(|options| Self::Options(Box::new(options)))
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        match value.clone().try_cast::<FnPtr>() {
            Some(each) => Ok(Self::Each(each)),
            None => StreamOptions::from_script(value).map(|options| Self::Options(Box::new(options))),
        }
    }
}

fn exec_stream(call: &Call<'_>, program: AbsPath, arguments: Arguments, third: Third, closure: Option<FnPtr>) -> Result<Map> {
    let (options, each) = match (third, closure) {
        (Third::Options(options), Some(each)) => (options, each),
        (Third::Each(each), None) => (Box::default(), each),
        (Third::Options(_), None) => return Err(bad_argument("exec_stream: `closure` is missing: expected a closure")),
        (Third::Each(_), Some(_)) => return Err(bad_argument("exec_stream: options: expected a map of options, got closure")),
    };
    let how = How {
        env: &options.env,
        cwd: options.cwd.as_ref(),
        user: options.user.as_ref(),
        group: options.group.as_ref(),
        capabilities: &options.capabilities,
        secret: &options.secret,
    };
    let prepared = [prepare(call, &program, arguments, &how, options.stdin.is_some())?];
    let began = Instant::now();
    let mut lines = Lines { call, each, options: &options, rest: Vec::new(), count: 0, stopped: false };
    let mut err = Kept::default();
    let ended = run(call, &prepared, options.stdin.as_ref(), options.merge_stderr, options.timeout, &mut |which, bytes| match which {
        Output::Stdout => lines.take(bytes),
        Output::Stderr => {
            err.add(bytes, options.max_output);
            Ok(!lines.stopped)
        }
    })?;
    lines.last()?;
    let [ended] = ended.as_slice() else { return Err(Error::new(Kind::Internal, "a program without an end")) };
    if options.check && !lines.stopped {
        succeeded(ended, &program)?;
    }
    let mut map = outcome(ended, began);
    let truncated = err.truncated;
    map.extend(record([
        ("truncated", truncated.into_script()),
        ("stderr", err.value(false)),
        ("lines", lines.count.into_script()),
        ("stopped", lines.stopped.into_script()),
    ]));
    Ok(map)
}

/// Output cut into lines.
struct Lines<'c, 'h> {
    call: &'c Call<'h>,
    each: FnPtr,
    options: &'c StreamOptions,
    rest: Vec<u8>,
    count: u64,
    stopped: bool,
}

impl Lines<'_, '_> {
    /// Whether the closure wants more.
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.stopped {
                break;
            }
            let (piece, whole) = piece.strip_suffix(b"\n").map_or((piece, false), |line| (line, true));
            if (self.rest.len() + piece.len()) as u64 > self.options.max_line {
                return Err(Error::new(Kind::TooLarge, format!("a line of more than {} bytes", self.options.max_line)));
            }
            self.rest.extend_from_slice(piece);
            if whole {
                self.line()?;
            }
        }
        Ok(!self.stopped)
    }
    /// A last line without an end.
    fn last(&mut self) -> Result<()> {
        if self.rest.is_empty() || self.stopped { Ok(()) } else { self.line() }
    }
    fn line(&mut self) -> Result<()> {
        let text = match String::from_utf8(std::mem::take(&mut self.rest)) {
            Ok(text) => text,
            Err(error) if self.options.lossy => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            Err(_) => {
                return Err(Error::new(Kind::NotText, "a line with bytes that are not UTF-8").with_hint("`lossy: true` replaces them"));
            }
        };
        self.count += 1;
        self.stopped = matches!(self.call.invoke(&self.each, vec![text.into_script()])?.as_bool(), Ok(false));
        Ok(())
    }
}

/// Programs with their arguments.
struct Stages(Vec<(AbsPath, Arguments)>);

/// Most programs in a pipeline.
const STAGES: usize = 16;

impl FromScript for Stages {
    const TYPE: &'static str = "an array of arrays, each a program and its arguments";
    fn from_script(value: Dynamic) -> Result<Self> {
        let stage = |(at, item): (usize, Dynamic)| {
            let place = |error: Error| Error { message: format!("item {at}: {}", error.message), ..error };
            let mut words = Array::from_script(item).map_err(place)?;
            if words.is_empty() {
                return Err(place(bad_argument("a program is missing")));
            }
            let program = AbsPath::from_script(words.remove(0)).map_err(place)?;
            let arguments = Arguments::from_script(Dynamic::from_array(words)).map_err(place)?;
            Ok((program, arguments))
        };
        let stages = Array::from_script(value)?.into_iter().enumerate().map(stage).collect::<Result<Vec<_>>>()?;
        if stages.is_empty() || stages.len() > STAGES {
            return Err(bad_argument(format!("expected 1 to {STAGES} programs, got {}", stages.len())));
        }
        Ok(Self(stages))
    }
}

fn pipeline(call: &Call<'_>, stages: Stages, options: PipelineOptions) -> Result<Map> {
    let how = How {
        env: &options.env,
        cwd: options.cwd.as_ref(),
        user: options.user.as_ref(),
        group: options.group.as_ref(),
        capabilities: &options.capabilities,
        secret: &[],
    };
    let last = stages.0.last().map(|(program, _)| program.clone());
    let prepared = stages
        .0
        .into_iter()
        .enumerate()
        .map(|(at, (program, arguments))| prepare(call, &program, arguments, &how, at > 0 || options.stdin.is_some()))
        .collect::<Result<Vec<_>>>()?;
    let (mut out, mut err) = (Kept::default(), Kept::default());
    let began = Instant::now();
    let ended = run(call, &prepared, options.stdin.as_ref(), false, options.timeout, &mut |which, bytes| {
        match which {
            Output::Stdout => out.add(bytes, options.max_output),
            Output::Stderr => err.add(bytes, options.max_output),
        }
        Ok(true)
    })?;
    let (Some((end, before)), Some(program)) = (ended.split_last(), last) else {
        return Err(Error::new(Kind::Internal, "a pipeline without an end"));
    };
    let had_enough = |ended: &Ended| ended.code == Some(0) || ended.signal == Some(libc::SIGPIPE);
    let ok = end.code == Some(0) && before.iter().all(had_enough);
    if options.check && !ok {
        let failed = if end.code == Some(0) { before.iter().find(|ended| !had_enough(ended)).unwrap_or(end) } else { end };
        return Err(Error::new(Kind::ProgramFailed, told(failed)).with_path(program.shown()));
    }
    let mut map = outcome(end, began);
    results(&mut map, out, err, options.binary);
    let statuses: Array = ended.iter().map(|ended| exit_code(ended).into_script()).collect();
    map.extend(record([("ok", ok.into_script()), ("statuses", Dynamic::from_array(statuses))]));
    Ok(map)
}

/// Starts what was granted, connected to each other, goes along with it to its end, and records for each what became of it.
fn run(
    call: &Call<'_>,
    prepared: &[Prepared],
    stdin: Option<&Content>,
    merge: bool,
    timeout: Duration,
    take: &mut dyn FnMut(Output, &[u8]) -> Result<bool>,
) -> Result<Vec<Ended>> {
    let mut withheld = None;
    for program in prepared.iter().filter(|program| program.granted.held()) {
        withheld = Some(call.withhold(&program.granted, &program.told, None)?);
    }
    if let Some(withheld) = withheld {
        return Err(withheld);
    }
    let began = Instant::now();
    // A time that no clock reaches is none.
    let deadline = began.checked_add(timeout).unwrap_or(began + Duration::from_secs(u64::from(u32::MAX)));
    let done = start(call, prepared, stdin, merge).and_then(|(running, input, outputs)| {
        let set = pipes::Set { running: &running, input, outputs, deadline };
        pipes::drive(set, &|| call.check(), take)
    });
    for (at, program) in prepared.iter().enumerate() {
        let ended = done.as_ref().ok().and_then(|done| done.ended.get(at)).map(told);
        let detail = [program.told.as_str(), ended.as_deref().unwrap_or("no end")].join("; ");
        call.tell(&program.granted, began, done.as_ref().err().map(|error| error.kind), &detail)?;
    }
    let done = done?;
    done.ended.iter().try_for_each(limit)?;
    if done.timed_out {
        let shown = prepared.first().map(|program| program.shown.clone()).unwrap_or_default();
        return Err(pipes::too_long(timeout).with_path(shown));
    }
    Ok(done.ended)
}

type Under<'a> = (Vec<Running>, Option<(OwnedFd, &'a [u8])>, Vec<(Output, OwnedFd)>);

fn start<'a>(call: &Call<'_>, prepared: &[Prepared], stdin: Option<&'a Content>, merge: bool) -> Result<Under<'a>> {
    let (out, out_there) = pipes::pipe()?;
    let mut outputs = vec![(Output::Stdout, out)];
    let err_there = if merge {
        out_there.try_clone()?
    } else {
        let (err, there) = pipes::pipe()?;
        outputs.push((Output::Stderr, err));
        there
    };
    let (mut next, input) = match stdin {
        None => (None, None),
        Some(content) => {
            let (there, here) = pipes::pipe()?;
            (Some(there), Some((here, content.as_bytes())))
        }
    };
    let mut last = Some(out_there);
    let mut running = Vec::with_capacity(prepared.len());
    for (at, program) in prepared.iter().enumerate() {
        let (read, write) = if at + 1 < prepared.len() {
            let (read, write) = pipes::pipe()?;
            (Some(read), write)
        } else {
            (None, last.take().ok_or_else(|| Error::new(Kind::Internal, "two last programs"))?)
        };
        let folder = program.folder.as_ref().and_then(|folder| folder.resource().handle()).map(|handle| handle.as_fd());
        let streams = Streams { folder, stdin: next.as_ref().map(|next| next.as_fd()), stdout: write.as_fd(), stderr: err_there.as_fd() };
        // Of several, none starts after one that could not.
        let check = || call.check();
        let known: Option<&dyn Fn() -> Result<()>> = if prepared.len() > 1 { Some(&check) } else { None };
        running.push(broker(call)?.launch(&program.granted, &program.launch, &streams, known)?);
        // What both ends hold would never end.
        next = read;
    }
    Ok((running, input, outputs))
}

/// What every function gives of a program that ended.
fn outcome(ended: &Ended, began: Instant) -> Map {
    record([
        ("status", ended.code.map(i64::from).into_script()),
        ("signal", ended.signal.map(i64::from).into_script()),
        ("duration", began.elapsed().as_secs_f64().into_script()),
        ("ok", (ended.code == Some(0)).into_script()),
        ("exit_code", exit_code(ended).into_script()),
    ])
}

fn results(map: &mut Map, out: Kept, err: Kept, binary: bool) {
    let (truncated, lossy) = (out.truncated || err.truncated, !binary && (out.lossy() || err.lossy()));
    map.extend(record([
        ("truncated", truncated.into_script()),
        ("lossy", lossy.into_script()),
        ("stdout", out.value(binary)),
        ("stderr", err.value(binary)),
    ]));
}

fn exit_code(ended: &Ended) -> Option<i64> {
    ended.code.or(ended.signal.map(|signal| -signal)).map(i64::from)
}

fn succeeded(ended: &Ended, program: &AbsPath) -> Result<()> {
    if ended.code == Some(0) { Ok(()) } else { Err(Error::new(Kind::ProgramFailed, told(ended)).with_path(program.shown())) }
}

/// How it ended, in words for the record.
fn told(ended: &Ended) -> String {
    let how = match (ended.code, ended.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        _ => "ended".to_owned(),
    };
    if ended.left > 0 { format!("{how}; {} processes it left behind were killed", ended.left) } else { how }
}

/// A limit of the run that the program reached.
fn limit(ended: &Ended) -> Result<()> {
    match ended.limit {
        None => Ok(()),
        Some(Limit::Memory) => Err(Error::new(Kind::Limit, "programs used more memory than the run may")),
        Some(Limit::Children) => Err(Error::new(Kind::Limit, "programs started more processes than the run may have")),
        Some(Limit::Cpu) => Err(Error::new(Kind::Limit, "programs used more processor time than the run may")),
        Some(Limit::FileSize) => Err(Error::new(Kind::Limit, "a program made a file larger than the run may")),
    }
}
