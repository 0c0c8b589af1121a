//! The table of lints: name, level, what it finds, what is right, an example. docs/policy-lints.md is made from it, and every example is tried.

use std::fmt::Write as _;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The policies are invalid: nothing runs.
    Error,
    /// Most likely not what is meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Level {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// What a lint looks at besides the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Text,
    /// The host that the policies are for.
    Host,
    /// Its principals.toml.
    People,
}

/// A row of the table.
#[derive(Debug)]
pub struct Lint {
    pub name: &'static str,
    pub level: Level,
    pub needs: Needs,
    /// What it finds.
    pub finds: &'static str,
    /// What would be right, for faults whose message does not say it.
    pub mend: &'static str,
    /// Policies in which it finds something; empty where text alone cannot show it.
    pub wrong: &'static str,
    /// The same as it should be.
    pub right: &'static str,
}

/// The lint of this name.
#[must_use]
pub fn lint(name: &str) -> Option<&'static Lint> {
    LINTS.iter().find(|lint| lint.name == name)
}

const fn fault(name: &'static str, finds: &'static str, mend: &'static str, wrong: &'static str, right: &'static str) -> Lint {
    Lint { name, level: Level::Error, needs: Needs::Text, finds, mend, wrong, right }
}

const fn warning(name: &'static str, finds: &'static str, wrong: &'static str, right: &'static str) -> Lint {
    Lint { name, level: Level::Warning, needs: Needs::Text, finds, mend: "", wrong, right }
}

const fn note(name: &'static str, finds: &'static str, wrong: &'static str, right: &'static str) -> Lint {
    Lint { level: Level::Note, ..warning(name, finds, wrong, right) }
}

