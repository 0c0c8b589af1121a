//! Running programs: exactly the file, the arguments and the environment that the policy was asked about. They ask for [`Execute`].

use super::function::{Call, Example, Function, param, with3};
use super::value::{Array, Dynamic, FromScript, IntoScript, Map, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Attribute, Granted, Object, Value, ask};
use crate::resource::file::{File, names};
use crate::resource::path::AbsPath;
use crate::sys::broker::{Ended, Launch, Limit, Owner, Running, Streams};
use crate::sys::pipes;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

pub const FUNCTIONS: &[Function] = &[EXEC];

const fn attribute(name: &'static str, cedar: &'static str, required: bool, doc: &'static str) -> Attribute {
    Attribute { name, cedar, required, fixed: true, doc }
}

/// `file_system::Action::"execute"`: run a program.
pub enum Execute {}
impl Action for Execute {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "execute";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File"];
    const GROUPS: &'static [&'static str] = &["SafeIO"];
    const DOC: &'static str = "Run a program.";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] = &[
        attribute("arguments", "file_system::Arguments", true, "Its arguments, as sets and tags."),
        attribute(
            "argv",
            "String",
            true,
            "Its arguments after its own name, in order, quoted as a shell would need them: `-x 'two words'`.",
        ),
        attribute("argc", "Long", true, "How many there are."),
        attribute("environment", "file_system::Environment", true, "Its environment."),
        attribute("user", "{ username: String, uid: Long }", true, "The user it runs as."),
        attribute("group", "{ groupname: String, gid: Long }", true, "The group it runs as."),
        attribute("capabilities", "Set<String>", true, "The capabilities it has, e.g. `CAP_NET_ADMIN`."),
        attribute("cwd", "String", true, "The folder it starts in."),
        attribute("stdin", "Bool", true, "Whether it is given input."),
        attribute("namespace", "{ target_process_id: Long }", false, "The process whose namespaces it runs in."),
    ];
    const NEEDS_OPEN: bool = true;
}

options! {
    /// Options of `exec`.
    ExecOptions {
        env: Map = Map::new(), "The environment: names and values. It is empty otherwise.";
        cwd: Option<AbsPath> = None, "The folder it starts in; `/` if left out.";
        stdin: Option<super::file_write::Content> = None, "What it reads on standard input; nothing (`/dev/null`) if left out.";
        timeout: Duration = Duration::from_secs(60), "Seconds after which it gets SIGTERM, and SIGKILL two seconds later; the call then fails with `timeout`.";
        user: Option<Dynamic> = None, "The user it runs as, by name or number; rex's own if left out. Its primary group comes with it.";
        group: Option<Dynamic> = None, "The group it runs as, by name or number.";
        capabilities: Vec<String> = Vec::new(), "Capabilities it has, e.g. `CAP_NET_ADMIN`. It has no other, as root neither.";
        max_output: u64 = 4 << 20, "Bytes kept of each of stdout and stderr; what is more is left out and `truncated` is true.";
        merge_stderr: bool = false, "Put stderr into stdout, in the order in which it was written.";
        check: bool = false, "Fail with `program_failed` unless it exits with 0.";
    }
}

