//! An attacker who has broken out of the gate: any system call is his (`raw_syscall`, of builds for this test only). What the kernel's fence holds then.
//! Built by `cargo test --features raw-syscall-door --test door`; by `./test` too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Account, Rex, Run};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::{Child, Command};

/// Reads one folder.
const READER: &str = "permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/in\");";
/// Reads, writes, makes, removes and moves there; modes and owners it may not change.
const WRITER: &str = "permit(principal, action in [file_system::Action::\"read\", file_system::Action::\"write\", file_system::Action::\"create\", \
     file_system::Action::\"delete\", file_system::Action::\"move\"], resource in file_system::Dir::\"{data}/in\");";
/// The same without moves, which owners and modes go with.
const EDITOR: &str = "permit(principal, action in [file_system::Action::\"read\", file_system::Action::\"write\", file_system::Action::\"create\"], \
     resource in file_system::Dir::\"{data}/in\");";
/// Sees processes and the machine, and one folder.
const WATCHER: &str = "permit(principal, action == process_system::Action::\"list\", resource);\n\
     permit(principal, action == sysinfo::Action::\"list\", resource);\n\
     permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/in\");";
/// Starts one program.
const STARTER: &str = "permit(principal, action == file_system::Action::\"execute\", resource == file_system::File::\"/usr/bin/true\");\n\
     permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/in\");";

/// Reads and changes one file by its path.
const NAMED: &str = "permit(principal, action in [file_system::Action::\"read\", file_system::Action::\"write\"], \
     resource == file_system::File::\"{data}/in/open.txt\");";
/// Fetches from one port of this host.
const FETCHER: &str = "permit(principal, action == network::Action::\"GET\", resource) when { resource.url like \"http://127.0.0.1:9/*\" };\n\
     permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/in\");";
/// Looks at services and restarts them.
const RESTARTER: &str = "permit(principal, action in [systemd::Action::\"status\", systemd::Action::\"restart\"], resource is systemd::Service);\n\
     permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"{data}/in\");";

/// Everything outside of the policy that is attacked.
struct Host {
    rex: Rex,
    victim: Child,
    tcp: TcpListener,
    path: UnixListener,
    datagrams: UnixDatagram,
    abstract_name: String,
    _abstract: UnixListener,
    before: Outside,
}

#[derive(Debug, PartialEq, Eq)]
struct Outside(BTreeMap<String, Facts>);

/// Mode, owner, group, links, time of the last change and contents.
type Facts = (u32, u32, u32, u64, i64, i64, Vec<u8>);

fn outside(rex: &Rex) -> Outside {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(rex.data().join("out")).unwrap() {
        let entry = entry.unwrap();
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        let text = if meta.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let facts = (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.mtime(), meta.mtime_nsec(), text);
        all.insert(entry.file_name().to_string_lossy().into_owned(), facts);
    }
    Outside(all)
}

impl Host {
    fn new(policy: &str, account: Option<&Account>) -> Self {
        let rex = Rex::new().policy(policy).file("in/open.txt", "open\n").file("in/more.txt", "more\n").file("out/secret.txt", "secret\n");
        let rex = rex.file("out/victim.txt", "victim\n");
        fs::copy("/bin/true", rex.data().join("in/program")).unwrap();
        fs::set_permissions(rex.data().join("in/program"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = UnixListener::bind(rex.data().join("out/stream")).unwrap();
        let datagrams = UnixDatagram::bind(rex.data().join("out/datagrams")).unwrap();
        let abstract_name = format!("rex-door-{}-{}", std::process::id(), rex.root().display());
        let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        let rex = match account {
            None => rex,
            Some(account) => {
                // All of it is the attacker's by Unix rights: only the fence is in the way.
                for name in [
                    "in",
                    "out",
                    "in/open.txt",
                    "in/more.txt",
                    "in/program",
                    "out/secret.txt",
                    "out/victim.txt",
                    "out/stream",
                    "out/datagrams",
                ] {
                    chown(rex.data().join(name), Some(account.uid), Some(account.gid)).unwrap();
                }
                rex.account(account)
            }
        };
        let mut sleep = Command::new("sleep");
        sleep.arg("300");
        if let Some(account) = account {
            account.become_(&mut sleep);
        }
        let victim = sleep.spawn().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        tcp.set_nonblocking(true).unwrap();
        path.set_nonblocking(true).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let before = outside(&rex);
        Self { rex, victim, tcp, path, datagrams, abstract_name, _abstract, before }
    }

    fn run(&self, account: Option<&Account>, script: &str) -> Run {
        let (config, policy) = (self.rex.config_file(), self.rex.policy_file());
        let mut command =
            self.rex.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "-o", "json"]);
        if let Some(account) = account {
            account.become_(&mut command);
        }
        self.rex.finish(command, self.rex.fill(script).as_bytes())
    }

