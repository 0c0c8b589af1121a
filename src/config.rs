//! On what terms: one row per setting → struct, default, range, `config/rex.toml`, manual. Pure: text in, settings or a pointed error out.
#![forbid(unsafe_code)]

use crate::error::{Error, Kind, Result};
use crate::limits::Limits;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

mod form;
use form::Form;
pub use probes::{ProbeKind, ProbeSettings, http_parts, socket_address};

/// Where the settings of a host are; `--config FILE` moves them and their siblings.
pub const PATH: &str = "/etc/rex/rex.toml";

/// A kind of evidence about who is asking, in the words of rex.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Evidence {
    /// `--principal` on the owner's line.
    Argument,
    /// A root-owned record of the key under the kernel's audit session.
    Record,
    /// The file of sshd's `ExposeAuthInfo`.
    AuthInfo,
    /// The name of the real uid.
    User,
}
const EVIDENCE: &[(&str, Evidence)] =
    &[("argument", Evidence::Argument), ("record", Evidence::Record), ("auth-info", Evidence::AuthInfo), ("user", Evidence::User)];

/// Whether a permitted verb carries `open` with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Open {
    /// `open` is permitted with the verb unless a policy forbids it.
    Implied,
    /// `open` must be permitted by a policy of its own.
    Explicit,
}
const OPEN: &[(&str, Open)] = &[("implied", Open::Implied), ("explicit", Open::Explicit)];

/// Whether policies must pass their tests before they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum PolicyTests {
    /// A set that fails a test, or has a rule that no test decides, is refused.
    Require,
    /// Tests are run by `rex policy test` only.
    Off,
}
const POLICY_TESTS: &[(&str, PolicyTests)] = &[("require", PolicyTests::Require), ("off", PolicyTests::Off)];

/// What the client must declare before its script counts as whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Complete {
    /// A clean end of input is enough.
    None,
    /// `--end MARKER` or the stronger `--sha256 HEX`.
    End,
    /// `--sha256 HEX`.
    Sha256,
}
const COMPLETE: &[(&str, Complete)] = &[("none", Complete::None), ("end", Complete::End), ("sha256", Complete::Sha256)];

/// What follows when an audit record is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum OnFailure {
    /// The act does not happen.
    Deny,
    /// The act happens, and the lost records are counted.
    Allow,
}
const ON_FAILURE: &[(&str, OnFailure)] = &[("deny", OnFailure::Deny), ("allow", OnFailure::Allow)];

/// A layer of protection by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Layer {
    NoNewPrivs,
    Rlimits,
    Landlock,
    Seccomp,
    Capabilities,
}
const LAYERS: &[(&str, Layer)] = &[
    ("no-new-privs", Layer::NoNewPrivs),
    ("rlimits", Layer::Rlimits),
    ("landlock", Layer::Landlock),
    ("seccomp", Layer::Seccomp),
    ("capabilities", Layer::Capabilities),
];

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Output {
    Human,
    Json,
    PrettyJson,
    Ndjson,
}
const OUTPUT: &[(&str, Output)] =
    &[("human", Output::Human), ("json", Output::Json), ("pretty-json", Output::PrettyJson), ("ndjson", Output::Ndjson)];

/// Which lines a caller sees who may only read redacted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Lines {
    /// Those whose format is in the dictionary.
    Listed,
    /// All, masked.
    All,
}
const LINES: &[(&str, Lines)] = &[("listed", Lines::Listed), ("all", Lines::All)];

/// A named pattern that is replaced in lines which are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mask {
    Token,
    PrivateKey,
    Password,
    Email,
    Ipv4,
    Ipv6,
    CreditCard,
    AwsKey,
    Jwt,
    UrlCredentials,
}
const MASKS: &[(&str, Mask)] = &[
    ("token", Mask::Token),
    ("private_key", Mask::PrivateKey),
    ("password", Mask::Password),
    ("email", Mask::Email),
    ("ipv4", Mask::Ipv4),
    ("ipv6", Mask::Ipv6),
    ("credit_card", Mask::CreditCard),
    ("aws_key", Mask::AwsKey),
    ("jwt", Mask::Jwt),
    ("url_credentials", Mask::UrlCredentials),
];
/// What is secret on every host.
const SECRETS: &[Mask] = &[Mask::Token, Mask::PrivateKey, Mask::Password, Mask::AwsKey, Mask::Jwt, Mask::UrlCredentials];

