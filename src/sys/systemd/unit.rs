//! Units as systemd describes them: their state and what is known of their processes.

use super::bus::Properties;

/// What systemd knows about a unit (org.freedesktop.systemd1(5)). Times are microseconds since the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub id: String,
    pub names: Vec<String>,
    pub description: String,
    pub documentation: Vec<String>,
    /// loaded, not-found, bad-setting, error, masked …
    pub load_state: String,
    /// active, reloading, inactive, failed, activating, deactivating …
    pub active_state: String,
    pub sub_state: String,
    /// Since when it has been in its active state.
    pub since_us: Option<u64>,
    pub unit_file: String,
    /// enabled, disabled, static, masked …
    pub unit_file_state: String,
    pub preset: String,
    pub drop_ins: Vec<String>,
    pub need_daemon_reload: bool,
    pub triggers: Vec<String>,
    pub triggered_by: Vec<String>,
    pub requires: Vec<String>,
    pub wants: Vec<String>,
    /// 32 hexadecimal digits; empty when it never ran.
    pub invocation: String,
    /// A job that is under way.
    pub job: bool,
    /// Whether the conditions of the unit file held when it was started last.
    pub conditions_held: bool,
    pub running: Running,
}

/// What only units with processes have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// success, exit-code, signal, timeout, core-dump, watchdog, oom-kill …; empty for kinds without.
    pub result: String,
    /// The service's type: simple, forking, notify …
    pub service_type: String,
    pub restart: String,
    pub main_pid: Option<u64>,
    /// exited, killed or dumped; empty while the main process lives or never ran.
    pub exit_code: &'static str,
    /// The exit status, or the number of the signal.
    pub exit_status: Option<u64>,
    pub main_started_us: Option<u64>,
    pub main_ended_us: Option<u64>,
    pub restarts: Option<u64>,
    /// What the service says about itself (sd_notify(3)).
    pub status_text: String,
    /// Bytes.
    pub memory: Option<u64>,
    pub memory_peak: Option<u64>,
    pub tasks: Option<u64>,
    pub cpu_ns: Option<u64>,
    pub control_group: String,
}

impl Status {
    pub(super) fn of(unit: &Properties, own: Option<&Properties>) -> Self {
        let active_state = unit.text("ActiveState");
        // As systemctl status does: the time that belongs to the state.
        let since = match active_state.as_str() {
            "active" | "reloading" | "refreshing" => "ActiveEnterTimestamp",
            "activating" => "InactiveExitTimestamp",
            "deactivating" => "ActiveExitTimestamp",
            _ => "InactiveEnterTimestamp",
        };
        Self {
            id: unit.text("Id"),
            names: unit.texts("Names"),
            description: unit.text("Description"),
            documentation: unit.texts("Documentation"),
            load_state: unit.text("LoadState"),
            sub_state: unit.text("SubState"),
            since_us: unit.number(since).filter(|at| *at > 0),
            unit_file: unit.text("FragmentPath"),
            unit_file_state: unit.text("UnitFileState"),
            preset: unit.text("UnitFilePreset"),
            drop_ins: unit.texts("DropInPaths"),
            need_daemon_reload: unit.flag("NeedDaemonReload"),
            triggers: unit.texts("Triggers"),
            triggered_by: unit.texts("TriggeredBy"),
            requires: unit.texts("Requires"),
            wants: unit.texts("Wants"),
            invocation: unit.bytes("InvocationID").iter().map(|byte| format!("{byte:02x}")).collect(),
            job: unit.number("JobId").is_some_and(|id| id > 0),
            conditions_held: unit.flag("ConditionResult"),
            running: own.map(Running::of).unwrap_or_default(),
            active_state,
        }
    }
}

impl Running {
    fn of(own: &Properties) -> Self {
        let positive = |name| own.number(name).filter(|number| *number > 0);
        // siginfo's si_code of SIGCHLD, as waitid(2) numbers them.
        let exit_code = match own.number("ExecMainCode") {
            Some(1) => "exited",
            Some(2) => "killed",
            Some(3) => "dumped",
            _ => "",
        };
        Self {
            result: own.text("Result"),
            service_type: own.text("Type"),
            restart: own.text("Restart"),
            main_pid: positive("MainPID"),
            exit_code,
            exit_status: own.number("ExecMainStatus").filter(|_| !exit_code.is_empty()),
            main_started_us: positive("ExecMainStartTimestamp"),
            main_ended_us: positive("ExecMainExitTimestamp"),
            restarts: own.number("NRestarts"),
            status_text: own.text("StatusText"),
            memory: own.number("MemoryCurrent"),
            memory_peak: own.number("MemoryPeak"),
            tasks: own.number("TasksCurrent"),
            cpu_ns: own.number("CPUUsageNSec"),
            control_group: own.text("ControlGroup"),
        }
    }
}

/// The D-Bus interface with the properties of this kind of unit that go beyond those of every unit.
pub(super) fn interface_of(kind: &str) -> Option<String> {
    let first =
        kind.chars().next().filter(|_| kind.bytes().all(|byte| byte.is_ascii_lowercase()) && !matches!(kind, "target" | "device"))?;
    Some(format!("org.freedesktop.systemd1.{}{}", first.to_ascii_uppercase(), kind.get(1..)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn interfaces_follow_the_kind() {
        assert_eq!(interface_of("service").unwrap(), "org.freedesktop.systemd1.Service");
        assert_eq!(interface_of("automount").unwrap(), "org.freedesktop.systemd1.Automount");
        assert_eq!(interface_of("target"), None);
        assert_eq!(interface_of(""), None);
        assert_eq!(interface_of("no.sense"), None);
    }
}
