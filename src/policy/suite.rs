//! Tests of policies: what `*.test.toml` files and `@test` annotations say, and what becomes of it when the very code that enforces is asked.
//!
//! # The format
//!
//! `NAME.test.toml` lies in the folder of the policies. A test is a question (who, does what, to what, in which circumstances) and the answer that
//! the policies must give. Nothing on the host is looked at: a test says all that the rules in question look at, and one that does not fails.
//!
//! ```toml
//! # The files of this folder that are loaded for these tests. Without it: every *.cedar file of the folder.
//! policies = ["log-reader.cedar"]
//! # "implied" or "explicit"; without it as rex.toml says.
//! open = "implied"
//!
//! # Who is who in this file: groups alone, or groups and attributes of User.
//! [principals]
//! lena = ["log-readers"]
//! robot = { groups = ["agents"], agent = "planner", uid = 1500 }
//!
//! # What every test of the file says unless it says otherwise: any key of a test but `name`.
//! [defaults]
//! now = 2026-12-01T23:00:00Z
//!
//! # One line each. The question: PRINCIPAL [in GROUP,GROUP] ACTION RESOURCE [NAME=VALUE …] [missing] [-- ARGUMENT …]
//! # The answer: allow [by ID], or deny [WHY] [by ID].
//! [lines]
//! "lena read /var/log/syslog" = "allow by log-reader-files"
//! "lena read /var/log/auth.log" = "deny forbidden by log-reader-no-logins"
//! "bob in oncall,dba restart nginx.service session.runbook=restart" = "allow"
//! "bob execute /usr/bin/df -- -h" = "deny not_permitted"
//! "bob read /srv/app/x resource.owner=app resource.size=10 client_address=192.0.2.7" = "deny"
//!
//! # A table: principal, action and resource may be lists; every combination is a test.
//! [[test]]
//! name = "logs are open"
//! principal = "lena"
//! groups = ["log-readers"]                     # adds to those of [principals]
//! principal_has = { agent = "planner" }        # attributes of User; the same
//! action = ["read", "stat"]
//! resource = ["/var/log/syslog", "/var/log/nginx/", 'journal::Log::"nginx.service"']
//! missing = false                              # true: nothing is there (yet), so it has no attributes but those of its name
//! resource_has = { owner = "root", mode = 0o640, size = 100 }
//! context = { mode = 0o4755 }                  # the verb's own circumstances, see below
//! session = { mode = "serve", runbook = "restart", layers = ["landlock"], host = "web1" }
//! now = 2026-12-01T23:00:00Z                   # context.session.now
//! client_address = "192.0.2.7"                 # of the principal and of the session
//! open = "explicit"
//! expect = "allow"                             # or "deny"; the one key that must be there
//! by = "log-reader-files"                      # this rule is among those that decided; a list: these and no others did
//! # of a denial also: why, hint (what the caller is told, whole; "" for none), retry
//! ```
//!
//! *Actions* are words (`read`), with their namespace where the word alone is not clear (`systemd::list`), or Cedar notation.
//! *Resources*: a path is a file, with `/` at its end a folder; `nginx.service` a unit or, for `journal::read`, its log (`system`, `kernel`); a
//! number is a process; `local` is this machine or its service manager; anything may be in Cedar notation. Paths are canonical, as policies see them.
//! *Why*: `forbidden`, `not_permitted`, `condition_failed`, `policy_error`, or `closed` for a place that no policy opens.
//! *Context*: `argv = ["-h", ["--name", "value"]]` gives `argv`, `argc` and `arguments`; `environment = { LANG = "C" }`; what is not given is as
//! `exec` has it: no environment, no capability, no input, `cwd` is `/`, `argv0` the path, `user` the principal's. `mode` gives the flags of `chmod`.
//! `destination = "/path"` and `xattr = "user.x"` are enough for `move` and `set_x_attr`. A journal's `fields` are none, `all_fields` is false.
//! *Session*: `mode` is `session`, `interactive` is false; what else is not given is absent.
//!
//! `@test("lena in log-readers read /var/log/syslog = allow")` stands at a rule; `;` separates several. It is in the form of a line, and where it
//! says `allow` of a permit, or `deny` of a forbid, it means by this rule.
