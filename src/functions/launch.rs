//! A program as it is asked for and started: arguments, environment, owner, capabilities, folder. What the policy sees is what it gets.

use super::function::Call;
use super::value::{Array, Dynamic, FromScript, Map};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::policy::{self, Access, Action, Attribute, Granted, Value};
use crate::resource::file::{File, names};
use crate::resource::path::{AbsPath, to_id};
use crate::sys::broker::{Launch, Owner};

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
        attribute(
            "argv0",
            "String",
            true,
            "The name it is called by, as the script gave it: some programs do something else under another name.",
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

/// The arguments of a program: one after the other as it gets them, and as policies see them.
pub struct Arguments {
    argv: Vec<Vec<u8>>,
    seen: policy::Arguments,
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
        Self { argv: Vec::new(), seen: policy::Arguments::default() }
    }
    fn pair(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        self.seen.pair(to_id(&key), to_id(&value))?;
        self.argv.extend([key, value]);
        Ok(())
    }
    fn single(&mut self, argument: Vec<u8>) -> Result<()> {
        self.seen.single(to_id(&argument))?;
        self.argv.push(argument);
        Ok(())
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

/// How a program is to run, whichever function asks for it.
pub struct How<'a> {
    pub env: &'a Map,
    pub cwd: Option<&'a AbsPath>,
    pub user: Option<&'a Dynamic>,
    pub group: Option<&'a Dynamic>,
    pub capabilities: &'a [String],
    /// Positions of arguments that records do not show.
    pub secret: &'a [i64],
}

/// What the policy permitted, and what the program is started with.
pub struct Prepared {
    pub granted: Granted<Execute>,
    pub folder: Option<Granted<super::file_stat::Stat>>,
    pub launch: Launch,
    pub shown: String,
    /// Arguments and owner, for the record.
    pub told: String,
}

/// Longest list of arguments on record.
const TOLD: usize = 2000;

/// Asks the policy. `input`: whether the program is given something to read.
pub fn prepare(call: &Call<'_>, program: &AbsPath, arguments: Arguments, how: &How<'_>, input: bool) -> Result<Prepared> {
    let owner = owner(how.user, how.group)?;
    let (capabilities, capability_names) = capabilities(how.capabilities)?;
    let (environment, variables) = environment(how.env)?;
    let told = told(&arguments, owner.as_ref(), &capability_names, how.secret)?;
    let file = File::locate(program)?;
    let cwd = how.cwd.map(File::locate_dir).transpose()?;
    let own = || Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), groups: Vec::new() };
    let shown = owner.clone().unwrap_or_else(own);
    let account = |word: &'static str, name: Option<String>, number: &'static str, id: u32| {
        Value::Record(vec![(word, Value::String(name.unwrap_or_else(|| id.to_string()))), (number, Value::Long(id.into()))])
    };
    let context = vec![
        ("argv", argv_value(&arguments, how.secret)),
        ("argv0", Value::String(to_id(program.as_bytes()))),
        ("argc", Value::Long(i64::try_from(arguments.argv.len()).unwrap_or(i64::MAX))),
        ("arguments", arguments.seen.object()),
        ("environment", variables),
        ("user", account("username", names().user(shown.uid), "uid", shown.uid)),
        ("group", account("groupname", names().group(shown.gid), "gid", shown.gid)),
        ("capabilities", Value::Set(capability_names.into_iter().map(Value::String).collect())),
        ("cwd", Value::String(cwd.as_ref().map_or_else(|| "/".to_owned(), |folder| to_id(folder.place())))),
        ("stdin", Value::Bool(input)),
    ];
    let folder = cwd.map(|folder| call.permit::<super::file_stat::Stat>(folder)).transpose()?;
    let granted = call.permit_with::<Execute>(file, context)?;
    let mut argv = vec![program.as_bytes().to_vec()];
    argv.extend(arguments.argv);
    Ok(Prepared { granted, folder, launch: Launch { argv, environment, owner, capabilities }, shown: program.shown(), told })
}