/// The word of rex.toml for a mask, as redacted text shows it.
#[must_use]
pub fn mask_word(mask: Mask) -> &'static str {
    form::word_of(MASKS, mask)
}

/// On, off, or on where the host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Switch {
    Auto,
    On,
    Off,
}

/// A syslog facility that suits records of access (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub enum Facility {
    Daemon = 3,
    Auth = 4,
    Authpriv = 10,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}
const FACILITY: &[(&str, Facility)] = &[
    ("daemon", Facility::Daemon),
    ("auth", Facility::Auth),
    ("authpriv", Facility::Authpriv),
    ("local0", Facility::Local0),
    ("local1", Facility::Local1),
    ("local2", Facility::Local2),
    ("local3", Facility::Local3),
    ("local4", Facility::Local4),
    ("local5", Facility::Local5),
    ("local6", Facility::Local6),
    ("local7", Facility::Local7),
];

/// The word of rex.toml for a kind of evidence, for records and `rex whoami`.
#[must_use]
pub fn evidence_word(evidence: Evidence) -> &'static str {
    form::word_of(EVIDENCE, evidence)
}

/// The word of rex.toml for a layer, for records and `rex whoami`.
#[must_use]
pub fn layer_word(layer: Layer) -> &'static str {
    form::word_of(LAYERS, layer)
}

/// One setting as manuals show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The table of rex.toml it stands in; empty for the top level.
    pub section: &'static str,
    pub name: &'static str,
    /// What may be written, e.g. `seconds or "5m"`.
    pub accepts: String,
    /// The lowest and highest value, as rex.toml text, where there is a range.
    pub range: Option<(String, String)>,
    /// The default, as rex.toml text.
    pub default: String,
    pub doc: &'static str,
}

/// A table of rex.toml: what the rows of `settings!` give.
trait Section: Default {
    const KEYS: &'static [&'static str];
    /// `None`: no such key. `Some(Err)`: a sentence about what is wrong with the value.
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Option<std::result::Result<(), String>>;
    /// Takes one setting from another table: always, or only if it is the lower one.
    fn take(&mut self, other: &Self, key: &str, only_if_lower: bool);
    fn rows() -> Vec<Row>;
}

// One row: name: type, form, default, range, what it means. The second arm writes the table of a struct that is defined elsewhere.
macro_rules! settings {
    ($(#[$doc:meta])* struct $name:ident $section:literal { $($field:ident: $type:ty, $form:expr, $default:expr, $range:expr, $text:literal;)* } $($sub:ident: $subtype:ty),*) => {
        $(#[$doc])* #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $(#[doc = $text] pub $field: $type,)* $(#[doc = "A table of its own."] pub $sub: $subtype,)* }
        settings! { table $name $section { $($field: $type, $form, $default, $range, $text;)* } $($sub: $subtype),* }
    };
    (table $name:ident $section:literal { $($field:ident: $type:ty, $form:expr, $default:expr, $range:expr, $text:literal;)* } $($sub:ident: $subtype:ty),*) => {
        impl Default for $name { fn default() -> Self { Self { $($field: $default,)* $($sub: Default::default(),)* } } }
        impl Section for $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];
            fn set(&mut self, key: &str, value: &DeValue<'_>) -> Option<std::result::Result<(), String>> {
                match key { $(stringify!($field) => { let form: Form<$type> = $form; Some(form.read_within(value, $range).map(|read| self.$field = read)) })* _ => None }
            }
            fn take(&mut self, other: &Self, key: &str, only_if_lower: bool) {
                match key { $(stringify!($field) => if !only_if_lower || other.$field < self.$field { self.$field = other.$field.clone() },)* _ => {} }
            }
            fn rows() -> Vec<Row> {
                vec![$({ let form: Form<$type> = $form; let range: Option<RangeInclusive<$type>> = $range; let default: $type = $default; Row {
                    section: $section, name: stringify!($field), accepts: form.accepts.clone(), default: (form.write)(&default),
                    range: range.map(|range| ((form.write)(range.start()), (form.write)(range.end()))), doc: $text,
                } }),*]
            }
        }
    };
}