const EXEC: Function = Function {
    name: "exec",
    doc: "Runs a program and waits for its end. No shell: the arguments reach it as they are.\n\nThe policy is asked about the very file that runs, its arguments in order (`context.argv`), its environment, user, group, capabilities, folder. An argument is a string, an int or a blob; `[name, value]` is two arguments that policies for the reference see as a pair. The environment is empty but for `env`, nothing is inherited, and standard input is empty.\n\nA map: `status` (the exit code, or nothing if a signal ended it), `signal`, `stdout`, `stderr`, `truncated`, `lossy` (some output was not UTF-8 and was replaced), `duration` (seconds), `ok`, `exit_code` (as the reference has it). Another exit code than 0 is no error unless `check`. When the program ends, everything it started is killed too. What policy does not permit this caller the program cannot do either: it stays behind the fence of the run, with what it needs to start added.",
    body: &with3(
        exec,
        [param("program", "The program, an absolute path."), param("arguments", "Its arguments, an array."), param("options", "")],
    ),
    asks: &[ask::<Execute>(), ask::<super::file_stat::Stat>()],
    fails: &[
        Kind::NotFound,
        Kind::NotAFile,
        Kind::Permission,
        Kind::Timeout,
        Kind::ProgramFailed,
        Kind::Unavailable,
        Kind::Unsupported,
        Kind::Limit,
    ],
    examples: &[
        Example { given: &[], script: r#"exec("/bin/echo", ["hello", "world"]).stdout"#, gives: r#""hello world\n""# },
        Example { given: &[("f", "")], script: r#"exec("/bin/ls", [dir], #{cwd: dir, check: true}).status"#, gives: "0" },
        Example { given: &[], script: r#"exec("/bin/cat", [], #{stdin: "through"}).stdout"#, gives: r#""through""# },
        Example { given: &[], script: r#"exec("/bin/false").status"#, gives: "1" },
    ],
};

/// The arguments of a program: one after the other as it gets them, and as policies see them.
pub struct Arguments {
    argv: Vec<Vec<u8>>,
    keys: Vec<String>,
    flags: Vec<String>,
    positional: Vec<String>,
    tags: Vec<(String, String)>,
}

impl FromScript for Arguments {
    const TYPE: &'static str = "an array of arguments";
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
    fn from_script(value: Dynamic) -> Result<Self> {
        let mut arguments = Self::new();
        let items = Array::from_script(value)?;
        for (at, item) in items.into_iter().enumerate() {
            let place = |error: Error| Error { message: format!("item {at}: {}", error.message), ..error };
            if item.is_array() {
                let parts: Vec<Vec<u8>> = Array::from_script(item)?.into_iter().map(word).collect::<Result<_>>().map_err(place)?;
                match <[Vec<u8>; 2]>::try_from(parts) {
                    Ok([key, value]) => arguments.pair(key, value).map_err(place)?,
                    Err(parts) => match <[Vec<u8>; 1]>::try_from(parts) {
                        Ok([single]) => arguments.single(single).map_err(place)?,
                        Err(_) => return Err(place(bad_argument("expected `[name]` or `[name, value]`"))),
                    },
                }
            } else {
                arguments.single(word(item).map_err(place)?).map_err(place)?;
            }
        }
        Ok(arguments)
    }
}

impl Arguments {
    fn new() -> Self {
        Self { argv: Vec::new(), keys: Vec::new(), flags: Vec::new(), positional: Vec::new(), tags: Vec::new() }
    }
    /// A name with its value. What policies could take for something else is refused: they must not see less than the program does.
    fn pair(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        let (name, text) = (crate::resource::path::to_id(&key), crate::resource::path::to_id(&value));
        if text.starts_with('-') {
            return Err(bad_argument(
                "the value of a pair begins with `-`; give name and value as two arguments, so that policies see both",
            ));
        }
        self.tag(name.clone(), text)?;
        self.keys.push(name);
        self.argv.extend([key, value]);
        Ok(())
    }
    fn single(&mut self, argument: Vec<u8>) -> Result<()> {
        let text = crate::resource::path::to_id(&argument);
        let number = self.flags.len() + self.positional.len();
        if text.starts_with("$ARG") || self.keys.contains(&text) {
            return Err(bad_argument("this argument has the name of another one, as policies see them"));
        }
        if !self.tags.iter().any(|(known, _)| *known == text) {
            self.tag(text.clone(), "true".to_owned())?;
        }
        self.tag(format!("$ARG{number}"), text.clone())?;
        if text.starts_with('-') {
            self.flags.push(text)
        } else {
            self.positional.push(text)
        }
        self.argv.push(argument);
        Ok(())
    }
    fn tag(&mut self, name: String, value: String) -> Result<()> {
        if self.tags.iter().any(|(known, _)| *known == name) {
            return Err(bad_argument("a name is given twice; policies could see only one of its values"));
        }
        self.tags.push((name, value));
        Ok(())
    }
    /// As a shell would need it, so that two different lists never read the same.
    fn quoted(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        let quote = |argument: &Vec<u8>| {
            let text = crate::resource::path::to_id(argument);
            if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
        };
        self.argv.iter().map(quote).collect::<Vec<_>>().join(" ")
    }
    fn object(&self) -> Value {
        let set = |items: &[String]| Value::Set(items.iter().cloned().map(Value::String).collect());
        Value::Object(Box::new(Object {
            noun: "file_system::Arguments",
            id: "arguments".to_owned(),
            attributes: vec![("keys", set(&self.keys)), ("flags", set(&self.flags)), ("positional_values", set(&self.positional))],
            tags: self.tags.clone(),
        }))
    }
}

/// One argument.
fn word(value: Dynamic) -> Result<Vec<u8>> {
    let bytes = if value.is_blob() {
        value.into_blob().unwrap_or_default()
    } else if let Ok(int) = value.as_int() {
        int.to_string().into_bytes()
    } else {
        String::from_script(value)?.into_bytes()
    };
    if bytes.contains(&0) {
        return Err(bad_argument("an argument cannot hold a NUL byte"));
    }
    Ok(bytes)
}

/// What the policy is asked, and what the program is started with.
struct Prepared {
    granted: Granted<Execute>,
    folder: Option<Granted<super::file_stat::Stat>>,
    launch: Launch,
}

fn prepare(call: &Call<'_>, program: &AbsPath, arguments: Arguments, options: &ExecOptions) -> Result<Prepared> {
    let owner = owner(options.user.as_ref(), options.group.as_ref())?;
    let (capabilities, capability_names) = capabilities(&options.capabilities)?;
    let (environment, variables) = environment(&options.env)?;
    let file = File::locate(program)?;
    let cwd = options.cwd.as_ref().map(File::locate_dir).transpose()?;
    let own = || Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), groups: Vec::new() };
    let shown = owner.clone().unwrap_or_else(own);
    let context = vec![
        ("argv", Value::String(arguments.quoted())),
        ("argc", Value::Long(i64::try_from(arguments.argv.len()).unwrap_or(i64::MAX))),
        ("arguments", arguments.object()),
        ("environment", variables),
        (
            "user",
            Value::Record(vec![
                ("username", Value::String(names().user(shown.uid).unwrap_or_else(|| shown.uid.to_string()))),
                ("uid", Value::Long(shown.uid.into())),
            ]),
        ),
        (
            "group",
            Value::Record(vec![
                ("groupname", Value::String(names().group(shown.gid).unwrap_or_else(|| shown.gid.to_string()))),
                ("gid", Value::Long(shown.gid.into())),
            ]),
        ),
        ("capabilities", Value::Set(capability_names.into_iter().map(Value::String).collect())),
        ("cwd", Value::String(cwd.as_ref().map_or_else(|| "/".to_owned(), |folder| crate::resource::path::to_id(folder.place())))),
        ("stdin", Value::Bool(options.stdin.is_some())),
    ];
    let folder = cwd.map(|folder| call.permit::<super::file_stat::Stat>(folder)).transpose()?;
    let granted = call.permit_with::<Execute>(file, context)?;
    let mut argv = vec![program.as_bytes().to_vec()];
    argv.extend(arguments.argv);
    Ok(Prepared { granted, folder, launch: Launch { argv, environment, owner, capabilities } })
}

/// The user and group that a program runs as, if it is not to run as rex does.
fn owner(user: Option<&Dynamic>, group: Option<&Dynamic>) -> Result<Option<Owner>> {
    let number = |value: &Dynamic| value.as_int().ok().and_then(|int| u32::try_from(int).ok()).filter(|id| *id != u32::MAX);
    let text = |value: &Dynamic| value.as_immutable_string_ref().ok().map(|text| text.to_string());
    let unknown = |what: &str| Error::new(Kind::NotFound, format!("there is no such {what} on this host"));
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let (uid, primary) = match user {
        None => (rustix::process::geteuid().as_raw(), None),
        Some(value) => {
            let entry = match (number(value), text(value)) {
                (Some(uid), _) => return_entry(uid, names().user_entry(uid).map(|user| user.gid)),
                (None, Some(name)) => names().user_named(&name).map(|user| (user.uid, Some(user.gid))).ok_or_else(|| unknown("user"))?,
                _ => return Err(bad_argument("exec: option `user`: expected a name or a number")),
            };
            entry
        }
    };
    let gid = match group {
        None => primary.ok_or_else(|| bad_argument("exec: a user without a name needs the option `group` too"))?,
        Some(value) => match (number(value), text(value)) {
            (Some(gid), _) => gid,
            (None, Some(name)) => names().gid_of(&name).ok_or_else(|| unknown("group"))?,
            _ => return Err(bad_argument("exec: option `group`: expected a name or a number")),
        },
    };
    Ok(Some(Owner { uid, gid, groups: vec![gid] }))
}

fn return_entry(uid: u32, gid: Option<u32>) -> (u32, Option<u32>) {
    (uid, gid)
}

/// Bits and names, each of them known.
fn capabilities(asked: &[String]) -> Result<(u64, Vec<String>)> {
    let mut bits = 0;
    let mut named = Vec::new();
    for name in asked {
        let upper = name.to_ascii_uppercase();
        let bit = rustix::thread::CapabilitySet::from_name(upper.strip_prefix("CAP_").unwrap_or(&upper))
            .ok_or_else(|| bad_argument(format!("exec: option `capabilities`: there is no capability `{}`", name.escape_debug())))?;
        bits |= bit.bits();
        named.push(format!("CAP_{}", upper.strip_prefix("CAP_").unwrap_or(&upper)));
    }
    Ok((bits, named))
}

/// `NAME=value` lines, and the entity that policies see.
fn environment(map: &Map) -> Result<(Vec<Vec<u8>>, Value)> {
    let mut lines = Vec::new();
    let mut tags = Vec::new();
    for (name, value) in map {
        let value = String::from_script(value.clone())
            .map_err(|error| bad_argument(format!("exec: option `env`: `{}`: {}", name.escape_debug(), error.message)))?;
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(bad_argument("exec: option `env`: a name is empty or holds `=`, or something holds a NUL"));
        }
        lines.push(format!("{name}={value}").into_bytes());
        tags.push((name.to_string(), value));
    }
    let names = Value::Set(tags.iter().map(|(name, _)| Value::String(name.clone())).collect());
    let object = Object { noun: "file_system::Environment", id: "environment".to_owned(), attributes: vec![("names", names)], tags };
    Ok((lines, Value::Object(Box::new(object))))
}

fn broker<'a>(call: &'a Call<'_>) -> Result<&'a crate::sys::broker::Broker> {
    call.host.broker.as_ref().ok_or_else(|| Error::new(Kind::Unsupported, "programs cannot be run in this way of running a script"))
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
}

fn exec(call: &Call<'_>, program: AbsPath, arguments: Arguments, options: ExecOptions) -> Result<Map> {
    let prepared = prepare(call, &program, arguments, &options)?;
    let (mut out, mut err) = (Kept::default(), Kept::default());
    let began = Instant::now();
    let done = call.effect(
        &prepared.granted,
        || {
            let (running, set) = start(call, &prepared, &options)?;
            let running = [running];
            let set = pipes::Set { running: &running, input: set.0, outputs: set.1, deadline: began + options.timeout };
            pipes::drive(set, &|| call.check(), &mut |which, bytes| {
                match which {
                    pipes::Output::Stdout => out.add(bytes, options.max_output),
                    pipes::Output::Stderr => err.add(bytes, options.max_output),
                }
                Ok(true)
            })
        },
        |done| (0, done.ended.first().map(told).unwrap_or_default()),
    )?;
    let Some(ended) = done.ended.first() else { return Err(Error::new(Kind::Internal, "a program without an end")) };
    limit(ended)?;
    if done.timed_out {
        return Err(pipes::too_long(options.timeout).with_path(program.shown()));
    }
    let ok = ended.code == Some(0);
    if options.check && !ok {
        return Err(Error::new(Kind::ProgramFailed, told(ended)).with_path(program.shown()));
    }
    let lossy = std::str::from_utf8(&out.bytes).is_err() || std::str::from_utf8(&err.bytes).is_err();
    let text = |kept: &Kept| String::from_utf8_lossy(&kept.bytes).into_owned().into_script();
    Ok(record([
        ("status", ended.code.map(i64::from).into_script()),
        ("signal", ended.signal.map(i64::from).into_script()),
        ("stdout", text(&out)),
        ("stderr", text(&err)),
        ("truncated", (out.truncated || err.truncated).into_script()),
        ("lossy", lossy.into_script()),
        ("duration", began.elapsed().as_secs_f64().into_script()),
        ("ok", ok.into_script()),
        ("exit_code", ended.code.or(ended.signal.map(|signal| -signal)).map(i64::from).into_script()),
    ]))
}

type Ends<'a> = (Option<(std::os::fd::OwnedFd, &'a [u8])>, Vec<(pipes::Output, std::os::fd::OwnedFd)>);

fn start<'a>(call: &Call<'_>, prepared: &Prepared, options: &'a ExecOptions) -> Result<(Running, Ends<'a>)> {
    let null = crate::sys::broker::null()?;
    let (out, out_there) = pipes::pipe()?;
    let mut outputs = vec![(pipes::Output::Stdout, out)];
    let err_there = if options.merge_stderr {
        out_there.try_clone()?
    } else {
        let (err, there) = pipes::pipe()?;
        outputs.push((pipes::Output::Stderr, err));
        there
    };
    let (stdin, input) = match &options.stdin {
        None => (null, None),
        Some(content) => {
            let (there, here) = pipes::pipe()?;
            (there, Some((here, content.as_bytes())))
        }
    };
    let root;
    let folder = match prepared.folder.as_ref().and_then(|folder| folder.resource().handle()) {
        Some(handle) => handle.as_fd(),
        None => {
            root = crate::sys::broker::root()?;
            root.as_fd()
        }
    };
    let streams = Streams { folder, stdin: stdin.as_fd(), stdout: out_there.as_fd(), stderr: err_there.as_fd() };
    let running = broker(call)?.launch(&prepared.granted, &prepared.launch, &streams)?;
    Ok((running, (input, outputs)))
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
    }
}