    /// `sockaddr` as the text of a Rhai string.
    fn unix_address(&self, path: &str) -> String {
        format!("\"\\x01\\x00{path}\"")
    }
    fn tcp_address(&self) -> String {
        let port = self.tcp.local_addr().unwrap().port().to_be_bytes();
        // A blob, since a string holds characters.
        format!("bytes([2, 0, {}, {}, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])", port[0], port[1])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// Helpers of the attacker's script.
const PRELUDE: &str = r#"
fn bytes(numbers) { let b = blob(numbers.len(), 0); for i in 0..numbers.len() { b[i] = numbers[i]; } b }
fn sys(number, arguments) { raw_syscall(number, arguments).result }
"#;

const AT: i64 = libc::AT_FDCWD as i64;
const SIZE: usize = 4096;

/// What is tried under every policy: the name, and an expression that gives a negative number where the kernel refused.
fn attacks(host: &Host) -> Vec<(String, String)> {
    let victim = host.victim.id();
    let own = std::process::id();
    let (stream, datagrams) = (host.rex.path("out/stream"), host.rex.path("out/datagrams"));
    let abstracted = format!("\"\\x01\\x00\\x00{}\"", host.abstract_name);
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add =
        |name: &str, number: i64, arguments: &str| all.push((name.replace("{data}", "data"), format!("sys({number}, [{arguments}])")));
    // Reading.
    let how = "bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])";
    for path in [
        "/etc/shadow",
        "{data}/out/secret.txt",
        "{data}/in/../out/secret.txt",
        "/proc/self/root/etc/shadow",
        "/proc/1/environ",
        "/dev/zero",
    ] {
        add(&format!("openat {path}"), libc::SYS_openat, &format!("{AT}, \"{path}\", 0"));
        add(&format!("openat2 {path}"), libc::SYS_openat2, &format!("{AT}, \"{path}\", {how}, 24"));
        #[cfg(target_arch = "x86_64")]
        add(&format!("open {path}"), libc::SYS_open, &format!("\"{path}\", 0"));
    }
    add("list", libc::SYS_openat, &format!("{AT}, \"{{data}}/out\", {}", libc::O_DIRECTORY));
    add("open_by_handle_at", libc::SYS_open_by_handle_at, &format!("{AT}, blob(128, 0), 0"));
    add("name_to_handle_at", libc::SYS_name_to_handle_at, &format!("{AT}, \"/etc/shadow\", blob(128, 0), blob(8, 0), 0"));
    add("process memory", libc::SYS_openat, &format!("{AT}, \"/proc/{victim}/mem\", 2"));
    add("process environment", libc::SYS_openat, &format!("{AT}, \"/proc/{victim}/environ\", 0"));
    add("own memory", libc::SYS_openat, &format!("{AT}, \"/proc/self/mem\", 2"));
    add("process_vm_readv", libc::SYS_process_vm_readv, &format!("{victim}, [blob(64, 0), 64], 1, [4194304, 64], 1, 0"));
    add("process_vm_writev", libc::SYS_process_vm_writev, &format!("{victim}, [blob(64, 0), 64], 1, [4194304, 64], 1, 0"));
    add("ptrace", libc::SYS_ptrace, &format!("{}, {victim}, 0, 0", libc::PTRACE_ATTACH));
    add("pidfd_getfd", libc::SYS_pidfd_getfd, "3, 1, 0");
    // Writing.
    let flags = libc::O_WRONLY | libc::O_CREAT;
    add("write outside", libc::SYS_openat, &format!("{AT}, \"{{data}}/out/secret.txt\", {}", libc::O_WRONLY));
    add("append outside", libc::SYS_openat, &format!("{AT}, \"{{data}}/out/secret.txt\", {}", libc::O_WRONLY | libc::O_APPEND));
    add("cut off by opening", libc::SYS_openat, &format!("{AT}, \"{{data}}/out/secret.txt\", {}", libc::O_TRUNC));
    add("make outside", libc::SYS_openat, &format!("{AT}, \"{{data}}/out/new\", {flags}, 438"));
    add("nameless outside", libc::SYS_openat, &format!("{AT}, \"{{data}}/out\", {}, 438", libc::O_WRONLY | libc::O_TMPFILE));
    add("truncate", libc::SYS_truncate, "\"{data}/out/secret.txt\", 0");
    add("unlinkat", libc::SYS_unlinkat, &format!("{AT}, \"{{data}}/out/victim.txt\", 0"));
    add("mkdirat", libc::SYS_mkdirat, &format!("{AT}, \"{{data}}/out/dir\", 511"));
    add("mknodat", libc::SYS_mknodat, &format!("{AT}, \"{{data}}/out/device\", {}, 259", libc::S_IFCHR | 0o666));
    add("mknodat inside", libc::SYS_mknodat, &format!("{AT}, \"{{data}}/in/device\", {}, 259", libc::S_IFCHR | 0o666));
    add("rename within outside", libc::SYS_renameat2, &format!("{AT}, \"{{data}}/out/victim.txt\", {AT}, \"{{data}}/out/x\", 0"));
    add("rename out", libc::SYS_renameat2, &format!("{AT}, \"{{data}}/in/more.txt\", {AT}, \"{{data}}/out/x\", 0"));
    add("rename in", libc::SYS_renameat2, &format!("{AT}, \"{{data}}/out/victim.txt\", {AT}, \"{{data}}/in/x\", 0"));
    add("link in", libc::SYS_linkat, &format!("{AT}, \"{{data}}/out/secret.txt\", {AT}, \"{{data}}/in/y\", 0"));
    add("link out", libc::SYS_linkat, &format!("{AT}, \"{{data}}/in/more.txt\", {AT}, \"{{data}}/out/y\", 0"));
    add("symlink outside", libc::SYS_symlinkat, &format!("\"/etc/shadow\", {AT}, \"{{data}}/out/z\""));
    add("chmod", libc::SYS_fchmodat, &format!("{AT}, \"{{data}}/out/secret.txt\", 2541"));
    add("fchmodat2", 452, &format!("{AT}, \"{{data}}/out/secret.txt\", 2541, 0"));
    add("chown", libc::SYS_fchownat, &format!("{AT}, \"{{data}}/out/secret.txt\", 12345, 12345, 0"));
    add("setxattr", libc::SYS_setxattr, "\"{data}/out/secret.txt\", \"user.x\", \"y\", 1, 0");
    add("removexattr", libc::SYS_removexattr, "\"{data}/out/secret.txt\", \"user.x\"");
    add("mount", libc::SYS_mount, "\"none\", \"{data}/out\", \"tmpfs\", 0, 0");
    add("bind mount", libc::SYS_mount, &format!("\"{{data}}/out\", \"{{data}}/in\", 0, {}, 0", libc::MS_BIND));
    add("open_tree", libc::SYS_open_tree, &format!("{AT}, \"{{data}}/out\", 1"));
    add("move_mount", libc::SYS_move_mount, &format!("{AT}, \"{{data}}/out\", {AT}, \"{{data}}/in\", 0"));
    add("pivot_root", libc::SYS_pivot_root, "\"{data}/in\", \"{data}/in\"");
    add("chroot", libc::SYS_chroot, "\"{data}/in\"");
    add("setns", libc::SYS_setns, "3, 0");
    add("unshare user", libc::SYS_unshare, &format!("{}", libc::CLONE_NEWUSER));
    add("unshare mounts", libc::SYS_unshare, &format!("{}", libc::CLONE_NEWNS));
    add("swapon", libc::SYS_swapon, "\"{data}/out/secret.txt\", 0");
    // Talking.
    add("socket inet", libc::SYS_socket, "2, 1, 0");
    add("socket inet6", libc::SYS_socket, "10, 1, 0");
    add("socket inet datagram", libc::SYS_socket, "2, 2, 0");
    add("socket netlink", libc::SYS_socket, "16, 3, 0");
    add("socket packet", libc::SYS_socket, "17, 3, 0");
    add("socket vsock", libc::SYS_socket, "40, 1, 0");
    add("socket alg", libc::SYS_socket, "38, 5, 0");
    add("socket unix", libc::SYS_socket, "1, 1, 0");
    add("socket unix datagram", libc::SYS_socket, "1, 2, 0");
    add("socketpair datagram", libc::SYS_socketpair, "1, 2, 0, blob(8, 0)");
    for fd in 0..24 {
        for (what, address, length) in [
            ("inet", host.tcp_address(), 16),
            ("stream", host.unix_address(&stream), stream.len() + 3),
            ("abstract", abstracted.clone(), host.abstract_name.len() + 3),
            ("datagrams", host.unix_address(&datagrams), datagrams.len() + 3),
        ] {
            add(&format!("connect {fd} {what}"), libc::SYS_connect, &format!("{fd}, {address}, {length}"));
            add(&format!("sendto {fd} {what}"), libc::SYS_sendto, &format!("{fd}, \"x\", 1, 16448, {address}, {length}"));
        }
        add(&format!("fasync owner {fd}"), libc::SYS_fcntl, &format!("{fd}, {}, {victim}", libc::F_SETOWN));
        add(&format!("fasync signal {fd}"), libc::SYS_fcntl, &format!("{fd}, 10, 9"));
        add(&format!("flags {fd}"), libc::SYS_fcntl, &format!("{fd}, {}, 0", libc::F_SETFL));
    }
    add("typing into the terminal", libc::SYS_ioctl, &format!("0, {}, \"x\"", libc::TIOCSTI));
    // Signals.
    add("kill", libc::SYS_kill, &format!("{victim}, 9"));
    add("kill the caller", libc::SYS_kill, &format!("{own}, 10"));
    add("tkill", libc::SYS_tkill, &format!("{victim}, 9"));
    add("tgkill", libc::SYS_tgkill, &format!("{victim}, {victim}, 9"));
    add("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &format!("{victim}, 9, blob(128, 0)"));
    add("pidfd_open", libc::SYS_pidfd_open, &format!("{victim}, 0"));
    add("pidfd_send_signal", libc::SYS_pidfd_send_signal, "3, 9, 0, 0");
    add("limits of another", libc::SYS_prlimit64, &format!("{victim}, 7, blob(16, 0), 0"));
    // Programs.
    add("execve", libc::SYS_execve, "\"/bin/true\", [\"true\"], [0]");
    add("execve inside", libc::SYS_execve, "\"{data}/in/program\", [\"true\"], [0]");
    add("execveat", libc::SYS_execveat, &format!("{AT}, \"/bin/true\", [\"true\"], [0], 0"));
    #[cfg(target_arch = "x86_64")]
    {
        add("fork", libc::SYS_fork, "");
        add("vfork", libc::SYS_vfork, "");
    }
    add("clone", libc::SYS_clone, "17, 0, 0, 0, 0");
    add("clone in a new user namespace", libc::SYS_clone, &format!("{}, 0, 0, 0, 0", libc::CLONE_NEWUSER | 17));
    add("clone3", libc::SYS_clone3, "blob(88, 0), 88");
    add("code in memory", libc::SYS_mmap, &format!("0, {SIZE}, 7, {}, -1, 0", libc::MAP_PRIVATE | libc::MAP_ANONYMOUS));
    add("memory to code", libc::SYS_mprotect, &format!("blob({}, 0), {SIZE}, 5", 3 * SIZE));
    add("pkey_mprotect", libc::SYS_pkey_mprotect, &format!("blob({}, 0), {SIZE}, 5, -1", 3 * SIZE));
    // The kernel's own machinery.
    add("io_uring_setup", libc::SYS_io_uring_setup, "4, blob(120, 0)");
    add("bpf", libc::SYS_bpf, "0, blob(128, 0), 128");
    add("userfaultfd", libc::SYS_userfaultfd, "1");
    add("perf_event_open", libc::SYS_perf_event_open, "blob(128, 0), 0, -1, -1, 0");
    add("keyctl", libc::SYS_keyctl, "0, -3, 0");
    add("add_key", libc::SYS_add_key, "\"user\", \"x\", \"y\", 1, -3");
    add("init_module", libc::SYS_init_module, "blob(64, 0), 64, \"\"");
    add("fanotify_init", libc::SYS_fanotify_init, "0, 0");
    add("personality", libc::SYS_personality, "4194304");
    add("syslog", libc::SYS_syslog, "2, blob(64, 0), 64");
    // The fence itself.
    add("seccomp", libc::SYS_seccomp, "0, 0, 0");
    add("prctl seccomp", libc::SYS_prctl, "22, 1, 0, 0, 0");
    add("prctl dumpable", libc::SYS_prctl, "4, 1, 0, 0, 0");
    add("prctl ptracer", libc::SYS_prctl, &format!("{}, -1, 0, 0, 0", libc::PR_SET_PTRACER));
    add("prctl ambient", libc::SYS_prctl, "47, 2, 0, 0, 0");
    add("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, "0, 0, 1");
    add("setuid", libc::SYS_setuid, "0");
    add("setresuid", libc::SYS_setresuid, "0, 0, 0");
    add("setgid", libc::SYS_setgid, "0");
    add("setgroups", libc::SYS_setgroups, "0, 0");
    add("setfsuid", libc::SYS_setfsuid, "0");
    add("capset", libc::SYS_capset, "bytes([34, 5, 8, 32, 0, 0, 0, 0]), blob(24, 255)");
    add("setsid", libc::SYS_setsid, "");
    all
}

/// The errors that a refusal is: EPERM and EACCES, EXDEV of a move that Landlock refuses, ENOSYS of clone3.
const REFUSALS: &[i64] = &[-1, -13, -18, -38];

fn holds(policy: &str, account: Option<&Account>) {
    let host = Host::new(policy, account);
    let attacks = attacks(&host);
    let mut script = format!("{PRELUDE}let r = #{{}};\nr[\"control\"] = sys({}, [{AT}, \"{{data}}/in/open.txt\", 0]);\n", libc::SYS_openat);
    for (name, attack) in &attacks {
        script.push_str(&format!("r[\"{name}\"] = {attack};\n"));
    }
    // The records: cut off, overwritten, given another mode.
    for fd in 3..24 {
        script.push_str(&format!("sys({}, [{fd}, 0]); sys({}, [{fd}, 511]);\n", libc::SYS_ftruncate, libc::SYS_fchmod));
        script.push_str(&format!(
            "let d = sys({}, [{fd}, {}, 100]); if d >= 0 {{ sys({}, [d, 0]); }}\n",
            libc::SYS_fcntl,
            libc::F_DUPFD,
            libc::SYS_ftruncate
        ));
        script.push_str(&format!("let d = sys({}, [{fd}]); if d >= 0 {{ sys({}, [d, 0]); }}\n", libc::SYS_dup, libc::SYS_ftruncate));
    }
    script.push('r');
    let run = host.run(account, &script);
    run.ends(0);
    let results = run.value();
    assert!(results["control"].as_i64() >= Some(0), "the door is shut, so nothing was tried: {results}");
    let mut through: Vec<String> = Vec::new();
    for (name, attack) in &attacks {
        let result = results[name].as_i64().unwrap_or_else(|| panic!("{name} gave nothing: {results}"));
        if !REFUSALS.contains(&result) {
            through.push(format!("{name} gave {result}: {attack}"));
        }
    }
    assert!(through.is_empty(), "{}", through.join("\n"));
    // And what can be seen from outside.
    assert_eq!(outside(&host.rex), host.before);
    assert!(common::alive(host.victim.id()), "the victim is dead");
    assert!(host.tcp.accept().is_err() && host.path.accept().is_err(), "somebody connected");
    assert!(host.datagrams.recv(&mut [0; 8]).is_err(), "a datagram came");
    assert_eq!(run.events("run_start").len(), 1, "the records were cut off: {:?}", run.audit);
    assert_eq!(fs::metadata(host.rex.audit_file()).unwrap().mode() & 0o7777, 0o660);
    let layers = run.json()["layers"].to_string();
    assert!(layers.contains("landlock") && layers.contains("seccomp"), "{layers}");
}

fn as_root_and_as_a_user(policy: &str) {
    holds(policy, None);
    if common::is_root() {
        holds(policy, Some(&Account::new()));
    }
}

#[test]
fn behind_a_policy_that_reads_nothing_else_is_reached() {
    as_root_and_as_a_user(READER);
}

#[test]
fn behind_a_policy_that_writes_nothing_outside_is_changed() {
    as_root_and_as_a_user(EDITOR);
}

#[test]
fn behind_a_policy_that_watches_processes_none_is_touched() {
    as_root_and_as_a_user(WATCHER);
}

#[test]
fn behind_a_policy_that_starts_one_program_no_other_is_started() {
    as_root_and_as_a_user(STARTER);
}

#[test]
fn behind_a_policy_that_names_one_file_no_other_is_opened() {
    as_root_and_as_a_user(NAMED);
}

/// Who opens such a file beside the fence is asked by number, and is asked everything here.
#[test]
fn the_opener_of_named_files_opens_nothing_else() {
    let host = Host::new(NAMED, None);
    let mut script = format!("{PRELUDE}let r = [];\n");
    for fd in 3..24 {
        for number in [0, 1, 2, 255] {
            for flags in [
                libc::O_RDONLY,
                libc::O_WRONLY,
                libc::O_RDWR | libc::O_APPEND,
                libc::O_RDONLY | libc::O_TRUNC,
                libc::O_WRONLY | libc::O_CREAT,
            ] {
                let flags = flags.to_le_bytes();
                script.push_str(&format!(
                    "if sys({}, [{fd}, bytes([{number}, 0, 0, 0, {}, {}, {}, {}]), 8, 16448, 0, 0]) == 8 {{ let n = raw_syscall({}, [{fd}, blob(4, 0), 4, 0, 0, 0]); r.push([{number}, n.result, n.bytes[0][0]]); }}\n",
                    libc::SYS_sendto, flags[0], flags[1], flags[2], flags[3], libc::SYS_recvfrom
                ));
            }
        }
    }
    // Only what was opened for reading and for writing at all, as the policy has it; the answer is no error in exactly these cases.
    script.push_str("r");
    let run = host.run(None, &script);
    run.ends(0);
    let answers = run.value();
    let answers = answers.as_array().unwrap();
    let opened = answers.iter().filter(|answer| answer[1] == 4 && answer[2] == 0).count();
    assert_eq!(opened, 3, "{answers:?}");
    assert!(answers.iter().all(|answer| answer[0] == 0 || answer[2] != 0), "{answers:?}");
    assert_eq!(outside(&host.rex), host.before);
    assert_eq!(fs::read(host.rex.data().join("in/open.txt")).unwrap(), b"open\n");
}

/// Sockets of the internet there are then, and they lead to that port; Landlock knows no addresses and no datagrams.
#[test]
fn behind_a_policy_for_one_port_no_other_is_reached() {
    for account in [None, common::is_root().then(Account::new)] {
        let host = Host::new(FETCHER, account.as_ref());
        let opened = ["socket inet", "socket inet6", "socket inet datagram"];
        let mut script = format!("{PRELUDE}let r = #{{}};\n");
        for (name, attack) in attacks(&host).iter().filter(|(name, _)| !opened.contains(&name.as_str())) {
            script.push_str(&format!("r[\"{name}\"] = {attack};\n"));
        }
        let address = host.tcp_address();
        script.push_str(&format!("let s = sys({}, [2, 1, 0]); let opened = s;\n", libc::SYS_socket));
        for (name, call, arguments) in [
            ("connect to another port", libc::SYS_connect, format!("s, {address}, 16")),
            ("send to another port", libc::SYS_sendto, format!("s, \"x\", 1, {}, {address}, 16", libc::MSG_FASTOPEN)),
            ("bind", libc::SYS_bind, "s, bytes([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), 16".to_owned()),
            ("listen", libc::SYS_listen, "s, 1".to_owned()),
            ("raw", libc::SYS_socket, "2, 3, 1".to_owned()),
            ("icmp", libc::SYS_socket, "2, 2, 1".to_owned()),
            ("netlink", libc::SYS_socket, "16, 2, 0".to_owned()),
        ] {
            script.push_str(&format!("r[\"{name}\"] = sys({call}, [{arguments}]);\n"));
        }
        script.push_str("[opened, r]");
        let run = host.run(account.as_ref(), &script);
        run.ends(0);
        let results = run.value();
        assert!(results[0].as_i64() > Some(0), "no socket, so nothing was tried: {results}");
        let refused = |result: &serde_json::Value| REFUSALS.contains(&result.as_i64().unwrap());
        // connect(2) itself is permitted: of what is open nothing is a socket.
        let no_socket = |name: &str, result: &serde_json::Value| {
            name.starts_with("connect ") && [-i64::from(libc::ENOTSOCK), -i64::from(libc::EBADF)].contains(&result.as_i64().unwrap())
        };
        let answers = results[1].as_object().unwrap().iter();
        let through: Vec<_> = answers.filter(|(name, result)| !refused(result) && !no_socket(name, result)).collect();
        assert!(through.is_empty(), "{through:?}");
        assert!(host.tcp.accept().is_err() && host.path.accept().is_err() && host.datagrams.recv(&mut [0; 8]).is_err());
        assert_eq!(outside(&host.rex), host.before);
    }
}

#[test]
fn behind_a_policy_for_services_no_socket_is_opened() {
    as_root_and_as_a_user(RESTARTER);
}

/// With the system bus at hand, and connected.
#[test]
fn behind_a_policy_for_services_the_bus_is_the_only_socket() {
    needs_namespaces!();
    let rex = Rex::new().policy(RESTARTER).file("in/open.txt", "open\n");
    let systemd = common::Systemd::boot(&rex, &[]);
    let bus = "\"\\x01\\x00/run/systemd/private\"";
    let mut script = format!("{PRELUDE}let r = [];\n");
    for fd in 0..24 {
        script.push_str(&format!("r.push(sys({}, [{fd}, {bus}, 23]));\n", libc::SYS_connect));
    }
    script.push_str(&format!("r.push(sys({}, [1, 1, 0])); r.push(sys({}, [1, 5, 0]));\n", libc::SYS_socket, libc::SYS_socket));
    script.push_str("[r, service_status(\"dbus.service\").active_state, r]");
    let run = systemd.run(&rex, &script);
    run.ends(0);
    let results = run.value();
    assert_eq!(results[1], "active", "{run:#?}");
    assert!(results[0].as_array().unwrap().iter().all(|result| REFUSALS.contains(&result.as_i64().unwrap())), "{results}");
}

/// Moves need modes and owners of what goes to another filesystem, which Landlock knows nothing of; everything else holds.
#[test]
fn behind_a_policy_that_moves_contents_outside_stay() {
    for account in [None, common::is_root().then(Account::new)] {
        let host = Host::new(WRITER, account.as_ref());
        let script: String = attacks(&host)
            .iter()
            .filter(|(name, _)| !["chmod", "fchmodat2", "chown"].contains(&name.as_str()) && !name.starts_with("flags"))
            .map(|(name, attack)| format!("r[\"{name}\"] = {attack};\n"))
            .collect();
        let run = host.run(account.as_ref(), &format!("{PRELUDE}let r = #{{}};\n{script}r"));
        run.ends(0);
        let results = run.value();
        let through: Vec<_> =
            results.as_object().unwrap().iter().filter(|(_, result)| !REFUSALS.contains(&result.as_i64().unwrap())).collect();
        assert!(through.is_empty(), "{through:?}");
        assert_eq!(outside(&host.rex), host.before);
    }
}

/// The attacks are real: where policy permits everything, what needs no more than the account's rights goes through.
#[test]
fn without_bounds_the_same_attacks_succeed() {
    let host = Host::new(common::ALLOW_ALL, None);
    let script = format!(
        "{PRELUDE}[sys({}, [{AT}, \"{{data}}/out/secret.txt\", 0]), sys({}, [{AT}, \"{{data}}/out/dir\", 511]), \
         sys({}, [{AT}, \"{{data}}/in/more.txt\", {AT}, \"{{data}}/out/x\", 0]), sys({}, [{AT}, \"{{data}}/out/secret.txt\", 511])]",
        libc::SYS_openat,
        libc::SYS_mkdirat,
        libc::SYS_renameat2,
        libc::SYS_fchmodat
    );
    let run = host.run(None, &script);
    run.ends(0);
    let results = run.value();
    assert!(results.as_array().unwrap().iter().all(|result| result.as_i64() >= Some(0)), "{results}");
    assert_ne!(outside(&host.rex), host.before);
    let mut text = String::new();
    fs::File::open(host.rex.data().join("out/secret.txt")).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "secret\n");
}