/// The arguments as policies see them; where some are secret, records show `***` in their place (which no argument is written as: it would be quoted).
fn argv_value(arguments: &Arguments, secret: &[i64]) -> Value {
    let whole = arguments.seen.quoted(&[]);
    let hidden: Vec<usize> = secret.iter().filter_map(|at| usize::try_from(*at).ok()).collect();
    if hidden.is_empty() { Value::String(whole) } else { Value::Masked(whole, arguments.seen.quoted(&hidden)) }
}

fn told(arguments: &Arguments, owner: Option<&Owner>, capabilities: &[String], secret: &[i64]) -> Result<String> {
    let hidden: Vec<usize> = secret.iter().filter_map(|at| usize::try_from(*at).ok()).filter(|at| *at < arguments.argv.len()).collect();
    if hidden.len() != secret.len() {
        return Err(bad_argument("option `secret`: expected positions of arguments, the first is 0"));
    }
    let mut told = format!("argv: {}", arguments.seen.quoted(&hidden));
    if told.len() > TOLD {
        let end = (0..=TOLD).rev().find(|end| told.is_char_boundary(*end)).unwrap_or(0);
        told.truncate(end);
        told.push('…');
    }
    if let Some(owner) = owner {
        told.push_str(&format!("; uid {} gid {}", owner.uid, owner.gid));
    }
    if !capabilities.is_empty() {
        told.push_str(&format!("; {}", capabilities.join(" ")));
    }
    Ok(told)
}

/// The user and group that a program runs as, if it is not to run as rex does.
fn owner(user: Option<&Dynamic>, group: Option<&Dynamic>) -> Result<Option<Owner>> {
    let number = |value: &Dynamic| value.as_int().ok().and_then(|int| u32::try_from(int).ok()).filter(|id| *id != u32::MAX);
    let text = |value: &Dynamic| value.as_immutable_string_ref().ok().map(|text| text.to_string());
    let unknown = |what: &str| Error::new(Kind::NotFound, format!("there is no such {what} on this host"));
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let own = (rustix::process::geteuid().as_raw(), Some(rustix::process::getegid().as_raw()));
    let (uid, primary) = match user {
        None => own,
        Some(value) => match (number(value), text(value)) {
            (Some(uid), _) => (uid, names().user_entry(uid).map(|user| user.gid)),
            (None, Some(name)) => names().user_named(&name).map(|user| (user.uid, Some(user.gid))).ok_or_else(|| unknown("user"))?,
            _ => return Err(bad_argument("option `user`: expected a name or a number")),
        },
    };
    let gid = match group {
        None => primary.ok_or_else(|| bad_argument("a user without a name needs the option `group` too"))?,
        Some(value) => match (number(value), text(value)) {
            (Some(gid), _) => gid,
            (None, Some(name)) => names().gid_of(&name).ok_or_else(|| unknown("group"))?,
            _ => return Err(bad_argument("option `group`: expected a name or a number")),
        },
    };
    // Who is that already needs no right to become it; root becomes it all the same, without the groups that came with the login.
    Ok(Some(Owner { uid, gid, groups: vec![gid] }).filter(|_| uid == 0 || own != (uid, Some(gid))))
}

/// Bits and names, each of them known.
fn capabilities(asked: &[String]) -> Result<(u64, Vec<String>)> {
    let mut bits = 0;
    let mut named = Vec::new();
    for name in asked {
        let upper = name.to_ascii_uppercase();
        let bit = rustix::thread::CapabilitySet::from_name(upper.strip_prefix("CAP_").unwrap_or(&upper))
            .ok_or_else(|| bad_argument(format!("option `capabilities`: there is no capability `{}`", name.escape_debug())))?;
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
            .map_err(|error| bad_argument(format!("option `env`: `{}`: {}", name.escape_debug(), error.message)))?;
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(bad_argument("option `env`: a name is empty or holds `=`, or something holds a NUL"));
        }
        lines.push(format!("{name}={value}").into_bytes());
        tags.push((name.to_string(), value));
    }
    Ok((lines, policy::environment(tags)))
}
