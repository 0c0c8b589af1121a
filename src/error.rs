//! What can go wrong: one error type, and the table of its kinds (name in scripts, class in results, exit code, meaning).

use std::fmt;

/// The class of a failed run, `error_type` in results. Never guessed from text: it follows from the [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    AccessDenied,
    Script,
    Validation,
    Communication,
    Internal,
    Limit,
}

impl Class {
    /// The word in results, e.g. `ACCESS_DENIED_EXCEPTION`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "ACCESS_DENIED_EXCEPTION",
            Self::Script => "SCRIPT_EXCEPTION",
            Self::Validation => "VALIDATION_EXCEPTION",
            Self::Communication => "COMMUNICATION_EXCEPTION",
            Self::Internal => "INTERNAL_EXCEPTION",
            Self::Limit => "LIMIT_EXCEPTION",
        }
    }
}

/// The exit codes of rex, the same everywhere. Never 126–129, 254, 255 or above 130: shells and ssh use those themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    ScriptFailed = 1,
    Usage = 2,
    DoesNotCompile = 65,
    FacilityMissing = 69,
    Internal = 70,
    Transient = 75,
    Denied = 77,
    ConfigInvalid = 78,
    NeedsApproval = 79,
    Deadline = 124,
    Limit = 125,
    Cancelled = 130,
}

/// What each exit code means, for manuals.
pub const EXITS: &[(Exit, &str)] = &[
    (Exit::Ok, "ok"),
    (Exit::ScriptFailed, "the script failed"),
    (Exit::Usage, "bad request or usage"),
    (Exit::DoesNotCompile, "the script does not compile"),
    (Exit::FacilityMissing, "a facility of the host is missing"),
    (Exit::Internal, "internal error"),
    (Exit::Transient, "transient; try again"),
    (Exit::Denied, "denied by policy"),
    (Exit::ConfigInvalid, "policy or configuration invalid; nothing ran"),
    (Exit::NeedsApproval, "needs approval"),
    (Exit::Deadline, "time limit"),
    (Exit::Limit, "another limit"),
    (Exit::Cancelled, "cancelled: the caller went away, or a signal"),
];

/// One row of the table of kinds.
struct Row {
    kind: Kind,
    name: &'static str,
    class: Class,
    exit: Exit,
    doc: &'static str,
}

/// Stands in for a row that cannot be missing.
const FAULT: &Row = &Row { kind: Kind::Internal, name: "internal", class: Class::Internal, exit: Exit::Internal, doc: "" };

macro_rules! kinds {
    ($($kind:ident $name:literal $class:ident $exit:ident $doc:literal;)*) => {
        /// What went wrong, as a closed list; scripts see its [`name`](Kind::name) as `e.kind`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $(#[doc = $doc] $kind,)* }
        const ROWS: &[Row] = &[$(Row { kind: Kind::$kind, name: $name, class: Class::$class, exit: Exit::$exit, doc: $doc },)*];
    };
}

kinds! {
    Denied "denied" AccessDenied Denied "The policy of this host does not allow it.";
    NeedsApproval "needs_approval" AccessDenied NeedsApproval "The policy asks for somebody's approval first.";
    NotFound "not_found" Script ScriptFailed "There is no such thing.";
    Exists "exists" Script ScriptFailed "It is there already.";
    NotADirectory "not_a_directory" Script ScriptFailed "A directory was needed.";
    IsADirectory "is_a_directory" Script ScriptFailed "A directory is no fit here.";
    NotEmpty "not_empty" Script ScriptFailed "The directory is not empty.";
    NotAFile "not_a_file" Script ScriptFailed "A regular file was needed (not a FIFO, socket or device).";
    NotText "not_text" Script ScriptFailed "The bytes are not UTF-8 text.";
    TooLarge "too_large" Script ScriptFailed "Larger than the limit that the call gave.";
    BadData "bad_data" Script ScriptFailed "The data does not have the form it should have.";
    BadArgument "bad_argument" Script ScriptFailed "An argument or option of the call is wrong.";
    Permission "permission" Script ScriptFailed "The operating system refuses it to this Unix user (the policy did not).";
    NoSpace "no_space" Script ScriptFailed "The filesystem or quota is full.";
    ReadOnly "read_only" Script ScriptFailed "The filesystem is read-only.";
    Busy "busy" Script ScriptFailed "In use by something else.";
    Io "io" Script ScriptFailed "The operating system reported an error; `errno` says which.";
    Changed "changed" Script ScriptFailed "The thing was replaced between the decision and the deed; nothing was done.";
    JobFailed "job_failed" Script ScriptFailed "The service manager's job did not succeed.";
    ProgramFailed "program_failed" Script ScriptFailed "A program ended with another exit code than 0, or by a signal.";
    Timeout "timeout" Script Transient "It took longer than the call allowed.";
    Unavailable "unavailable" Script Transient "Not reachable now; it may be later.";
    Unsupported "unsupported" Script FacilityMissing "This host lacks the facility.";
    Script "script" Script ScriptFailed "The script failed or threw a value of its own.";
    Compile "compile" Script DoesNotCompile "The script does not compile.";
    Usage "usage" Validation Usage "The request or command line is wrong.";
    Arguments "arguments" Validation Usage "The script's arguments are wrong.";
    Incomplete "incomplete" Communication Usage "The script did not arrive whole.";
    Communication "communication" Communication Usage "Input could not be read or output not written.";
    Config "config" Validation ConfigInvalid "The policy or configuration of this host is invalid; nothing ran.";
    Audit "audit" Internal ConfigInvalid "The audit record could not be written, so nothing was done.";
    Layer "layer" Internal FacilityMissing "A demanded layer of protection is missing on this host.";
    DryRun "dry_run" Script ScriptFailed "A dry run stops here: what was allowed would change something.";
    Deadline "deadline" Limit Deadline "The time limit of the run was reached.";
    Limit "limit" Limit Limit "A limit of the run was reached.";
    Cancelled "cancelled" Communication Cancelled "The caller went away or the run was stopped from outside.";
    Internal "internal" Internal Internal "A fault in rex itself.";
}

