//! More of processes and the machine through the binary: open files, stacks, core dumps, unmounting, settings from files, environments, cron, reboot. Both
//! sides: what is allowed is done, what is denied leaves mounts, settings and processes as they are, and both are on record.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{ALLOW_ALL, Account, Rex, Run, Systemd, until};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that ends with the test.
struct Held(Child);

impl Held {
    /// `sleep`, with this file open as its input, once it is `sleep`.
    fn sleeping(stdin: Stdio, owner: Option<(u32, u32)>) -> Self {
        let mut command = Command::new("sleep");
        command.arg("98.5").current_dir("/").stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().env("REX_TEST_SECRET", "tell-nobody").env("PATH", "/usr/bin:/bin");
        if let Some((uid, gid)) = owner {
            command.uid(uid).gid(gid);
        }
        let held = Self(command.spawn().unwrap());
        let comm = format!("/proc/{}/comm", held.pid());
        assert!(until(10.0, || fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep")));
        held
    }
    fn pid(&self) -> u32 {
        self.0.id()
    }
    /// A row of /proc/PID/status.
    fn status(&self, name: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn file(path: &Path) -> Stdio {
    fs::File::open(path).unwrap().into()
}

fn kind(run: &Run) -> String {
    run.json()["error"]["kind"].as_str().unwrap_or("").to_owned()
}

#[test]
fn who_has_a_file_open_is_told_and_what_a_process_has_open() {
    let rex = Rex::new().file("dir/f", "12345").file("other", "x").policy(ALLOW_ALL);
    let held = Held::sleeping(file(&rex.data().join("dir/f")), None);
    let pid = held.pid();
    let run = rex.run("open_files(#{path: \"{data}/dir/f\"}).map(|f| [f.pid, f.process_name, f.fd, f.type, f.access, f.size, f.path])");
    run.gives(json!([[pid, "sleep", 0, "REG", "r", 5, rex.path("dir/f")]]));
    let run = rex.run(&format!("open_files(#{{pid: {pid}}}).map(|f| f.fd)"));
    for fd in [json!("cwd"), json!("root"), json!("exe"), json!("mapped"), json!(0), json!(1)] {
        assert!(run.value().as_array().unwrap().contains(&fd), "{fd}: {run:#?}");
    }
    let using = |path: &str, options: &str| {
        let run = rex.run(&format!("processes_using(\"{path}\"{options}).map(|p| [p.pid, p.access, p.fds])"));
        run.ends(0);
        run.value().as_array().unwrap().iter().find(|row| row[0] == pid).cloned()
    };
    assert_eq!(using("{data}/dir/f", ""), Some(json!([pid, ["read"], [0]])));
    assert_eq!(using("{data}/dir", ", #{below: true}"), Some(json!([pid, ["read"], [0]])));
    assert_eq!(using("{data}/dir", ""), None);
    assert_eq!(using("{data}/other", ""), None);
    assert!(using("{data}/other", ", #{mount: true}").is_some());
    assert!(using("/usr/bin/sleep", "").unwrap()[1].as_array().unwrap().contains(&json!("exe")));
    // The file that is meant, whatever it is called now.
    fs::rename(rex.data().join("dir/f"), rex.data().join("dir/g")).unwrap();
    assert_eq!(using("{data}/dir/g", ""), Some(json!([pid, ["read"], [0]])));
    fs::remove_file(rex.data().join("dir/g")).unwrap();
    rex.run(&format!("open_files(#{{pid: {pid}, kind: \"REG\"}}).filter(|f| f.fd == 0)[0].deleted")).gives(true);
    rex.run("processes_using(\"{data}/none\")").ends(1);
}

#[test]
fn open_files_are_told_only_of_processes_whose_descriptors_may_be_seen() {
    let stat = r#"permit(principal, action == file_system::Action::"stat", resource in file_system::Dir::"{data}");"#;
    let list = r#"permit(principal, action == process_system::Action::"list", resource);"#;
    let rex = Rex::new().file("f", "12345").policy(&format!("{stat}{list}"));
    let held = Held::sleeping(file(&rex.data().join("f")), None);
    let pid = held.pid();
    for script in [format!("open_files(#{{pid: {pid}}})"), "open_files()".to_owned(), "processes_using(\"{data}/f\")".to_owned()] {
        rex.run(&script).is_denied();
    }
    let sleepers = r#"permit(principal, action == process_system::Action::"list_fds", resource) when { resource.name == "sleep" };"#;
    let rex = Rex::new().file("f", "12345").policy(&format!("{stat}{sleepers}"));
    let run = rex.run("open_files().map(|f| f.process_name)");
    run.ends(0);
    assert!(run.value().as_array().unwrap().iter().all(|name| name == "sleep"), "{run:#?}");
    assert!(run.records_denial());
    // That a file is there is `stat`'s to tell: missing and denied look alike.
    let rex = Rex::new().policy(sleepers);
    for path in ["/etc/shadow", "/etc/no-such-file"] {
        let run = rex.run(&format!("processes_using(\"{path}\")"));
        run.is_denied();
        assert_eq!(run.json()["error"]["action"], r#"file_system::Action::"stat""#);
    }
    // A number that nobody has tells nothing either.
    rex.run("open_files(#{pid: 2147483647})").is_denied();
}

#[test]
fn an_account_sees_what_its_own_processes_have_open() {
    needs_root!();
    let account = Account::new();
    let rex = Rex::new().file("f", "12345").policy(ALLOW_ALL).account(&account);
    let own = Held::sleeping(file(&rex.data().join("f")), Some((account.uid, account.gid)));
    let roots = Held::sleeping(file(&rex.data().join("f")), None);
    let run = rex.session(Some(&account), &[], Some("rex -o json"), "processes_using(\"{data}/f\").map(|p| [p.pid, p.user])");
    run.gives(json!([[own.pid(), account.name]]));
    let run = rex.session(Some(&account), &[], Some("rex -o json"), &format!("stacks({})", roots.pid()));
    run.ends(1);
    assert_eq!(kind(&run), "permission");
    assert_eq!(roots.status("TracerPid:"), "0");
    let run = rex.session(Some(&account), &[], Some("rex -o json"), &format!("env_of_process({})", roots.pid()));
    run.ends(1);
    assert_eq!(kind(&run), "permission");
}

const TRACE: &str = r#"permit(principal, action == process_system::Action::"trace", resource) when { resource.name == "sleep" };"#;

#[test]
fn stacks_of_a_process_are_told_by_gdb_and_the_kernel_and_it_goes_on() {
    needs_root!();
    let rex = Rex::new().policy(TRACE);
    let nobody = Held::sleeping(Stdio::null(), Some((65_534, 65_534)));
    for held in [&nobody, &Held::sleeping(Stdio::null(), None)] {
        let run = rex.run(&format!("stacks({})", held.pid()));
        run.ends(0);
        let value = run.value();
        let thread = &value["threads"][0];
        assert_eq!((&value["name"], &thread["tid"]), (&json!("sleep"), &json!(held.pid())));
        let frames = thread["frames"].as_array().unwrap_or_else(|| panic!("{run:#?}"));
        let calls = frames.iter().map(|frame| frame["function_name"].as_str().unwrap_or("")).collect::<Vec<_>>();
        assert!(calls.iter().any(|name| name.contains("nanosleep")), "{run:#?}");
        assert!(frames.iter().all(|frame| frame["instruction_ptr"].is_string()) && frames[0].get("locals").is_none());
        let kernel = thread["kernel"].as_array().unwrap();
        assert!(kernel.iter().any(|name| name.as_str().unwrap().contains("nanosleep")), "{run:#?}");
        assert_eq!((held.status("TracerPid:").as_str(), held.status("State:").starts_with('S')), ("0", true));
        assert_eq!(run.events("effect").len(), 1);
    }
    rex.run(&format!("stacks({}, #{{user: false}}).threads[0].frames", nobody.pid())).gives(Value::Null);
    rex.run(&format!("stacks({}, #{{kernel: false, frames: 1}}).threads[0].frames.len()", nobody.pid())).gives(1);
}

#[test]
fn a_process_that_may_not_be_traced_is_not_stopped() {
    let held = Held::sleeping(Stdio::null(), None);
    let pid = held.pid();
    let switches = || held.status("voluntary_ctxt_switches:");
    let mut before = String::new();
    // Once it does nothing but sleep.
    assert!(until(10.0, || {
        let last = std::mem::replace(&mut before, switches());
        std::thread::sleep(std::time::Duration::from_millis(30));
        last == before && held.status("State:").starts_with('S')
    }));
    let other = r#"permit(principal, action == process_system::Action::"trace", resource) when { resource.name == "other" };"#;
    let list = r#"permit(principal, action in [process_system::Action::"list", process_system::Action::"list_fds"], resource);"#;
    for policy in [other, list] {
        let run = Rex::new().policy(policy).run(&format!("stacks({pid})"));
        run.is_denied();
        assert!(run.events("effect").is_empty());
        Rex::new().policy(policy).run("stacks(2147483647)").is_denied();
    }
    let run = Rex::new().policy(TRACE).run_with(&["--dry-run"], &format!("stacks({pid})"));
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert_eq!(switches(), before, "it was woken");
}

#[test]
fn the_debugger_ends_with_the_run_and_the_process_goes_on() {
    needs_root!();
    let held = Held::sleeping(Stdio::null(), None);
    let pid = held.pid();
    let debuggers = || {
        let all = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        all.filter(|line| String::from_utf8_lossy(line).contains(&format!("-p\0{pid}\0"))).count()
    };
    let rex = Rex::new().policy(TRACE);
    // Time is up in the middle of it, first the call's, then the run's.
    let run = rex.run(&format!("stacks({pid}, #{{kernel: false, timeout: 0.01}})"));
    assert_eq!(kind(&run), "timeout", "{run:#?}");
    // The next question gets its own answer.
    let run = rex.run(&format!("try {{ stacks({pid}, #{{kernel: false, timeout: 0.01}}) }} catch (e) {{}} stacks({pid}).name"));
    run.gives("sleep");
    let limited = Rex::new().policy(TRACE).config("[limits]\nwall = 1\n");
    let run = limited.run(&format!("while true {{ try {{ stacks({pid}, #{{kernel: false}}) }} catch (e) {{}} }}"));
    run.ends(124);
    assert!(until(5.0, || debuggers() == 0 && held.status("TracerPid:") == "0" && held.status("State:").starts_with('S')));
}

/// A program with two threads that ends in abort(3), and its core dump, made by gdb so that no setting of the kernel matters.
fn crashed(rex: &Rex) -> (String, String) {
    let source = "#include <pthread.h>\n#include <stdlib.h>\n#include <unistd.h>\nstruct node { int value; struct node *next; };\n\
        static int inner(struct node *list, const char *text) { int local = list->next->value + 1; if (local == 43) abort(); return local + (text != 0); }\n\
        static int outer(int count) { struct node b = {42, 0}, a = {7, &b}; return inner(&a, \"1001^done,stack=[]\\n\") + count; }\n\
        static void *waits(void *ready) { write(*(int *)ready, \"x\", 1); pause(); return 0; }\n\
        int main(void) { pthread_t t; int pipes[2]; char x; pipe(pipes); pthread_create(&t, 0, waits, &pipes[1]); read(pipes[0], &x, 1); return outer(3); }\n";
    fs::write(rex.data().join("crash.c"), source).unwrap();
    let cc = Command::new("cc").args(["-g", "-O0", "-w", "-pthread", "-o", "crash", "crash.c"]).current_dir(rex.data()).status().unwrap();
    assert!(cc.success());
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-nx",
        "-batch",
        "-ex",
        "set startup-with-shell off",
        "-ex",
        "run",
        "-ex",
        "generate-core-file core",
        "-ex",
        "kill",
        "./crash",
    ]);
    gdb.current_dir(rex.data()).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let said = gdb.output().unwrap();
    assert!(rex.exists("core"), "{said:?}");
    (rex.path("crash"), rex.path("core"))
}

const CORES: &str = r#"permit(principal, action in [file_system::Action::"read", file_system::Action::"core_dump"], resource in file_system::Dir::"{data}");"#;

#[test]
fn a_core_dump_tells_all_threads_all_calls_and_variables() {
    let rex = Rex::new().policy(CORES);
    let (program, core) = crashed(&rex);
    // What gdb would run or read at its start, in every place where it looks.
    for name in [".gdbinit", "crash-gdb.gdb", "core-gdb.gdb"] {
        fs::write(rex.data().join(name), format!("shell touch {}/loaded\n", rex.data().display())).unwrap();
    }
    fs::write(rex.data().join("crash-gdb.py"), format!("open('{}/loaded', 'w')\n", rex.data().display())).unwrap();
    fs::set_permissions(&core, fs::Permissions::from_mode(0o600)).unwrap();
    let names = r#"["local", "list->next->value", "nosuch", "*list", "count"]"#;
    let run = rex.run(&format!("core_dump(\"{program}\", \"{core}\", #{{frame: 0, variables: {names}}})"));
    run.ends(0);
    let value = run.value();
    assert_eq!((&value["process"]["signal"], &value["process"]["name"]), (&json!(6), &json!("crash")), "{run:#?}");
    let threads = value["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2, "{run:#?}");
    let frames = |thread: &Value| thread["frames"].as_array().unwrap().clone();
    let named = |thread: &Value, name: &str| frames(thread).into_iter().find(|frame| frame["function_name"] == name);
    let waiting = threads.iter().find(|thread| named(thread, "waits").is_some()).unwrap();
    let main = threads.iter().find(|thread| named(thread, "main").is_some()).unwrap();
    assert_ne!(waiting["id"], main["id"]);
    let inner = named(main, "inner").unwrap();
    assert_eq!((&inner["line_number"], &inner["locals"]["local"]), (&json!(5), &json!("43")), "{run:#?}");
    assert!(inner["source"].as_str().unwrap().ends_with("crash.c"));
    // A text of the program is a text, whatever it looks like.
    assert!(inner["locals"]["text"].as_str().unwrap().contains("1001^done,stack=[]"), "{run:#?}");
    assert_eq!(named(main, "outer").unwrap()["locals"]["count"], "3");
    // Each name in the frame that was asked for; what is not known there is nothing, and moves no other value.
    let (thread, frame) = (&main["id"], &inner["frame_number"]);
    let run = rex.run(&format!(
        "core_dump(\"{program}\", \"{core}\", #{{locals: false, thread_id: {thread}, frame: {frame}, variables: {names}}}).variables"
    ));
    run.gives(
        json!({"local": "43", "list->next->value": "42", "nosuch": null, "*list": "{value = 7, next = 0x7ff}", "count": null})
            .as_object()
            .map(|map| {
                let mut map = map.clone();
                let told = run.value()["*list"].clone();
                assert!(told.as_str().unwrap().starts_with("{value = 7, next = 0x"), "{run:#?}");
                map.insert("*list".into(), told);
                Value::Object(map)
            })
            .unwrap(),
    );
    assert!(!rex.exists("loaded"), "a file beside the program told gdb what to do");
}

#[test]
fn a_core_dump_is_looked_into_only_where_that_is_permitted_and_by_no_expression() {
    let rex = Rex::new().policy(CORES);
    let (program, core) = crashed(&rex);
    for name in ["$_shell(\\\"touch {data}/made\\\")", "system(\\\"id\\\")", "local=1", "x\\n-gdb-exit", "(char)local", ""] {
        let run = rex.run(&format!("core_dump(\"{program}\", \"{core}\", #{{variables: [\"{name}\"]}})"));
        run.ends(1);
        assert_eq!(kind(&run), "bad_argument", "{name}: {run:#?}");
    }
    assert!(!rex.exists("made"));
    let call = format!("core_dump(\"{program}\", \"{core}\")");
    let read = r#"permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"{data}");"#;
    let execute = r#"permit(principal, action == file_system::Action::"execute", resource);"#;
    let only = r#"permit(principal, action == file_system::Action::"core_dump", resource);"#;
    for policy in [read.to_owned(), format!("{read}{execute}"), only.to_owned()] {
        let rex = Rex::new().policy(&policy.replace("{data}", rex.data().to_str().unwrap()));
        let run = rex.run(&call);
        run.is_denied();
        assert!(!run.stdout.contains("inner"), "{run:#?}");
    }
    // Another program's core, a file that is none, a program that is none.
    fs::write(rex.data().join("text"), "text").unwrap();
    for (program, core) in [(program.as_str(), "{data}/text"), ("{data}/text", core.as_str())] {
        let run = rex.run(&format!("core_dump(\"{program}\", \"{core}\").threads.len()"));
        assert!(run.code == 0 || kind(&run) == "bad_data" || kind(&run) == "io", "{run:#?}");
    }
}

/// Runs a script of rex in namespaces of its own: `before` in them first, `after` at the end, which says what is there to stderr.
fn apart(rex: &Rex, namespaces: &[&str], before: &str, script: &str, after: &str, more: &[&str]) -> Run {
    let (config, policy) = (rex.config_file(), rex.policy_file());
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["sh", "-c", &rex.fill(&format!("{before}\n\"$@\"; code=$?; {{ {after}\n}} >&2; exit $code")), "-"]);
    command.arg(rex.program()).args(["run", "-", "-o", "json", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    command.args(more).current_dir("/").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    rex.finish(command, rex.fill(script).as_bytes())
}

const MOUNTS: &[&str] = &["--mount", "--propagation", "private"];

#[test]
fn what_is_mounted_is_taken_away_where_that_is_permitted() {
    needs_namespaces!();
    let policy =
        r#"permit(principal, action == file_system::Action::"unmount", resource == file_system::Dir::"{data}/m") when { !context.lazy };"#;
    let rex = Rex::new().dir("m").dir("other").dir("a").link("l", "m").policy(policy);
    let mount = "mount -t tmpfs one {data}/m && mount -t tmpfs two {data}/other";
    let left = "grep -c ' {data}/m ' /proc/self/mountinfo; grep -c ' {data}/other ' /proc/self/mountinfo";
    let left_of = |run: &Run| run.stderr.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()).collect::<Vec<_>>();
    let run = apart(&rex, MOUNTS, mount, "let r = unmount(\"{data}/m\"); [r.mounted_on, r.device, r.kind, r.changed]", left, &[]);
    run.gives(json!([rex.path("m"), "one", "tmpfs", true]));
    assert_eq!(left_of(&run), [0, 1]);
    assert_eq!(run.events("effect")[0]["result"], "ok");
    // The one on top, and only that.
    let twice = "mount -t tmpfs one {data}/m && mount -t tmpfs upper {data}/m && mount -t tmpfs two {data}/other";
    let run = apart(&rex, MOUNTS, twice, "unmount(\"{data}/m\").device", left, &[]);
    run.gives("upper");
    assert_eq!(left_of(&run), [1, 1]);
    // In use: by a shell that has its folder there.
    let busy = "mount -t tmpfs one {data}/m && mount -t tmpfs two {data}/other && cd {data}/m";
    let run = apart(&rex, MOUNTS, busy, "unmount(\"{data}/m\")", left, &[]);
    assert_eq!((kind(&run).as_str(), left_of(&run)), ("busy", vec![1, 1]), "{run:#?}");
    for (script, why) in [
        ("unmount(\"{data}/other\")", "denied"),
        ("unmount(\"{data}/m\", #{lazy: true})", "denied"),
        // Another spelling is another path, and nothing is mounted there.
        ("unmount(\"{data}/l\")", "denied"),
        ("unmount(\"{data}/a/../m\")", "denied"),
        ("unmount(\"/\")", "bad_argument"),
    ] {
        let run = apart(&rex, MOUNTS, mount, script, left, &[]);
        assert_eq!((kind(&run).as_str(), left_of(&run)), (why, vec![1, 1]), "{script}: {run:#?}");
        assert!(run.events("effect").is_empty(), "{run:#?}");
    }
    let run = apart(&rex, MOUNTS, mount, "unmount(\"{data}/m\")", left, &["--dry-run"]);
    assert_eq!((&run.json()["would_change_count"], left_of(&run)), (&json!(1), vec![1, 1]), "{run:#?}");
    let rex = rex.policy(ALLOW_ALL);
    let run = apart(&rex, MOUNTS, busy, "unmount(\"{data}/m\", #{lazy: true}).lazy", left, &[]);
    run.gives(true);
    assert_eq!(left_of(&run), [0, 1]);
    // rex's own files are closed, and so is what would bring others in their place.
    let run = apart(
        &rex,
        MOUNTS,
        "mount -t tmpfs none {root}/etc/scripts",
        "unmount(\"{root}/etc/scripts\")",
        "grep -c etc/scripts /proc/self/mountinfo",
        &[],
    );
    assert_eq!((kind(&run).as_str(), left_of(&run)), ("denied", vec![1]), "{run:#?}");
}

const NET: &[&str] = &["--net", "--mount", "--propagation", "private"];

#[test]
fn settings_of_files_are_loaded_where_each_of_them_may_be_written() {
    needs_namespaces!();
    let may = |more: &str| {
        format!(
            r#"permit(principal, action == sysctl::Action::"load", resource);
            permit(principal, action == file_system::Action::"read", resource) when {{ resource in file_system::Dir::"{{data}}" || resource in file_system::Dir::"/proc/sys" {more} }};
            permit(principal, action == file_system::Action::"write", resource) when {{ resource.path like "/proc/sys/net/ipv4/conf/*" || resource.path == "/proc/sys/net/ipv4/tcp_syncookies" }};"#
        )
    };
    let text = "# settings of the test\nnet.ipv4.tcp_syncookies = 1\n-net.ipv4.conf.lo.rp_filter\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.no_such_one = 1\nnet.ipv4.conf.lo.log_martians=0\nnet.ipv4.conf.lo.log_martians = 1\n";
    let rex =
        Rex::new().file("good.conf", text).file("bad.conf", "net.ipv4.tcp_syncookies = 1\nnet.ipv4.ip_default_ttl = 63\n").policy(&may(""));
    let show = "cd /proc/sys/net/ipv4; cat tcp_syncookies conf/lo/rp_filter conf/all/rp_filter conf/default/rp_filter ip_default_ttl";
    let start = "for name in conf/lo conf/all conf/default; do echo 0 >/proc/sys/net/ipv4/$name/rp_filter; done; echo 0 >/proc/sys/net/ipv4/tcp_syncookies; echo 64 >/proc/sys/net/ipv4/ip_default_ttl";
    let now = |run: &Run| run.stderr.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()).collect::<Vec<_>>();
    let run = apart(&rex, NET, start, "sysctl_load(\"{data}/good.conf\")", show, &[]);
    run.ends(0);
    assert_eq!(now(&run), [1, 0, 2, 2, 64], "{run:#?}");
    let value = run.value();
    assert_eq!(
        (&value["missing"], &value["denied"], &value["failed"]),
        (&json!(["net.ipv4.no_such_one"]), &json!([]), &json!([])),
        "{run:#?}"
    );
    let forward = value["set"].as_array().unwrap().iter().find(|row| row["key"] == "net.ipv4.tcp_syncookies").unwrap();
    assert_eq!((&forward["before"], &forward["value"], &forward["changed"]), (&json!("0"), &json!("1"), &json!(true)));
    assert!(run.events("effect").iter().any(|record| record["resource"].as_str().unwrap().contains("tcp_syncookies")), "{run:#?}");
    // One that may not be written keeps all from being set.
    let run = apart(&rex, NET, start, "sysctl_load(\"{data}/bad.conf\")", show, &[]);
    run.is_denied();
    assert_eq!(now(&run), [0, 0, 0, 0, 64], "{run:#?}");
    let run = apart(&rex, NET, start, "let r = sysctl_load(\"{data}/bad.conf\", #{keep_going: true}); [r.denied, r.changed]", show, &[]);
    run.gives(json!([["net.ipv4.ip_default_ttl"], 1]));
    assert_eq!(now(&run), [1, 0, 0, 0, 64]);
    let run = apart(&rex, NET, start, "sysctl_load(\"{data}/good.conf\")", show, &["--dry-run"]);
    assert!(run.json()["would_change_count"].as_u64() > Some(0), "{run:#?}");
    assert_eq!(now(&run), [0, 0, 0, 0, 64]);
    // Without the verb itself, and with a file that may not be read, nothing.
    let rex = rex.policy(&may("").replacen("permit", "forbid", 1));
    let run = apart(&rex, NET, start, "sysctl_load(\"{data}/good.conf\")", show, &[]);
    run.is_denied();
    assert_eq!(now(&run), [0, 0, 0, 0, 64]);
    // Those of the system: an earlier folder's file in place of a later one's of the same name, then by name; links to /dev/null take files away.
    let rex = rex.policy(&may(r#"|| resource.path like "/etc/sysctl*" || resource.path like "/run/sysctl*" || resource.path like "/usr/*lib/sysctl*" || resource.path like "/dev/null""#));
    let files = "mount -t tmpfs none /etc; mkdir -p /etc/sysctl.d; mount -t tmpfs none /run; mkdir /run/sysctl.d\n\
        [ ! -d /usr/lib/sysctl.d ] || mount -t tmpfs none /usr/lib/sysctl.d; [ ! -d /usr/local/lib/sysctl.d ] || mount -t tmpfs none /usr/local/lib/sysctl.d\n\
        echo 'net.ipv4.conf.all.rp_filter = 1' >/etc/sysctl.d/10-a.conf; echo 'net.ipv4.conf.all.rp_filter = 2' >/run/sysctl.d/10-a.conf\n\
        echo 'net.ipv4.conf.default.rp_filter = 1' >/run/sysctl.d/20-b.conf; echo 'net.ipv4.conf.lo.rp_filter = 2' >/run/sysctl.d/30-c.conf\n\
        ln -s /dev/null /etc/sysctl.d/30-c.conf; echo 'net.ipv4.conf.default.rp_filter = 2' >/etc/sysctl.conf; echo 'net.ipv4.tcp_syncookies = 1' >/etc/sysctl.d/no.txt";
    let run = apart(&rex, NET, &format!("{start}\n{files}"), "sysctl_load().files", show, &[]);
    run.gives(json!(["/etc/sysctl.d/10-a.conf", "/run/sysctl.d/20-b.conf", "/etc/sysctl.conf"]));
    assert_eq!(now(&run), [0, 0, 1, 2, 64], "{run:#?}");
}

#[test]
fn names_of_an_environment_are_one_permission_and_values_another_and_no_value_is_on_record() {
    let held = Held::sleeping(Stdio::null(), None);
    let pid = held.pid();
    let only = |verb: &str| {
        Rex::new().policy(&format!(
            r#"permit(principal, action == process_system::Action::"{verb}", resource) when {{ resource.name == "sleep" }};"#
        ))
    };
    let (names, values) = (only("list_environment"), only("read_environment"));
    names.run(&format!("env_of_process({pid})")).gives(json!(["PATH", "REX_TEST_SECRET"]));
    let run = names.run(&format!("env_of_process({pid}, #{{values: true}})"));
    run.is_denied();
    assert!(!run.stdout.contains("tell-nobody"));
    values.run(&format!("env_of_process({pid})")).is_denied();
    let run = values.run(&format!("env_of_process({pid}, #{{values: true}}).REX_TEST_SECRET == \"tell-nobody\""));
    run.gives(true);
    assert!(!format!("{:?}", run.audit).contains("tell-nobody"), "{run:#?}");
    only("list").run(&format!("env_of_process({pid})")).is_denied();
    // A permit for all that is about processes in the usual groups has no values in it.
    for group in ["ProcessAction", "view", "edit"] {
        let rex = Rex::new().policy(&format!(r#"permit(principal, action in process_system::Action::"{group}", resource);"#));
        rex.run(&format!("env_of_process({pid}, #{{values: true}})")).is_denied();
    }
}

#[test]
fn jobs_of_cron_are_told_as_far_as_their_tables_may_be_read() {
    needs_namespaces!();
    let rex = Rex::new().policy(ALLOW_ALL);
    let files = "mount -t tmpfs none /etc; mkdir -p /etc/cron.d /etc/cron.daily; mount -t tmpfs none /var/spool; mkdir -p /var/spool/cron/crontabs\n\
        printf 'SHELL=/bin/sh\\n# comment\\n5 4 * * * root  /usr/bin/tidy --all\\n' >/etc/crontab\n\
        printf '@reboot backup /usr/bin/start\\n' >/etc/cron.d/site; cp /etc/cron.d/site /etc/cron.d/site.dpkg-old\n\
        printf '*/5 * * * 1-5 curl x | y=z\\n' >/var/spool/cron/crontabs/alice; chmod 600 /var/spool/cron/crontabs/alice\n\
        printf '#!/bin/sh\\n' >/etc/cron.daily/rotate; printf 'root:x:0:0::/:/bin/sh\\n' >/etc/passwd";
    let script = "cron_jobs().map(|j| [j.kind, j.schedule, j.user, j.command, j.line])";
    let run = apart(&rex, MOUNTS, files, script, ":", &[]);
    run.gives(json!([
        ["system", "5 4 * * *", "root", "/usr/bin/tidy --all", 3],
        ["system", "@reboot", "backup", "/usr/bin/start", 1],
        ["user", "*/5 * * * 1-5", "alice", "curl x | y=z", 1],
        ["folder", "@daily", "root", "/etc/cron.daily/rotate", null],
    ]));
    let rex = rex.policy(r#"permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"/etc");"#);
    let run = apart(&rex, MOUNTS, files, "cron_jobs(#{user: \"alice\"}).len() + cron_jobs().len()", ":", &[]);
    run.gives(3);
    assert!(run.records_denial());
    let rex = rex.policy(r#"permit(principal, action == file_system::Action::"read", resource in file_system::Dir::"/srv");"#);
    apart(&rex, MOUNTS, files, "cron_jobs()", ":", &[]).is_denied();
}

#[test]
fn figures_of_the_machine_agree_with_the_programs_that_people_know() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let said = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).env_clear().env("PATH", "/usr/bin:/bin").output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let cpu: serde_json::Value = serde_json::from_str(&said(&["lscpu", "-J"])).unwrap();
    let row = |name: &str| {
        let rows = cpu["lscpu"].as_array().unwrap();
        rows.iter().find(|row| row["field"] == format!("{name}:")).map(|row| row["data"].as_str().unwrap_or("").to_owned())
    };
    let run = rex.run("let c = lscpu(); [`${c.count}`, c.architecture, c.model_name, `${c.sockets}`]");
    run.ends(0);
    assert_eq!(Some(run.value()[1].as_str().unwrap().to_owned()), row("Architecture"), "{run:#?}");
    if let Some(model) = row("Model name").filter(|model| model != "-") {
        assert_eq!(run.value()[2], model, "{run:#?}");
    }
    rex.run("timezone().offset").gives(said(&["date", "+%z"]).parse::<i64>().map(|hours| (hours / 100 * 60 + hours % 100) * 60).unwrap());
    rex.run("(clock().now.epoch_seconds() - now().epoch_seconds()).abs() <= 1").gives(true);
    let held = Held::sleeping(Stdio::null(), None);
    let prlimit = said(&["prlimit", "--pid", &held.pid().to_string(), "--nofile", "--noheadings", "--raw", "--output", "SOFT,HARD"]);
    rex.run(&format!("let l = limits({}).open_files; `${{l.soft}} ${{l.hard}}`", held.pid())).gives(prlimit);
    let denied =
        Rex::new().policy(r#"permit(principal, action == process_system::Action::"list", resource) when { resource.name == "sleep" };"#);
    for script in ["lscpu()", "clock()", "timezone()", "reboot_required()", "limits(1)"] {
        denied.run(script).is_denied();
    }
}

#[test]
fn what_uses_most_comes_first() {
    let mut busy = Command::new("sh");
    busy.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
    let busy = Held(busy.spawn().unwrap());
    let idle = Held::sleeping(Stdio::null(), None);
    let script = "top(#{seconds: 0.3, limit: 1000}).map(|p| p.pid)";
    let run = Rex::new().policy(ALLOW_ALL).run(script);
    run.ends(0);
    let place = |pid: u32| run.value().as_array().unwrap().iter().position(|row| *row == pid).unwrap();
    assert!(place(busy.pid()) < place(idle.pid()), "{run:#?}");
    let only =
        Rex::new().policy(r#"permit(principal, action == process_system::Action::"list", resource) when { resource.name == "sleep" };"#);
    let run = only.run("top(#{seconds: 0}).map(|p| p.name)");
    run.ends(0);
    assert!(run.value().as_array().unwrap().iter().all(|name| name == "sleep"), "{run:#?}");
    let run = Rex::new().policy(ALLOW_ALL).run("let p = process(1); [p.namespaces.net, p.memory_parts.rss]");
    assert_eq!(run.value()[0], fs::read_link("/proc/1/ns/net").map_or(Value::Null, |link| json!(link.to_str())), "{run:#?}");
}

#[test]
fn no_run_enters_other_namespaces_and_who_may_not_learns_no_more_than_that() {
    let rex = Rex::new().policy(ALLOW_ALL);
    let run = rex.run("nsenter(1, #{net: true}, || 1)");
    run.ends(69);
    assert_eq!(kind(&run), "unsupported");
    let rex = rex.policy(r#"permit(principal, action == process_system::Action::"network_namespace", resource);"#);
    rex.run("nsenter(1, #{net: true, mount: true}, || 1)").is_denied();
    rex.run("nsenter(1, #{mount: true}, || 1)").is_denied();
}

const LOGIND: &[(&str, &str)] =
    &[("rextest-env.service", "[Service]\nEnvironment=PLAIN=1\nEnvironmentFile=-/etc/rextest.env\nExecStart=/bin/sleep infinity\n")];

#[test]
fn the_environment_of_a_service_is_that_of_its_main_process() {
    needs_namespaces!();
    let policy = r#"permit(principal, action == systemd::Action::"status", resource) when { resource is systemd::Service };
        permit(principal, action == process_system::Action::"list_environment", resource);"#;
    let rex = Rex::new().policy(policy);
    let systemd = Systemd::boot(&rex, LOGIND);
    systemd.exec(&["sh", "-c", "echo TOKEN=tell-nobody >/etc/rextest.env"]).ends(0);
    let run = systemd.run(&rex, "env_of_service(\"rextest-env\")");
    assert_eq!(kind(&run), "not_found", "{run:#?}");
    systemd.exec(&["systemctl", "start", "rextest-env"]).ends(0);
    let run = systemd
        .run(&rex, "let e = env_of_service(\"rextest-env\"); [e.unit, e.names.contains(\"PLAIN\"), e.names.contains(\"TOKEN\"), e.files]");
    run.gives(json!(["rextest-env.service", true, true, ["/etc/rextest.env"]]));
    assert!(!run.stdout.contains("tell-nobody") && !format!("{:?}", run.audit).contains("tell-nobody"));
    let script = "env_of_service(\"rextest-env\", #{values: true}).values.TOKEN";
    systemd.run(&rex, script).is_denied();
    let rex = rex.policy(&format!("{policy}permit(principal, action == process_system::Action::\"read_environment\", resource);"));
    systemd.run(&rex, script).gives("tell-nobody");
    let rex = rex.policy(r#"permit(principal, action == process_system::Action::"list_environment", resource);"#);
    systemd.run(&rex, "env_of_service(\"rextest-env\")").is_denied();
}

/// logind as the distribution has it, without what belongs to a whole machine.
const LOGIN: &str = "[Unit]\nAfter=dbus.service\n[Service]\nType=notify\nBusName=org.freedesktop.login1\nExecStart=/lib/systemd/systemd-logind\nRuntimeDirectory=systemd/sessions systemd/seats systemd/users systemd/inhibit systemd/shutdown\nRuntimeDirectoryPreserve=yes\n";

const BLOCK: &str =
    "[Service]\nExecStart=/usr/bin/systemd-inhibit --what=shutdown --who=backup --why=running --mode=block sleep infinity\n";

#[test]
fn logind_is_asked_where_there_is_one_and_who_blocks_it_is_obeyed() {
    needs_namespaces!();
    if !Path::new("/lib/systemd/systemd-logind").exists() {
        eprintln!("skipped: this host has no logind");
        return;
    }
    let rex = Rex::new().policy(r#"permit(principal, action == systemd::Action::"reboot", resource);"#);
    let systemd = Systemd::boot(
        &rex,
        &[("systemd-logind.service", LOGIN), ("dbus-org.freedesktop.login1.service", LOGIN), ("rextest-block.service", BLOCK)],
    );
    systemd.exec(&["systemctl", "start", "systemd-logind"]).ends(0);
    let pid = systemd.pid();
    let run = systemd.run(&rex, "let c = reboot(#{check: true}); [c.possible, c.by, c.inhibitors.len()]");
    run.gives(json!(["yes", "logind", 0]));
    // Scheduled, and taken back.
    let run = systemd
        .run(&rex, "let r = reboot(#{delay: 3600}); [r.by, r.changed, (r.at.epoch_seconds() - now().epoch_seconds() - 3600).abs() < 60]");
    run.gives(json!(["logind", true, true]));
    assert!(systemd.exec(&["cat", "/run/systemd/shutdown/scheduled"]).stdout.contains("MODE=reboot"));
    systemd.run(&rex, "[reboot(#{cancel: true}).changed, reboot(#{cancel: true}).changed]").gives(json!([true, false]));
    // Somebody blocks it, root or not.
    systemd.exec(&["systemctl", "start", "rextest-block"]).ends(0);
    let blocked = |count: u32| until(10.0, || systemd.run(&rex, "reboot(#{check: true}).inhibitors.len()").value() == count);
    assert!(blocked(1));
    systemd.run(&rex, "reboot(#{check: true}).inhibitors.map(|i| [i.who, i.why, i.mode])").gives(json!([["backup", "running", "block"]]));
    let run = systemd.run(&rex, "reboot()");
    assert_eq!(kind(&run), "busy", "{run:#?}");
    assert!(common::alive(pid));
    systemd.exec(&["systemctl", "stop", "rextest-block"]).ends(0);
    assert!(blocked(0));
    let (program, config, policy) = (rex.program().to_str().unwrap(), rex.config_file(), rex.policy_file());
    rex.finish(
        systemd.command(&[program, "run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]),
        b"reboot().by",
    );
    assert!(until(60.0, || !common::alive(pid)), "it still runs");
}

/// What any policy for services may hold, and all groups: none of it is a permit to end the machine.
const SERVICES: &str =
    r#"permit(principal, action in [systemd::Action::"edit", systemd::Action::"view", systemd::Action::"SystemdAction"], resource);"#;

#[test]
fn the_machine_is_ended_and_begun_anew_only_by_the_verbs_for_just_that() {
    needs_namespaces!();
    let rex = Rex::new().policy(SERVICES);
    let systemd = Systemd::boot(&rex, &[]);
    let pid = systemd.pid();
    for script in ["reboot()", "shutdown()", "reboot(#{check: true})", "shutdown(#{delay: 1})", "reboot(#{cancel: true})"] {
        let run = systemd.run(&rex, script);
        run.is_denied();
        assert!(run.events("effect").is_empty(), "{run:#?}");
    }
    let rex = rex.policy(r#"permit(principal, action == systemd::Action::"reboot", resource);"#);
    systemd.run(&rex, "shutdown()").is_denied();
    let run = systemd.run(&rex, "let c = reboot(#{check: true}); [c.possible, c.by, c.inhibitors]");
    run.gives(json!(["yes", "systemd", []]));
    let run = systemd.run(&rex, "reboot(#{delay: 60})");
    assert_eq!(kind(&run), "unsupported", "{run:#?}");
    let (program, config, policy) = (rex.program().to_str().unwrap(), rex.config_file(), rex.policy_file());
    let words =
        [program, "run", "-", "--dry-run", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"];
    let run = rex.finish(systemd.command(&words), b"reboot()");
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert!(common::alive(pid), "something of that ended it");
    assert_eq!(systemd.exec(&["systemctl", "is-system-running"]).stdout, "running\n");
    // The namespaces' first process ends with it, and nothing of this machine.
    rex.finish(
        systemd.command(&[program, "run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]),
        b"reboot()",
    );
    assert!(until(30.0, || !common::alive(pid)), "it still runs");
    let decisions: Vec<_> = rex.audit().into_iter().filter(|record| record["decision"] == "allow").collect();
    assert!(decisions.iter().any(|record| record["action"] == r#"systemd::Action::"reboot""#));
}
