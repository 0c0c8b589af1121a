//! The end of the machine, or a new beginning: reboot ([`Reboot`]) and shutdown ([`Shutdown`]). Neither verb is in any group.

use super::function::{Call, Example, Function, param, with1};
use super::service::moment;
use super::value::{Dynamic, IntoScript, Map, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Granted, ask};
use crate::resource::service::{Manager, SYSTEMD};
use crate::sys::systemd::{Inhibitor, Power, Systemd};
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[REBOOT, SHUTDOWN];

/// `systemd::Action::"reboot"`: start the machine anew. In no group: whoever may do it was given just that.
pub enum Reboot {}
impl Action for Reboot {
    type On = Manager;
    const NAMESPACE: &'static str = "systemd";
    const NAME: &'static str = "reboot";
    const APPLIES_TO: &'static [&'static str] = &[SYSTEMD.name];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "Start the machine anew.";
    const ACCESS: Access = Access::Change;
}

/// `systemd::Action::"shutdown"`: switch the machine off. In no group.
pub enum Shutdown {}
impl Action for Shutdown {
    type On = Manager;
    const NAMESPACE: &'static str = "systemd";
    const NAME: &'static str = "shutdown";
    const APPLIES_TO: &'static [&'static str] = &[SYSTEMD.name];
    const GROUPS: &'static [&'static str] = &[];
    const DOC: &'static str = "Switch the machine off.";
    const ACCESS: Access = Access::Change;
}

options! {
    /// Options of `reboot` and `shutdown`.
    PowerOptions {
        check: bool = false, "Only tell whether it could be done and who stands in the way; nothing happens.";
        delay: Option<Duration> = None, "Have it done in so many seconds, by logind; those who are logged in are told. The call returns at once.";
        cancel: bool = false, "Take back what was scheduled with `delay`, or by shutdown(8).";
    }
}

const FAILS: &[Kind] = &[Kind::Busy, Kind::Permission, Kind::Timeout, Kind::JobFailed, Kind::Unavailable, Kind::Unsupported];

const REBOOT: Function = Function {
    name: "reboot",
    doc: "Starts the machine anew: logind is asked, or systemd where there is no logind.\n\nPrograms that block it (systemd-inhibit(1)) hold it back; that is the error `busy`. The run ends with the machine, so its end may not come to be on record; with `delay` it does.\n\nA map: `action` (`reboot`), `by` (`logind` or `systemd`), `at` (a DateTime; `()` for now), `changed`. With `check`: `action`, `possible` (`yes`, `no`, `challenge`, `na`), `by`, `inhibitors`, an array of maps: `who`, `why`, `mode` (`block` or `delay`), `uid`, `pid`.",
    body: &with1(reboot, [param("options", "")]),
    asks: &[ask::<Reboot>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: "reboot(#{check: true}).possible", gives: "" }],
};

const SHUTDOWN: Function = Function {
    name: "shutdown",
    doc: "Switches the machine off. Who is asked, the options and the result are as for [reboot]; `action` is `shutdown`.",
    body: &with1(shutdown, [param("options", "")]),
    asks: &[ask::<Shutdown>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: "shutdown(#{check: true}).possible", gives: "" }],
};

fn reboot(call: &Call<'_>, options: PowerOptions) -> Result<Map> {
    power::<Reboot>(call, Power::Reboot, "reboot", &options)
}

fn shutdown(call: &Call<'_>, options: PowerOptions) -> Result<Map> {
    power::<Shutdown>(call, Power::Off, "shutdown", &options)
}

fn power<A: Action<On = Manager>>(call: &Call<'_>, power: Power, word: &'static str, options: &PowerOptions) -> Result<Map> {
    if u8::from(options.check) + u8::from(options.cancel) + u8::from(options.delay.is_some()) > 1 {
        return Err(bad_argument(format!("{word}: `check`, `delay` and `cancel` exclude one another")));
    }
    let granted: Granted<A> = call.permit::<A>(Manager)?;
    let check = || call.check();
    let systemd = || Systemd::connect(&check);
    if options.check {
        let possible = systemd()?.can_power(&granted, power)?;
        return Ok(record([
            ("action", word.into_script()),
            ("possible", possible.answer.into_script()),
            ("by", possible.by.name().into_script()),
            ("inhibitors", possible.inhibitors.into_iter().map(inhibitor).collect::<Vec<Map>>().into_script()),
        ]));
    }
    if options.cancel {
        let changed = call.effect(&granted, || systemd()?.unschedule(&granted), |_| (0, "cancel"))?;
        return Ok(record([
            ("action", word.into_script()),
            ("by", "logind".into_script()),
            ("at", Dynamic::UNIT),
            ("changed", changed.into_script()),
        ]));
    }
    if let Some(delay) = options.delay {
        let now = u64::try_from(crate::sys::clock::now_millis()).unwrap_or(0).saturating_mul(1000);
        let at = now.saturating_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX));
        let when = moment(at).ok_or_else(|| bad_argument(format!("{word}: option `delay`: too long")))?;
        call.effect(&granted, || systemd()?.schedule(&granted, power, at), |()| (0, format!("at {when}")))?;
        return Ok(record([
            ("action", word.into_script()),
            ("by", "logind".into_script()),
            ("at", when.into_script()),
            ("changed", true.into_script()),
        ]));
    }
    let by = call.effect(&granted, || systemd()?.power(&granted, power), |by| (0, by.name()))?;
    Ok(record([("action", word.into_script()), ("by", by.name().into_script()), ("at", Dynamic::UNIT), ("changed", true.into_script())]))
}

fn inhibitor(inhibitor: Inhibitor) -> Map {
    record([
        ("who", inhibitor.who.into_script()),
        ("why", inhibitor.why.into_script()),
        ("mode", inhibitor.mode.into_script()),
        ("uid", inhibitor.uid.into_script()),
        ("pid", inhibitor.pid.into_script()),
    ])
}