impl Kind {
    fn row(self) -> &'static Row {
        // ROWS is made from the same list as the enum, so there always is one.
        ROWS.iter().find(|row| row.kind == self).unwrap_or(FAULT)
    }
    /// The word that scripts and results see.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }
    /// The class of a run that ends with it.
    #[must_use]
    pub fn class(self) -> Class {
        self.row().class
    }
    /// The exit code of a run that ends with it.
    #[must_use]
    pub fn exit(self) -> Exit {
        self.row().exit
    }
    /// One sentence for manuals.
    #[must_use]
    pub fn doc(self) -> &'static str {
        self.row().doc
    }
    /// All kinds, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.kind)
    }
}

/// Why the policy said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A `forbid` applies.
    Forbidden,
    /// No `permit` concerns it.
    NotPermitted,
    /// A `permit` concerns it, but one of its conditions does not hold.
    ConditionFailed,
    /// A policy failed while being evaluated.
    PolicyError,
}

impl Why {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::NotPermitted => "not_permitted",
            Self::ConditionFailed => "condition_failed",
            Self::PolicyError => "policy_error",
        }
    }
    /// The reason with this name, as records have it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Forbidden, Self::NotPermitted, Self::ConditionFailed, Self::PolicyError].into_iter().find(|why| why.name() == name)
    }
}

/// A part of a policy that was not met, in the words of its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// As written in the policy.
    pub condition: String,
    /// `file:line:column`.
    pub at: String,
}

/// The permit nearest to a denied question, where its author reveals it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// Its id.
    pub policy: String,
    /// What of it was not met. Where it looks at the thing's own attributes: every such part, whatever the attributes are, so that nobody learns
    /// from it whether the thing is there.
    pub unmet: Vec<Unmet>,
}

/// A denial, as data for a program to act on. Only the policy author's words and the caller's own are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub why: Why,
    /// Cedar notation, e.g. `file_system::Action::"read"`.
    pub action: String,
    /// Cedar notation; for paths the spelling the script used, so that a denial tells nothing about links.
    pub resource: String,
    pub principal: String,
    /// From the policy author's `@hint`.
    pub hint: Option<String>,
    /// The policy that forbids it, where its author reveals it.
    pub policy: Option<String>,
    pub nearest: Option<Nearest>,
    /// Whether trying the same again later can help (a condition on time, say).
    pub retry: bool,
    /// Names this denial in the records; `rex why REF` resolves it.
    pub reference: String,
}

/// An error: its kind, a sentence, and the data that goes with it.
#[derive(Clone, Debug)]
pub struct Error {
    pub kind: Kind,
    /// Lower case, one line, no full stop. Never holds bytes that came from the host's files.
    pub message: String,
    /// The path concerned, as the script named it.
    pub path: Option<String>,
    pub errno: Option<i32>,
    pub hint: Option<String>,
    pub denial: Option<Box<Denial>>,
}

impl Error {
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: None, errno: None, hint: None, denial: None }
    }
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// The error of a system call: the kind follows from errno, the text is the C library's.
    #[must_use]
    pub fn os(what: &str, errno: i32) -> Self {
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        let text = text.split(" (os error").next().unwrap_or("").to_ascii_lowercase();
        Self { errno: Some(errno), ..Self::new(kind_of_errno(errno), format!("{what}: {text}")) }
    }
    #[must_use]
    pub fn denied(denial: Denial) -> Self {
        let message = format!("{} on {} is not allowed", denial.action, denial.resource);
        Self { hint: denial.hint.clone(), denial: Some(Box::new(denial)), ..Self::new(Kind::Denied, message) }
    }
}

/// errno(3) → kind.
fn kind_of_errno(errno: i32) -> Kind {
    match errno {
        libc::ENOENT | libc::ESRCH => Kind::NotFound,
        libc::EEXIST => Kind::Exists,
        libc::ENOTDIR => Kind::NotADirectory,
        libc::EISDIR => Kind::IsADirectory,
        libc::ENOTEMPTY => Kind::NotEmpty,
        libc::EACCES | libc::EPERM => Kind::Permission,
        libc::ENOSPC | libc::EDQUOT => Kind::NoSpace,
        libc::EROFS => Kind::ReadOnly,
        libc::EBUSY | libc::ETXTBSY => Kind::Busy,
        libc::ETIMEDOUT => Kind::Timeout,
        libc::EINVAL | libc::ENAMETOOLONG => Kind::BadArgument,
        libc::EOPNOTSUPP | libc::ENOSYS => Kind::Unsupported,
        libc::EFBIG | libc::E2BIG => Kind::TooLarge,
        libc::ENOEXEC => Kind::BadData,
        libc::EAGAIN | libc::ECONNREFUSED | libc::ENETUNREACH | libc::EHOSTUNREACH => Kind::Unavailable,
        _ => Kind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(path) = &self.path {
            write!(f, ": {}", path.escape_debug())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<rustix::io::Errno> for Error {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::os("system call", errno.raw_os_error())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::new(Kind::Io, error.to_string()), |errno| Self::os("system call", errno))
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Shorthand for a [`Kind::BadArgument`] error.
#[must_use]
pub fn bad_argument(message: impl Into<String>) -> Error {
    Error::new(Kind::BadArgument, message)
}

/// `1 record`, `2 records`: a number with the word that goes with it.
#[must_use]
pub fn counted(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}