// Below the macro, which it uses.
mod probes;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
const DAY: u64 = 86_400;

settings! {
    /// Every setting of a host. A value of this type has been checked whole.
    struct Config "" {
        identity: Vec<Evidence>, form::words(EVIDENCE, 1), vec![Evidence::User], None,
            "Which evidence says who is asking, in order: the first kind that is present decides, and one that is odd denies. `user` is the real uid, which the kernel vouches for; `argument` is --principal on your forced command, sound only when every way into the account is forced and its shell is /bin/sh; `record` is the key that sshd accepted, kept by root at login under the kernel's audit session (`rex pam-record`, started by pam_exec); `auth-info` can be forged by other processes of the same uid, so list it only on accounts that can do nothing but start rex.";
        login_records: String, form::text(), "/run/rex/logins".into(), None,
            "The folder where `rex pam-record` keeps what sshd said of each login under way, for `record`. Root's alone.";
        open: Open, form::word(OPEN), Open::Implied, None,
            "Whether a permitted verb carries `open` on the file and its folder with it (implied, unless a policy forbids it) or both must be permitted (explicit, for policies brought over from the reference implementation).";
        policy_tests: PolicyTests, form::word(POLICY_TESTS), PolicyTests::Off, None,
            "Whether the policies must pass their tests (policies/*.test.toml and @test) before anything runs: with require, a set is refused (exit 78) when a test fails or when a rule is decided by none; with off, only `rex policy test` runs them. Off as shipped, because policies brought over from elsewhere come without tests; turn it on as soon as yours have them.";
        require_complete: Complete, form::word(COMPLETE), Complete::None, None,
            "What a client must declare so that a script cut off by a dead connection cannot run: nothing, its last line (--end, or --sha256), or its digest (--sha256).";
        read_timeout: Duration, form::span(), seconds(30), Some(seconds(1)..=seconds(DAY)),
            "How long a script may take to arrive. It counts towards the wall clock limit.";
        on_audit_failure: OnFailure, form::word(ON_FAILURE), OnFailure::Deny, None,
            "What happens when an audit record is not accepted: the act does not happen (deny), or it does and the loss is counted (allow).";
        require_layers: Vec<Layer>, form::words(LAYERS, 0), Vec::new(), None,
            "Layers of protection without which nothing runs (exit 69). Where a layer is not listed here, a kernel that lacks it is reported by whoami and the audit.";
        subsystem_output: Output, form::word(OUTPUT), Output::Json, None,
            "The form of results in subsystem sessions, where sshd throws standard error away.";
        allow_writes_to: Vec<String>, form::paths(), Vec::new(), None,
            "Exceptions from the places that are closed to writing whatever a policy says (~/.ssh, shell start-up files, user units and crontabs of the account, rex's own files): absolute paths of files, or of folders with all that is in them. A policy must still permit each write.";
    }
    limits: Limits, groups: BTreeMap<String, GroupLimits>, redaction: RedactionSettings, audit: AuditSettings, containers: ContainerSettings,
    probes: BTreeMap<String, ProbeSettings>, interactive: Interactive, serve: Serve, folder: Folder
}

settings! {
    table Limits "limits" {
        wall: Duration, form::span(), seconds(300), Some(seconds(1)..=seconds(7 * DAY)), "Time from the start of the session to its end.";
        cpu: Duration, form::span(), seconds(300), Some(seconds(1)..=seconds(7 * DAY)), "Processor time of the run and of its programs, together.";
        memory: u64, form::size(), 256 * MIB, Some(32 * MIB..=TIB), "Memory of the run; and the same once more for its programs, together.";
        output: u64, form::size(), 10 * MIB, Some(KIB..=TIB), "What a run may write to its standard output and error.";
        script: u64, form::size(), MIB, Some(1..=256 * MIB), "Length of a script.";
        operations: u64, form::count(), 500_000_000, Some(1_000..=1_000_000_000_000), "Steps of the script engine; a loop with a small body takes about five per turn.";
        depth: u32, form::count32(), 64, Some(4..=512), "Function calls inside one another.";
        file_size: u64, form::size(), 1024 * MIB, Some(KIB..=1024 * TIB), "Size of a file that a run makes or makes longer, itself or by a program. Larger files can be read, changed in place and made shorter.";
        open_files: u32, form::count32(), 256, Some(32..=65_536), "Files that a script holds open at once.";
        children: u32, form::count32(), 16, Some(0..=4_096), "Processes that come of programs, at once; 0: none.";
        denials: u64, form::count(), 1_000, Some(1..=1_000_000_000), "Operations of a run that policy denies: with one more it ends, so that nobody finds out by trying what is there. What a walk leaves out (`ls`, `find`) does not count.";
    }
}

