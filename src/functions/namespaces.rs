//! Entering namespaces of processes: nsenter. It asks for [`MountNamespace`] and [`NetworkNamespace`], and cannot be done behind the fence.

use super::function::{Call, Example, Function, param, with3};
use super::processes::on_process;
use super::value::{Dynamic, FnPtr};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, ask};
use crate::resource::process::Process;

pub const FUNCTIONS: &[Function] = &[NSENTER];

macro_rules! verb {
    ($type:ident $name:literal $doc:literal) => {
        #[doc = concat!("`process_system::Action::\"", $name, "\"`: ", $doc)]
        pub enum $type {}
        impl Action for $type {
            type On = Process;
            const NAMESPACE: &'static str = "process_system";
            const NAME: &'static str = $name;
            const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
            const GROUPS: &'static [&'static str] = &["ProcessAction"];
            const DOC: &'static str = $doc;
            const ACCESS: Access = Access::Change;
        }
    };
}
verb!(MountNamespace "mount_namespace" "Enter its mount namespace.");
verb!(NetworkNamespace "network_namespace" "Enter its network namespace.");

options! {
    /// Options of `nsenter`.
    NsenterOptions {
        mount: bool = false, "Enter its mount namespace.";
        net: bool = false, "Enter its network namespace.";
    }
}

const NSENTER: Function = Function {
    name: "nsenter",
    doc: "Would call the closure in namespaces of a process; no run of this version can, and it is the error `unsupported`.\n\nThe policy is asked first. A run stays in the namespaces that it began in: the fence holds files and addresses by what they are there, and a policy that names `/etc/hostname` means that of the host. A session whose forced command begins in the container (`nsenter -t PID -m -n rex session`, by the host's owner) has policies and a fence that are about the container. The reason is in docs/decisions/namespaces.md.",
    body: &with3(nsenter, [param("pid", "The process id."), param("options", ""), param("closure", "What would be done there.")]),
    asks: &[ask::<MountNamespace>(), ask::<NetworkNamespace>()],
    fails: &[Kind::NotFound, Kind::Unsupported],
    examples: &[Example { given: &[], script: "nsenter(1, #{mount: true, net: true}, || 1)", gives: "" }],
};

fn nsenter(call: &Call<'_>, pid: i64, options: NsenterOptions, closure: Option<FnPtr>) -> Result<Dynamic> {
    if closure.is_none() {
        return Err(bad_argument("nsenter: `closure` is missing: expected a closure"));
    }
    if !options.mount && !options.net {
        return Err(bad_argument("nsenter: which namespace? `#{mount: true}`, `#{net: true}` or both"));
    }
    if options.mount {
        drop(on_process::<MountNamespace>(call, pid, Vec::new())?);
    }
    if options.net {
        drop(on_process::<NetworkNamespace>(call, pid, Vec::new())?);
    }
    Err(Error::new(Kind::Unsupported, "a run stays in the namespaces that it began in")
        .with_hint("a forced command of the host's owner can begin the session in them; docs/decisions/namespaces.md"))
}
