//! What the policies of a principal need of the host besides rex's own yes: computed from the policies, so that an account gets that and no more.

use crate::policy::{Bound, Policies};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Verbs on units, and the jobs of systemd that each comes to (org.freedesktop.systemd1(5), "verb" of its polkit details).
const JOBS: &[(&str, &[&str])] = &[
    ("start", &["start"]),
    ("stop", &["stop"]),
    ("restart", &["restart", "try-restart"]),
    ("reload", &["reload"]),
    ("reset_failed", &["reset-failed"]),
];

/// Which units.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Units {
    Any,
    Named(String),
}

/// What the policies need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub jobs: BTreeMap<Units, BTreeSet<&'static str>>,
    pub daemon_reload: bool,
    /// Files of /var/log, which on Debian belong to the group adm.
    pub logs: bool,
    pub journal: bool,
    /// Permitted, and not given by anything here: verbs with what they reach.
    pub beyond: Vec<String>,
}

impl Needs {
    /// From the policies that concern the principal.
    #[must_use]
    pub fn of(policies: &Policies) -> Self {
        let mut needs = Self::default();
        for (verb, jobs) in JOBS {
            for bound in policies.hull("systemd", verb) {
                let units = match bound {
                    Bound::Exactly(name) => Units::Named(name),
                    // A bound by the beginning of a name is none that polkit can hold with certainty here: the gate still does.
                    _ => Units::Any,
                };
                needs.jobs.entry(units).or_default().extend(jobs.iter().copied());
            }
        }
        needs.daemon_reload = !policies.hull("systemd", "daemon_reload").is_empty();
        let reads = ["read", "redacted_read"].iter().flat_map(|verb| policies.hull("file_system", verb));
        needs.logs = reads.into_iter().any(|bound| reaches_logs(&bound));
        needs.journal = !policies.hull("journal", "read").is_empty();
        for verb in ["write", "create", "delete", "move", "chmod", "chown", "set_x_attr"] {
            if !policies.hull("file_system", verb).is_empty() {
                needs.beyond.push(format!("file_system {verb}"));
            }
        }
        for (namespace, verb) in
            [("process_system", "kill"), ("sysctl", "write"), ("systemd", "enable"), ("systemd", "disable"), ("systemd", "mask")]
        {
            if policies.verbs().any(|known| known == (namespace, verb)) && !policies.hull(namespace, verb).is_empty() {
                needs.beyond.push(format!("{namespace} {verb}"));
            }
        }
        needs
    }

    /// A rule of polkit(8) that lets the account do these jobs, without a question; everything else stays as it is on this host.
    #[must_use]
    pub fn polkit_rule(&self, account: &str) -> Option<String> {
        if self.jobs.is_empty() && !self.daemon_reload {
            return None;
        }
        let list = |verbs: &BTreeSet<&str>| verbs.iter().map(|verb| format!("\"{verb}\"")).collect::<Vec<_>>().join(", ");
        let any = self.jobs.get(&Units::Any).map(list).unwrap_or_default();
        let named: String = self
            .jobs
            .iter()
            .filter_map(|(units, verbs)| match units {
                Units::Named(name) => Some(format!("        {}: [{}],\n", serde_json::Value::from(name.as_str()), list(verbs))),
                Units::Any => None,
            })
            .collect();
        let reload = if self.daemon_reload {
            "    if (action.id == \"org.freedesktop.systemd1.reload-daemon\") {\n        return polkit.Result.YES;\n    }\n"
        } else {
            ""
        };
        Some(format!(
            "// What the policies of rex permit the account `{account}` to have systemd do. rex asks its policies each time; this is what systemd lets it ask for.\n\
             polkit.addRule(function (action, subject) {{\n    \
             if (subject.user != \"{account}\") {{\n        return polkit.Result.NOT_HANDLED;\n    }}\n{reload}    \
             if (action.id != \"org.freedesktop.systemd1.manage-units\") {{\n        return polkit.Result.NOT_HANDLED;\n    }}\n    \
             var any = [{any}];\n    var named = {{\n{named}    }};\n    \
             var unit = action.lookup(\"unit\");\n    var verbs = any.concat(named.hasOwnProperty(unit) ? named[unit] : []);\n    \
             return verbs.indexOf(action.lookup(\"verb\")) >= 0 ? polkit.Result.YES : polkit.Result.NOT_HANDLED;\n}});\n"
        ))
    }
}