settings! {
    /// What a caller sees of a file whom the policy permits `redacted_read` but not `read`.
    struct RedactionSettings "redaction" {
        lines: Lines, form::word(LINES), Lines::Listed, None,
            "Which lines are shown: those whose format is in the dictionary (listed), or every line that is text (all). The others are `[REDACTED]`. In lines that are shown, marked conversions of the dictionary and the masks are replaced.";
        dictionary: String, form::text(), DICTIONARY.into(), None,
            "The file of formats, one a line in the notation of printf, each for a whole line; # begins a comment. %s is free text, and %!s (any conversion with !) is replaced by `[REDACTED]`. A line that is no format stops redacted reading. A relative path is beside rex.toml. Where this is left at its default and there is no such file, the dictionary of the reference is used if that is there (/etc/opt/rex/rex_redaction.config), else no line is listed; any other file must be there.";
        mask: Vec<Mask>, form::words(MASKS, 0), SECRETS.to_vec(), None,
            "What is replaced in lines that are shown, by `[REDACTED:NAME]`.";
    }
}

/// Where the dictionary of redacted reading is, beside rex.toml.
pub const DICTIONARY: &str = "redaction";

settings! {
    /// Where records go. Every configured place must accept each record.
    struct AuditSettings "audit" {
        syslog: Switch, form::switch(), Switch::Auto, None,
            "RFC 5424 records to the host's syslog socket: true, false, or where there is one (\"auto\"). It is left out where that socket is journald's and records go there natively. For rsyslog on this socket load imuxsock with sysSock.useSpecialParser=\"off\" and sysSock.parseHostname=\"on\", else it takes the header for text.";
        syslog_socket: String, form::text(), "/dev/log".into(), None, "The syslog socket, datagram or stream.";
        facility: Facility, form::word(FACILITY), Facility::Authpriv, None, "The syslog facility. Records of denials have severity warning, others notice.";
        journald: Switch, form::switch(), Switch::Auto, None, "Records to systemd-journald with fields of their own (journalctl REX_RUN=…): true, false, or where there is one (\"auto\").";
        journald_socket: String, form::text(), "/run/systemd/journal/socket".into(), None, "journald's socket for native records.";
        file: String, form::text(), String::new(), None,
            "A file of JSON lines; empty: none. A relative path is beside rex.toml. Unprivileged sessions write it themselves: make its folder root:rexusers with mode 2770.";
        denials: String, form::text(), "/run/rex/denials".into(), None,
            "A folder in which callers find again what they were told of their denials (`rex why`), a file for each account; empty: none. root:rexusers with mode 3770 lets unprivileged sessions use it. Nothing is decided by what is in it, and where it cannot be used runs go on without it.";
        chain: bool, form::bool(), true, None,
            "Whether each record carries a digest over itself and the record before it in its run, and in the file a second one over the record before it there, for `rex audit verify`. Sessions then read the end of the file, and take its lock for the time of one write.";
        anchor_records: u64, form::count(), 1_000, Some(1..=1_000_000_000),
            "After how many records of the file its last link goes to syslog or the journal, so that a file that is written anew is found out. It goes there at the end of each run too.";
        anchor_time: Duration, form::span(), seconds(900), Some(seconds(1)..=seconds(7 * DAY)), "The same in a run that lasts, after this time.";
        keep_scripts: u64, form::size(), 0, Some(0..=16 * MIB),
            "Up to how many bytes of each script are kept in the records, before it runs; 0: none, its digest alone. What is longer is cut and says so. A script can hold secrets; the values of its arguments are never kept.";
    }
}

settings! {
    /// Docker or Podman.
    struct ContainerSettings "containers" {
        socket: String, form::text(), String::new(), None,
            "The Unix socket of Docker's or Podman's API, an absolute path; empty: /run/docker.sock, else /run/podman/podman.sock, where there is one. Scripts reach a few requests of it and no others, as far as a policy permits these.";
    }
}

