//! `process_system::Process`: a process as it was when it was read, with the attributes that policies name.

use crate::error::{Error, Kind, Result};
use crate::policy::{Attribute, Noun, Resource, Value};
use std::borrow::Cow;

const fn fact(name: &'static str, cedar: &'static str, required: bool, doc: &'static str) -> Attribute {
    Attribute { name, cedar, required, fixed: false, doc }
}

const ATTRIBUTES: &[Attribute] = &[
    fact("name", "String", true, "The name in /proc/PID/comm; the process chooses it."),
    fact("username", "String", true, "The real user's name, or the number where there is no name."),
    fact(
        "command",
        "String",
        true,
        "The arguments joined by blanks, the folder of the program left out; the process chooses them. Empty for threads of the kernel.",
    ),
    fact("pid", "Long", false, "The process id."),
    fact("uid", "Long", false, "The real user's number."),
    fact("euid", "Long", false, "The effective user's number."),
    fact("unit", "String", false, "The systemd unit that it belongs to, if any."),
    fact("container", "String", false, "The container that it belongs to, if any."),
];

pub const PROCESS: Noun =
    Noun { name: "process_system::Process", parents: &[], attributes: ATTRIBUTES, doc: "A process. Its id is the process id." };

/// A process, described. Whoever acts on it later checks `pid` and `start_ticks` again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    id: String,
    pub pid: i64,
    /// Clock ticks after the start of the machine at which it began; with the pid it names one process for ever.
    pub start_ticks: u64,
    pub name: String,
    pub username: String,
    /// As the policy sees it: without the folder of the program.
    pub command: String,
    pub uid: i64,
    pub euid: i64,
    pub unit: Option<String>,
    pub container: Option<String>,
    absent: bool,
}

/// What [`Process::new`] is made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub pid: i64,
    pub start_ticks: u64,
    pub name: &'a str,
    pub username: &'a str,
    pub arguments: &'a [String],
    pub uid: i64,
    pub euid: i64,
    pub unit: Option<&'a str>,
    pub container: Option<&'a str>,
}

impl Process {
    /// This process, with nothing looked at: for a question whose answer is known to be no.
    #[must_use]
    pub fn this() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get().into();
        let nobody =
            Facts { pid, start_ticks: 0, name: "rex", username: "", arguments: &[], uid: -1, euid: -1, unit: None, container: None };
        Self::new(&nobody)
    }
    #[must_use]
    pub fn new(facts: &Facts<'_>) -> Self {
        Self {
            id: facts.pid.to_string(),
            pid: facts.pid,
            start_ticks: facts.start_ticks,
            name: facts.name.to_owned(),
            username: facts.username.to_owned(),
            command: without_folder(&facts.arguments.join(" ")),
            uid: facts.uid,
            euid: facts.euid,
            unit: facts.unit.map(str::to_owned),
            container: facts.container.map(str::to_owned),
            absent: false,
        }
    }
    /// A number that no process has, or none that this user is shown. The policy is asked all the same, so that who may do nothing learns nothing.
    #[must_use]
    pub fn absent(pid: i64) -> Self {
        let nobody = Facts { pid, start_ticks: 0, name: "", username: "", arguments: &[], uid: -1, euid: -1, unit: None, container: None };
        Self { absent: true, ..Self::new(&nobody) }
    }
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        self.absent
    }
}

/// A command line without the folder of its first word, as policies for the reference are written.
fn without_folder(command: &str) -> String {
    let (first, rest) = command.split_at(command.find(' ').unwrap_or(command.len()));
    let name = first.rsplit('/').next().unwrap_or(first);
    format!("{name}{rest}")
}

impl Resource for Process {
    const NOUNS: &'static [Noun] = &[PROCESS];
    // Not the command line: people put passwords there.
    const RECORDED: &'static [&'static str] = &["name", "username", "unit"];

    fn noun(&self) -> &'static Noun {
        &PROCESS
    }
    fn id(&self) -> &str {
        &self.id
    }
    fn shown(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.id)
    }
    fn each_ancestor(&self, _: &mut dyn FnMut(&'static str, &str)) {}
    fn attribute(&self, name: &str) -> Result<Option<Value>> {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        Ok(match name {
            "name" => text(&self.name),
            "username" => text(&self.username),
            "command" => text(&self.command),
            "pid" => Some(Value::Long(self.pid)),
            "uid" => Some(Value::Long(self.uid)),
            "euid" => Some(Value::Long(self.euid)),
            "unit" => self.unit.as_deref().and_then(text),
            "container" => self.container.as_deref().and_then(text),
            _ => None,
        })
    }
    fn obstacle(&self) -> Option<Error> {
        self.absent.then(|| Error::new(Kind::NotFound, format!("there is no process {}", self.pid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_to_policies_without_the_folder_of_the_program() {
        assert_eq!(without_folder("/usr/sbin/sshd -D /etc/x"), "sshd -D /etc/x");
        assert_eq!(without_folder("sh"), "sh");
        assert_eq!(without_folder(""), "");
    }
}