/// Whether something below /var/log can lie within the bound.
fn reaches_logs(bound: &Bound) -> bool {
    let logs = Path::new("/var/log");
    match bound {
        Bound::Anything | Bound::Kind(_) => true,
        Bound::Begins(text) => text.starts_with("/var/log") || "/var/log/".starts_with(text.as_str()),
        Bound::Within(_, id) | Bound::Exactly(id) => {
            Path::new(id).starts_with(logs) || matches!(bound, Bound::Within(..)) && logs.starts_with(id)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::super::texts::POLICIES;
    use super::*;
    use crate::policy::{Scope, Source};

    fn needs(text: &str, group: &str) -> Needs {
        let scope = Scope { name: "agent".into(), groups: vec![group.into()] };
        let sources = [Source { name: "t.cedar".into(), text: text.into() }];
        Needs::of(&Policies::load(&sources, &crate::terms::schema(), &scope, None).unwrap())
    }
    fn shipped(name: &str, group: &str) -> Needs {
        needs(POLICIES.iter().find(|policy| policy.name == name).unwrap().text, group)
    }

    #[test]
    fn an_account_gets_what_its_policy_needs_and_no_more() {
        let restarter = shipped("service-restarter", "restarters");
        let nginx = Units::Named("nginx.service".into());
        assert_eq!(restarter.jobs.into_iter().collect::<Vec<_>>(), [(nginx.clone(), ["restart", "try-restart"].into())]);
        assert!(restarter.journal && !restarter.logs && !restarter.daemon_reload && restarter.beyond.is_empty());
        let oncall = shipped("oncall-read-only", "oncall");
        assert!(oncall.jobs.is_empty() && oncall.logs && oncall.journal && oncall.polkit_rule("agent").is_none());
        let reader = shipped("nginx-oncall", "nginx-oncall");
        assert_eq!(reader.jobs.keys().collect::<Vec<_>>(), [&nginx]);
        // Whom a policy does not concern needs nothing of it.
        assert_eq!(shipped("service-restarter", "others"), Needs::default());
    }

    #[test]
    fn bounds_reach_the_logs_or_not() {
        let reads =
            |resource: &str| needs(&format!("permit(principal, action == file_system::Action::\"read\", resource {resource});"), "g").logs;
        assert!(reads("") && reads("in file_system::Dir::\"/\"") && reads("in file_system::Dir::\"/var/log/nginx\""));
        assert!(reads("== file_system::File::\"/var/log/syslog\""));
        assert!(
            !reads("in file_system::Dir::\"/etc\"")
                && !reads("== file_system::File::\"/var\"")
                && !reads("in file_system::Dir::\"/var/logs\"")
        );
    }

    #[test]
    fn the_rule_names_the_account_its_units_and_their_jobs() {
        let all = needs("permit(principal, action in systemd::Action::\"edit\", resource);", "g");
        assert!(all.daemon_reload && all.jobs.keys().eq([&Units::Any]));
        let rule = needs("permit(principal, action == systemd::Action::\"start\", resource == systemd::Service::\"a.service\");", "g")
            .polkit_rule("agent")
            .unwrap();
        assert!(
            rule.contains("subject.user != \"agent\"") && rule.contains("\"a.service\": [\"start\"],") && rule.contains("var any = [];"),
            "{rule}"
        );
        assert!(!rule.contains("reload-daemon"));
    }
}