settings! {
    /// The prompt that a login with a terminal and no request gets.
    struct Interactive "interactive" {
        allow: bool, form::bool(), false, None,
            "Whether a login with a terminal and no request (`ssh host`) gets a prompt at which functions are called one by one, each entry judged, limited and recorded as a run of its own. `interactive = true` at the top of the file says the same. A script never comes from a terminal. sshd must grant the terminal too (PermitTTY).";
        groups: Vec<String>, form::names(), Vec::new(), None,
            "Groups of principals.toml whose members get a prompt; empty: everybody, where `allow` is true.";
        idle: Duration, form::span(), seconds(600), Some(seconds(1)..=seconds(DAY)), "A session ends when nothing was typed at its prompt for so long.";
        total: Duration, form::span(), seconds(8 * 3600), Some(seconds(1)..=seconds(7 * DAY)), "A session ends after so long, whatever it is doing.";
        history: String, form::text(), "/var/lib/rex/history".into(), None,
            "A folder in which what was typed is kept for the one who typed it, a file for each principal of each account; empty: in memory alone, as long as the session. root:rexusers with mode 3770 lets unprivileged sessions use it; where it cannot be used the history is in memory. Entries that begin with a blank are not kept.";
    }
}

settings! {
    /// The embedded SSH server, `rex serve`.
    struct Serve "serve" {
        listen: Vec<String>, form::addresses(), vec!["127.0.0.1:2222".into()], None, "Addresses and ports to listen on.";
        host_key: String, form::text(), "host_key".into(), None, "The server's private key. Here and below a relative path is beside rex.toml.";
        authorized_keys: String, form::text(), "authorized_keys".into(), None, "Public keys that may log in, in the format of sshd(8).";
        max_connections: u32, form::count32(), 64, Some(1..=65_536), "Connections at once.";
        max_sessions: u32, form::count32(), 10, Some(1..=1_024), "Runs at once on one connection.";
        idle_timeout: Duration, form::span(), seconds(300), Some(seconds(1)..=seconds(7 * DAY)), "A connection without a run is closed after this time.";
        login_grace: Duration, form::span(), seconds(30), Some(seconds(1)..=seconds(600)), "A client that has not logged in by then is cut off.";
    }
}

/// The limits that one group sets, `[groups.NAME.limits]`, and which they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupLimits {
    limits: Limits,
    set: Vec<String>,
}

/// The folder of rex.toml; principals.toml, policies/ and scripts/ are in it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);
impl Default for Folder {
    fn default() -> Self {
        Self(Path::new(PATH).parent().map(Path::to_path_buf).unwrap_or_default())
    }
}

