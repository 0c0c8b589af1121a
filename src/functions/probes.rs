//! Checks that the owner declares in rex.toml: scripts name them, and learn whether all is well. They ask for [`Check`] on the name.

use super::convert::from_json;
use super::function::{Call, Example, Function, param, with0, with1};
use super::value::{IntoScript, Map, record};
use crate::error::{Error, Kind, Result};
use crate::policy::{Access, Action, ask};
use crate::resource::probe::{PROBE, PROBES, Probe, Probes};
use crate::sys::prober;

pub const FUNCTIONS: &[Function] = &[PROBE_, PROBES_];

/// `probe_system::Action::"probe"`: have a check made.
pub enum Check {}
impl Action for Check {
    type On = Probe;
    const NAMESPACE: &'static str = "probe_system";
    const NAME: &'static str = "probe";
    const APPLIES_TO: &'static [&'static str] = &[PROBE.name];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "Have it made, with what the owner knows and the caller does not.";
    // What a program of the owner's does is not known here.
    const ACCESS: Access = Access::Change;
}

/// `probe_system::Action::"list"`: see which checks there are.
pub enum List {}
impl Action for List {
    type On = Probes;
    const NAMESPACE: &'static str = "probe_system";
    const NAME: &'static str = "list";
    const APPLIES_TO: &'static [&'static str] = &[PROBES.name];
    const GROUPS: &'static [&'static str] = &["view"];
    const DOC: &'static str = "See the names and kinds of the checks that are declared.";
    const ACCESS: Access = Access::ReadOnly;
}

const PROBE_: Function = Function {
    name: "probe",
    doc: "Has a check made that the owner of the host declares in rex.toml as `[probes.NAME]`: a connection, an HTTP request, a program, a Redis server.\n\nA map: `name`, `kind`, `ok`, `problem` (`()` when all is well, else a word: `refused`, `timeout`, `unreachable`, `permission`, `closed`, `protocol`, `status`, `exit_code`, `signal`, `login`, `not_ready`, `not_expected`, `password_file`, `program`), `status` (of HTTP, or the exit code), `seconds`, and `output` where the owner shows it. That something is wrong with what is looked at is no error. What the check needs to know stays on the host: no password is in the result, the records or an error. A host without any probe ends in `unsupported`.",
    body: &with1(probe, [param("name", "Its name in rex.toml.")]),
    asks: &[ask::<Check>()],
    fails: &[Kind::NotFound, Kind::Unsupported, Kind::Unavailable, Kind::Timeout],
    examples: &[Example { given: &[], script: r#"probe("database").ok"#, gives: "" }],
};

const PROBES_: Function = Function {
    name: "probes",
    doc: "The checks that the owner of the host declares: an array of maps with `name` and `kind` (`tcp`, `http`, `command`, `redis`), by name.",
    body: &with0(probes, []),
    asks: &[ask::<List>()],
    fails: &[Kind::Unsupported],
    examples: &[Example { given: &[], script: "probes().map(|p| p.name)", gives: "" }],
};

fn probe(call: &Call<'_>, name: String) -> Result<Map> {
    let granted = call.permit::<Check>(Probe::of(&name)?)?;
    let told = call.effect(
        &granted,
        || prober::probe(&granted, &|| call.check()),
        |told| {
            let problem = told.get("problem").and_then(serde_json::Value::as_str);
            (0, problem.map_or_else(|| "ok".to_owned(), |problem| format!("problem: {problem}")))
        },
    )?;
    from_json(&told)?.try_cast::<Map>().ok_or_else(|| Error::new(Kind::Internal, "an answer that is no map"))
}

fn probes(call: &Call<'_>) -> Result<Vec<Map>> {
    let granted = call.permit::<List>(Probes)?;
    let declared = prober::declared(&granted)?;
    Ok(declared.into_iter().map(|(name, kind)| record([("name", name.into_script()), ("kind", kind.into_script())])).collect())
}