/// Every lint: faults first, then warnings, then notes.
pub const LINTS: &[Lint] = &[
    fault(
        "untrusted",
        "A file that a session would refuse: somebody else than root can change it or a folder above it, or it cannot be read.",
        "",
        "",
        "",
    ),
    fault(
        "settings",
        "rex.toml, principals.toml or the dictionary of redaction, where a session could not use it. Looked at when no file is named.",
        "",
        "",
        "",
    ),
    fault("too-large", "More than 4 MiB in a file, 64 levels of nesting, or 1,000 operators in a rule.", "", "", ""),
    fault(
        "syntax",
        "Text that is not Cedar, or not UTF-8.",
        "",
        "permit(principal, action resource);",
        "permit(principal, action, resource);",
    ),
    fault(
        "invalid",
        "What strict validation refuses: an action, entity type or attribute that there is not, a comparison of unlike things, an optional attribute without `has`.",
        "",
        "permit(principal, action == file_system::Action::\"raed\", resource);",
        "permit(principal, action == file_system::Action::\"read\", resource);",
    ),
    fault(
        "template",
        "A template. There is nobody to fill it in.",
        "name whom or what instead of `?principal` or `?resource`",
        "permit(principal == ?principal, action, resource);",
        "permit(principal == User::\"alice\", action, resource);",
    ),
    fault(
        "bad-id",
        "An `@id` that is empty or not one line.",
        "",
        "@id(\"\")\npermit(principal, action, resource);",
        "@id(\"all\")\npermit(principal, action, resource);",
    ),
    fault(
        "duplicate-id",
        "An `@id` that another rule has: records could not say which of them decided.",
        "give one of them another id",
        "@id(\"a\")\npermit(principal, action == sysinfo::Action::\"list\", resource);\n@id(\"a\")\nforbid(principal, action == sysctl::Action::\"load\", resource);",
        "@id(\"a\")\npermit(principal, action == sysinfo::Action::\"list\", resource);\n@id(\"b\")\nforbid(principal, action == sysctl::Action::\"load\", resource);",
    ),
    fault(
        "bad-reveal",
        "An `@reveal` with an unknown value.",
        "",
        "@reveal(\"all\")\nforbid(principal, action == sysctl::Action::\"load\", resource);",
        "@reveal(\"rule\")\nforbid(principal, action == sysctl::Action::\"load\", resource);",
    ),
    fault("misplaced-in", "`in` on something whose place in the hierarchy is not known while a rule is judged.", "", "", ""),
    fault("no-policy", "No rule at all.", "", "// nothing", "permit(principal, action, resource);"),
    warning(
        "never-matches",
        "A rule, or an alternative in its condition, that no question can ever match: statements that contradict each other, an empty set, an action that does not apply to such a thing, a time of day before and after itself. A forbid of that kind protects nothing.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/etc\")\nwhen { resource.path like \"/var/log/*\" };",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\");",
    ),
    warning(
        "expired",
        "A rule whose time is over.",
        "permit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource == systemd::Service::\"nginx.service\")\nwhen { context.session.now < datetime(\"2020-01-01\") };",
        "permit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource == systemd::Service::\"nginx.service\")\nwhen { context.session.now < datetime(\"9999-01-01\") };",
    ),
    warning(
        "always-true",
        "A condition that holds wherever the rule's scope does.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv\")\nwhen { resource.path like \"/srv*\" };",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv\");",
    ),
    warning(
        "shadowed",
        "A permit that never counts, because a forbid takes in all of it.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/etc/ssl\");\nforbid(principal, action in file_system::Action::\"view\", resource in file_system::Dir::\"/etc\");",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/etc/ssl\");\nforbid(principal, action in file_system::Action::\"view\", resource in file_system::Dir::\"/etc/ssl/private\");",
    ),
    warning(
        "forbids-everything",
        "A forbid for everybody, every action and everything. Nothing is allowed any more.",
        "forbid(principal, action, resource);",
        "forbid(principal, action, resource in file_system::Dir::\"/root\");",
    ),
    warning(
        "duplicate",
        "A rule that stands there twice.",
        "permit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);\npermit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
        "permit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
    ),
    warning(
        "any-principal",
        "A permit for everybody who gets in.",
        "permit(principal, action == sysinfo::Action::\"list\", resource);",
        "permit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
    ),
    warning(
        "any-action",
        "A permit for every action, those that later versions add among them.",
        "permit(principal in Group::\"ops\", action, resource in file_system::Dir::\"/srv/app\");",
        "permit(principal in Group::\"ops\", action in file_system::Action::\"view\", resource in file_system::Dir::\"/srv/app\");",
    ),
    warning(
        "any-resource",
        "A permit to change things, or to run programs, with nothing said of where.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"write\", resource);",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"write\", resource in file_system::Dir::\"/srv/app\");",
    ),
    warning(
        "pattern-crosses-folders",
        "A pattern of a path with `*` inside. `*` stands for `/` too: it reaches into folders below.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource)\nwhen { resource.path like \"/var/log/*.log\" };",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource)\nwhen { resource.path like \"/var/log/*.log\" && !(resource.path like \"/var/log/*/*.log\") };",
    ),
    warning(
        "pattern-prefix",
        "A pattern of a path that stops inside of a name: what is named alike matches too.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource)\nwhen { resource.path like \"/srv/app*\" };",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource)\nwhen { resource.path like \"/srv/app/*\" };",
    ),
    warning(
        "pattern-host",
        "A pattern of a url or of a name of a host that a foreign host matches.",
        "permit(principal in Group::\"ops\", action == network::Action::\"GET\", resource)\nwhen { resource.url like \"https://*/health\" };",
        "permit(principal in Group::\"ops\", action == network::Action::\"GET\", resource)\nwhen { resource.url like \"https://api.example.com/*\" };",
    ),
    warning(
        "pattern-arguments",
        "A pattern of a program's arguments that takes in further arguments.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource == file_system::File::\"/usr/bin/df\")\nwhen { context.argv like \"-h *\" };",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource == file_system::File::\"/usr/bin/df\")\nwhen { context.argv like \"-h *\" && context.argc == 2 };",
    ),
    warning(
        "runs-others",
        "A permit for a shell, an interpreter or another program that runs programs, with any arguments.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource == file_system::File::\"/usr/bin/find\");",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource == file_system::File::\"/usr/bin/find\")\nwhen { context.argv == \"/srv -size +1G\" };",
    ),
    warning(
        "open-to-all",
        "A permit to run programs from where everybody can put them: /tmp and the like, and on this host, what others than root can write.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource in file_system::Dir::\"/tmp/tools\");",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"execute\", resource in file_system::Dir::\"/opt/tools\");",
    ),
    warning(
        "not-canonical",
        "A path that no file has as its canonical path: `..`, `//`, a `/` at the end, no `/` at the beginning.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log/\");",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\");",
    ),
    warning(
        "literal-wildcard",
        "A `*` outside of `like`, or `?` and `[…]` in a `like` of paths: they are letters there.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource == file_system::File::\"/var/log/*.log\");",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/log\")\nwhen { resource.path like \"/var/log/*.log\" && !(resource.path like \"/var/log/*/*.log\") };",
    ),
    warning(
        "unit-kind",
        "A unit of systemd without its kind, such as `.service`.",
        "permit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource == systemd::Service::\"nginx\");",
        "permit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource == systemd::Service::\"nginx.service\");",
    ),
    Lint {
        needs: Needs::Host,
        ..warning(
            "link",
            "A path that goes through a link on this host. Rules are about what links lead to.",
            "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/var/run\");",
            "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/run\");",
        )
    },
    Lint {
        needs: Needs::Host,
        ..warning(
            "wrong-kind",
            "A file that is a folder on this host, or a folder that is none.",
            "permit(principal in Group::\"ops\", action == file_system::Action::\"stat\", resource == file_system::File::\"/run\");",
            "permit(principal in Group::\"ops\", action == file_system::Action::\"stat\", resource == file_system::Dir::\"/run\");",
        )
    },
    Lint {
        needs: Needs::People,
        ..warning(
            "nobody",
            "A group that nobody in principals.toml is in; a user that it does not know, where it refuses those.",
            "permit(principal in Group::\"opps\", action == sysinfo::Action::\"list\", resource);",
            "permit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
        )
    },
    warning(
        "unknown-annotation",
        "An annotation that means nothing here, most often a misspelt one.",
        "@hnt(\"ask the security team\")\nforbid(principal, action == sysctl::Action::\"load\", resource);",
        "@hint(\"ask the security team\")\nforbid(principal, action == sysctl::Action::\"load\", resource);",
    ),
    warning(
        "hint-unseen",
        "A hint that nobody will ever see: of a permit without a condition, or beside `@reveal(\"none\")`.",
        "@hint(\"only nginx\")\npermit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource == systemd::Service::\"nginx.service\");",
        "@hint(\"only nginx\")\npermit(principal in Group::\"ops\", action == systemd::Action::\"restart\", resource is systemd::Service)\nwhen { resource.name == \"nginx.service\" };",
    ),
    warning(
        "bad-test",
        "An `@test` that is no test: `rex policy test` and `activate` refuse the set.",
        "@test(\"lena read /etc/motd\")\npermit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource == file_system::File::\"/etc/motd\");",
        "@test(\"lena in ops read /etc/motd = allow\")\npermit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource == file_system::File::\"/etc/motd\");",
    ),
    warning(
        "odd-characters",
        "Characters that look like others, or that turn the direction of text.",
        "permit(principal in Group::\"op\u{455}\", action == sysinfo::Action::\"list\", resource);",
        "permit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
    ),
    warning(
        "unknown-lint",
        "An `@allow` of what is no lint, or of a fault.",
        "@allow(\"any-principle\")\npermit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
        "@allow(\"any-principal\")\npermit(principal, action == sysinfo::Action::\"list\", resource);",
    ),
    note(
        "unused-allow",
        "An `@allow` that silences nothing.",
        "@allow(\"any-principal\")\npermit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
        "@allow(\"any-principal\")\npermit(principal, action == sysinfo::Action::\"list\", resource);",
    ),
    note(
        "redundant",
        "A permit whose all another one permits already.",
        "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource in file_system::Dir::\"/etc/ssl\");\npermit(principal in Group::\"ops\", action in file_system::Action::\"view\", resource in file_system::Dir::\"/etc\");",
        "permit(principal in Group::\"ops\", action in file_system::Action::\"view\", resource in file_system::Dir::\"/etc\");",
    ),
    note(
        "no-id",
        "A rule without an `@id`. Records name it by file and line, which change.",
        "permit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
        "@id(\"ops-list\")\npermit(principal in Group::\"ops\", action == sysinfo::Action::\"list\", resource);",
    ),
    Lint {
        needs: Needs::Host,
        ..note(
            "missing",
            "A path that is not on this host.",
            "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource == file_system::File::\"/etc/no-such-file\");",
            "permit(principal in Group::\"ops\", action == file_system::Action::\"read\", resource == file_system::File::\"/etc/motd\");",
        )
    },
    note("too-complex", "So many rules, or such complex ones, that some were not compared with the others.", "", ""),
];