impl Config {
    /// Reads the text of a rex.toml. `file` is its path, for messages and for the paths beside it; nothing is opened.
    ///
    /// # Errors
    /// [`Kind::Config`] with `file:line:column`: no TOML, an unknown key (the nearest is named), a value of the wrong form or out of range.
    pub fn parse(text: &str, file: &Path) -> Result<Self> {
        let source = Source { text, file };
        let document = DeTable::parse(text).map_err(|error| source.no_toml(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut config = Self { folder: Folder(file.parent().map(Path::to_path_buf).unwrap_or_default()), ..Self::default() };
        let tables = ["limits", "groups", "redaction", "audit", "containers", "probes", "interactive", "serve"];
        for (key, value) in document.get_ref() {
            match key.get_ref().as_ref() {
                "limits" => drop(source.fill(&mut config.limits, source.table("limits", value)?)?),
                "redaction" => drop(source.fill(&mut config.redaction, source.table("redaction", value)?)?),
                "audit" => drop(source.fill(&mut config.audit, source.table("audit", value)?)?),
                "containers" => drop(source.fill(&mut config.containers, source.table("containers", value)?)?),
                // The short form of `[interactive]` with `allow` alone.
                "interactive" if value.get_ref().as_bool().is_some() => {
                    config.interactive.allow = value.get_ref().as_bool() == Some(true);
                }
                "interactive" => drop(source.fill(&mut config.interactive, source.table("interactive", value)?)?),
                "serve" => drop(source.fill(&mut config.serve, source.table("serve", value)?)?),
                "probes" => {
                    for (name, probe) in source.table("probes", value)? {
                        let wrong =
                            |what: &str| source.error(name.span().start, &format!("`probes.{}`: {what}", name.get_ref().escape_debug()));
                        let mut settings = ProbeSettings::default();
                        source.fill(&mut settings, source.table(name.get_ref(), probe)?)?;
                        probes::check(name.get_ref(), &settings).map_err(|what| wrong(&what))?;
                        config.probes.insert(name.get_ref().to_string(), settings);
                    }
                }
                "groups" => {
                    for (name, group) in source.table("groups", value)? {
                        let mut of_group = GroupLimits::default();
                        for (key, value) in source.table(name.get_ref(), group)? {
                            match key.get_ref().as_ref() {
                                "limits" => of_group.set = source.fill(&mut of_group.limits, source.table("limits", value)?)?,
                                other => return Err(source.unknown(key.span().start, other, ["limits"].into_iter())),
                            }
                        }
                        config.groups.insert(name.get_ref().to_string(), of_group);
                    }
                }
                _ => source.set(&mut config, key, value, &tables)?,
            }
        }
        if !config.containers.socket.is_empty() && !config.containers.socket.starts_with('/') {
            return Err(Error::new(Kind::Config, format!("{}: `containers.socket`: expected an absolute path", file.display())));
        }
        if !config.audit.file.is_empty() {
            // Once for all who use it: from the working directory of a session it would be another file each time.
            let path = config.beside(&config.audit.file).into_os_string().into_string();
            config.audit.file =
                path.map_err(|path| Error::new(Kind::Config, format!("`audit.file`: not UTF-8 text: {}", path.display())))?;
        }
        Ok(config)
    }

    /// The limits of a caller in these groups. A group's own value replaces the one of `[limits]`, up or down; when several groups
    /// of the caller set the same limit the lowest of them holds, so that no second membership undoes what one group restricts.
    #[must_use]
    pub fn limits_for<S: AsRef<str>>(&self, groups: &[S]) -> Limits {
        let mut limits = self.limits.clone();
        let mut seen = Vec::new();
        for group in groups.iter().filter_map(|name| self.groups.get(name.as_ref())) {
            for key in &group.set {
                limits.take(&group.limits, key, seen.contains(&key));
                seen.push(key);
            }
        }
        limits
    }

    /// Whether a caller in these groups gets a prompt.
    #[must_use]
    pub fn gives_a_prompt<S: AsRef<str>>(&self, groups: &[S]) -> bool {
        let named = &self.interactive.groups;
        self.interactive.allow && (named.is_empty() || groups.iter().any(|group| named.iter().any(|name| name == group.as_ref())))
    }

    /// The path that a setting names: absolute as it is, else beside rex.toml.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }
}

/// The text being read, for messages that point into it.
struct Source<'a> {
    text: &'a str,
    file: &'a Path,
}

impl Source<'_> {
    fn error(&self, offset: usize, message: &str) -> Error {
        let before = self.text.get(..offset).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let message = message.trim().replace('\n', ", ");
        Error::new(Kind::Config, format!("{}:{line}:{column}: {message}", self.file.display()))
    }

    /// An error of the TOML parser. Of a bare word as value it knows no more than that it is no number.
    fn no_toml(&self, offset: usize, message: &str) -> Error {
        let before = self.text.get(..offset).unwrap_or("");
        let line = self.text.lines().nth(before.matches('\n').count()).unwrap_or("");
        let setting = line.split_once('=').map(|(key, value)| (key.trim(), value.split('#').next().unwrap_or("").trim()));
        let row = setting.and_then(|(key, _)| manual().into_iter().find(|row| row.name == key));
        match (setting, row) {
            (Some((key, value)), Some(row)) if value.starts_with(|c: char| c.is_alphabetic()) => {
                let value = value.chars().take(60).collect::<String>();
                self.error(offset, &format!("`{key}`: expected {}, not `{}`", row.accepts, value.escape_debug()))
            }
            _ => self.error(offset, message),
        }
    }

