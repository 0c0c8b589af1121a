//! Environments of processes and services. Names are asked for as [`ListEnvironment`], values as [`ReadEnvironment`]; no value is ever on record.

use super::function::{Call, Example, Function, param, with2};
use super::processes::on_process;
use super::service::{See, on_unit};
use super::value::{Array, IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Access, Action, Granted, ask};
use crate::resource::process::Process;
use crate::sys::proc::details;
use crate::sys::proc::process::Table;

pub const FUNCTIONS: &[Function] = &[ENV_OF_PROCESS, ENV_OF_SERVICE];

/// `process_system::Action::"list_environment"`: see the names in a process's environment.
pub enum ListEnvironment {}
impl Action for ListEnvironment {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "list_environment";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &["ProcessAction"];
    const DOC: &'static str = "See the names of the variables in its environment, not their values.";
    const ACCESS: Access = Access::ReadOnly;
}

/// `process_system::Action::"read_environment"`: see the values too. In no group: people put passwords there.
pub enum ReadEnvironment {}
impl Action for ReadEnvironment {
    type On = Process;
    const NAMESPACE: &'static str = "process_system";
    const NAME: &'static str = "read_environment";
    const APPLIES_TO: &'static [&'static str] = &["process_system::Process"];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "See the values of the variables in its environment. They often are secrets.";
    const ACCESS: Access = Access::ReadOnly;
}

options! {
    /// Options of functions that show an environment.
    EnvironmentOptions {
        values: bool = false, "A map from names to values instead of an array of names. It asks for `read_environment` instead of `list_environment`.";
    }
}

const ENV_OF_PROCESS: Function = Function {
    name: "env_of_process",
    doc: "The names of the variables in the environment of a process: an array, sorted. With `values`, a map.\n\nThe environment is the one that the program was started with; what it changed since is mostly not seen. Values are on no record.",
    body: &with2(env_of_process, [param("pid", "The process id."), param("options", "")]),
    asks: &[ask::<ListEnvironment>(), ask::<ReadEnvironment>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: "env_of_process(1).len() >= 0", gives: "" },
        Example { given: &[], script: "env_of_process(1, #{values: true}).len() >= 0", gives: "" },
    ],
};

fn env_of_process(call: &Call<'_>, pid: i64, options: EnvironmentOptions) -> Result<super::value::Dynamic> {
    if options.values {
        let (granted, ..) = on_process::<ReadEnvironment>(call, pid, Vec::new())?;
        return pairs(&granted).map(IntoScript::into_script);
    }
    let (granted, ..) = on_process::<ListEnvironment>(call, pid, Vec::new())?;
    names(&granted).map(IntoScript::into_script)
}

/// The lines `NAME=value` of a granted process.
fn lines<A: Action<On = Process>>(granted: &Granted<A>) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let all = details::environment(&Table::open()?, granted)?;
    all.ok_or_else(|| Error::new(Kind::NotFound, format!("process {} has ended", granted.resource().pid)))
}

fn names<A: Action<On = Process>>(granted: &Granted<A>) -> Result<Array> {
    let mut names: Vec<Vec<u8>> = lines(granted)?.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    Ok(names.iter().map(|name| name_value(name)).collect())
}

fn pairs<A: Action<On = Process>>(granted: &Granted<A>) -> Result<Map> {
    // Of a name that is there twice getenv(3) gives the first.
    let mut map = Map::new();
    for (name, value) in lines(granted)? {
        map.entry(String::from_utf8_lossy(&name).as_ref().into()).or_insert_with(|| name_value(&value));
    }
    Ok(map)
}

const ENV_OF_SERVICE: Function = Function {
    name: "env_of_service",
    doc: "The environment of a service: of its main process, as it was started.\n\nA map: `unit`, `pid`, `names` (an array, sorted), `files` (environment files that its unit names); with `values` also `values`, a map from names to values. Asks for `status` on the unit and for `list_environment` on its main process, with `values` for `read_environment` too. Values are on no record. A service that does not run is the error `not_found`.",
    body: &with2(env_of_service, [param("name", "The unit; `nginx` means `nginx.service`."), param("options", "")]),
    asks: &[ask::<See>(), ask::<ListEnvironment>(), ask::<ReadEnvironment>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::Timeout, Kind::Unavailable, Kind::Unsupported],
    examples: &[
        Example { given: &[], script: r#"env_of_service("dbus").names.len() >= 0"#, gives: "" },
        Example { given: &[], script: r#"env_of_service("dbus", #{values: true}).values.len() >= 0"#, gives: "" },
    ],
};

fn env_of_service(call: &Call<'_>, name: String, options: EnvironmentOptions) -> Result<Map> {
    let (unit, pid, files) = on_unit::<See, _>(call, &name, |systemd, unit| {
        let status = systemd.status(unit)?;
        Ok((unit.name().to_owned(), status.running.main_pid, systemd.environment_files(unit)?))
    })?;
    let pid = pid.and_then(|pid| i64::try_from(pid).ok());
    let pid = pid.ok_or_else(|| Error::new(Kind::NotFound, "the unit has no main process now"))?;
    let (granted, ..) = on_process::<ListEnvironment>(call, pid, Vec::new())?;
    let mut map = record([
        ("unit", unit.into_script()),
        ("pid", pid.into_script()),
        ("names", names(&granted)?.into_script()),
        ("files", files.into_script()),
    ]);
    if options.values {
        let (granted, ..) = on_process::<ReadEnvironment>(call, pid, Vec::new())?;
        map.insert("values".into(), pairs(&granted)?.into_script());
    }
    Ok(map)
}