/// docs/policy-lints.md.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# What `rex policy check` finds\n\n\
         <!-- Derived from the table of lints; `REX_BLESS=1 cargo test --test derived` writes it anew. -->\n\n\
         A finding is one line `file:line:column: level: what is wrong [lint]`, then the line of the policy with a caret, then what would be right. Errors are faults: nothing runs,\n\
         and the check ends with exit 78. Warnings and notes stop nothing; with `--deny-warnings` a warning ends the check with exit 78 too.\n\n\
         `@allow(\"LINT\")` on a rule silences a warning or a note for that rule, `@allow(\"LINT, LINT\")` several. What is silenced is counted in the last line.\n\n\
         Findings about a host (its paths, its principals.toml) are about the host that the check runs on. `--elsewhere` leaves them out, for policies that are written here\n\
         for another host.\n",
    );
    for (level, title) in [(Level::Error, "Errors"), (Level::Warning, "Warnings"), (Level::Note, "Notes")] {
        let _ = write!(out, "\n## {title}\n");
        for lint in LINTS.iter().filter(|lint| lint.level == level) {
            let about = match lint.needs {
                Needs::Text => "",
                Needs::Host => " *About this host.*",
                Needs::People => " *About this host's principals.toml.*",
            };
            let _ = write!(out, "\n### {}\n\n{}{about}\n", lint.name, lint.finds);
            if !lint.wrong.is_empty() {
                let _ = write!(out, "\n```cedar\n{}\n```\n", lint.wrong);
            }
            if !lint.right.is_empty() && !lint.wrong.is_empty() {
                let _ = write!(out, "\nRight:\n\n```cedar\n{}\n```\n", lint.right);
            }
        }
    }
    out
}