    fn unknown<'n>(&self, offset: usize, key: &str, known: impl Iterator<Item = &'n str> + Clone) -> Error {
        let nearest = known.clone().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
        let help = match nearest.filter(|near| strsim::jaro_winkler(near, key) > 0.75) {
            Some(near) => format!("the nearest is `{near}`"),
            None => format!("the keys here are {}", known.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
        };
        self.error(offset, &format!("unknown key `{}`; {help}", key.escape_debug()))
    }

    fn table<'t, 'i>(&self, name: &str, value: &'t Spanned<DeValue<'i>>) -> Result<&'t DeTable<'i>> {
        let wrong = || self.error(value.span().start, &format!("`{}` must be a table", name.escape_debug()));
        value.get_ref().as_table().ok_or_else(wrong)
    }

    /// Sets one key of a table; `tables` are further names that are legal there.
    fn set<S: Section, K: AsRef<str>>(&self, into: &mut S, key: &Spanned<K>, value: &Spanned<DeValue<'_>>, tables: &[&str]) -> Result<()> {
        let name = key.get_ref().as_ref();
        match into.set(name, value.get_ref()) {
            Some(Ok(())) => Ok(()),
            Some(Err(wrong)) => Err(self.error(value.span().start, &format!("`{name}`: {wrong}"))),
            None => Err(self.unknown(key.span().start, name, S::KEYS.iter().chain(tables).copied())),
        }
    }

    /// Sets every key of a table; gives the names that were there.
    fn fill<S: Section>(&self, into: &mut S, table: &DeTable<'_>) -> Result<Vec<String>> {
        for (key, value) in table {
            self.set(into, key, value, &[])?;
        }
        Ok(table.keys().map(|key| key.get_ref().to_string()).collect())
    }
}

/// Every setting, in the order of rex.toml, for manuals.
#[must_use]
pub fn manual() -> Vec<Row> {
    [
        Config::rows(),
        Limits::rows(),
        RedactionSettings::rows(),
        AuditSettings::rows(),
        ContainerSettings::rows(),
        Interactive::rows(),
        Serve::rows(),
    ]
    .concat()
}

/// The names of the limits, in the order of rex.toml.
#[must_use]
pub fn limit_names() -> &'static [&'static str] {
    Limits::KEYS
}

/// config/rex.toml: every setting at its default, with a comment.
#[must_use]
pub fn rex_toml() -> String {
    let mut text = String::from(
        "# The settings of rex on this host, each at its default. An unknown key or a value out of range stops everything (exit 78).\n\
         # This file and every folder above it must be writable by root alone.\n",
    );
    let mut section = "";
    for row in manual() {
        if row.section != section {
            if section == "limits" {
                text.push_str(GROUPS_COMMENT);
            }
            if section == "containers" {
                text.push_str(&probes_comment());
            }
            section = row.section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in wrapped(row.doc) {
            text.push_str(&format!("# {line}\n"));
        }
        let range = row.range.map(|(low, high)| format!(", {low} to {high}")).unwrap_or_default();
        text.push_str(&format!("# Accepts {}{range}.\n{} = {}\n", row.accepts, row.name, row.default));
    }
    text
}

const GROUPS_COMMENT: &str = "\n# A group of principals.toml can have limits of its own, higher or lower; what it leaves out is as above.\n\
    # When several groups of a caller set the same limit, the lowest holds.\n# [groups.agents.limits]\n# wall = \"1m\"\n";

/// The settings of a probe; they stand under a name that the owner chooses.
fn probes_comment() -> String {
    let mut text = String::from(
        "\n# Checks that scripts may have made by name, where a policy permits `probe_system::Action::\"probe\"` on the name. What they need to know\n\
         # (passwords, addresses) stays here.\n# [probes.cache]\n# kind = \"redis\"\n# address = \"127.0.0.1:6379\"\n# password_file = \"/etc/rex/secrets/redis\"\n#\n\
         # The keys of a probe:\n",
    );
    for row in ProbeSettings::rows() {
        text.push_str("#\n");
        for line in wrapped(row.doc) {
            text.push_str(&format!("#   {line}\n"));
        }
        let range = row.range.map(|(low, high)| format!(", {low} to {high}")).unwrap_or_default();
        text.push_str(&format!("#   Accepts {}{range}.\n#   {} = {}\n", row.accepts, row.name, row.default));
    }
    text
}

/// Breaks a sentence into lines of at most 100 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
