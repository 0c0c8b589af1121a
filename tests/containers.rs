//! Containers of a real Podman, which runs in the namespaces of the test's own systemd; beside what podman itself says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

mod common;
use common::{Rex, Run, Systemd};
use serde_json::{Value, json};

/// Everything of Podman lies below /run, which is the namespaces' own.
const PODMAN: &str = "env HOME=/run/pod CONTAINERS_CONF=/run/pod/containers.conf podman --root=/run/pod/root --runroot=/run/pod/run --tmpdir=/run/pod/tmp --cgroup-manager=cgroupfs --storage-driver=vfs --events-backend=file";

/// An image of a shell with its libraries, made of the machine's own, and two containers of it.
const SET_UP: &str = r#"
set -eu
mkdir -p /run/pod
# The settings of the kernel are read-only in the namespaces.
printf '[containers]\ndefault_sysctls = []\n' >/run/pod/containers.conf
mkdir -p /run/pod/image/bin /run/pod/image/etc /run/pod/image/tmp
for program in /bin/sh /bin/sleep; do
    cp -L "$program" /run/pod/image/bin/
    for library in $(ldd "$program" | grep -o '/[^ ]*' | sort -u); do
        mkdir -p "/run/pod/image$(dirname "$library")"
        cp -L "$library" "/run/pod/image$library"
    done
done
tar -C /run/pod/image -c . | $PODMAN import -q - rextest:1 >/dev/null
# Without the right to raise limits crun cannot use control groups, and there are no figures then.
limits='--ulimit nofile=512:512 --ulimit nproc=512:512'
groups=
$PODMAN run -q --rm --network none $limits rextest:1 /bin/sh -c : 2>/dev/null || groups=--cgroups=disabled
echo "$groups" >/run/pod/groups
run() {
    name=$1
    shift
    $PODMAN run -q -d --name "$name" $groups --network none --log-driver k8s-file $limits --stop-timeout 1 "$@" >/dev/null
}
run web -e PASSWORD=hunter2 --label role=front rextest:1 /bin/sh -c 'echo first line; echo on the other stream >&2; trap "exit 0" TERM; while :; do sleep 0.1; done'
run db rextest:1 /bin/sh -c 'trap "exit 0" TERM; while :; do sleep 0.1; done'
run done rextest:1 /bin/sh -c 'exit 3'
"#;

const SERVICE: &str =
    "[Service]\nExecStart=/usr/bin/PODMAN system service -t 0 unix:///run/podman/podman.sock\nExecStartPre=/bin/mkdir -p /run/podman\n";

fn has_podman() -> bool {
    let there = std::path::Path::new("/usr/bin/podman").exists();
    if !there {
        eprintln!("skipped: this test needs podman");
    }
    there
}

fn podman(systemd: &Systemd, arguments: &str) -> Run {
    systemd.exec(&["sh", "-c", &format!("{PODMAN} {arguments}")])
}

fn state(systemd: &Systemd, name: &str) -> String {
    podman(systemd, &format!("inspect -f '{{{{.State.Status}}}} {{{{.State.Pid}}}}' {name}")).stdout.trim().to_owned()
}

#[track_caller]
fn value(run: &Run) -> Value {
    run.ends(0);
    run.value()
}

const WEB_ONLY: &str = r#"
permit(principal, action, resource) when { resource is container_system::Container && resource.name == "web" };
forbid(principal, action == container_system::Action::"stop", resource);
"#;

#[test]
fn containers_are_looked_at_and_restarted_as_the_policy_says_and_podman_agrees() {
    needs_namespaces!();
    if !has_podman() {
        return;
    }
    let rex = Rex::new().policy(common::ALLOW_ALL);
    let systemd = Systemd::boot(&rex, &[("rextest-podman.service", &SERVICE.replace("PODMAN", PODMAN))]);
    // Before there is an engine.
    systemd.run(&rex, "try { containers() } catch (e) { return e.kind }").gives("unsupported");
    let made = systemd.exec(&["env", &format!("PODMAN={PODMAN}"), "sh", "-c", SET_UP]);
    assert_eq!(made.code, 0, "{made:#?}");
    assert_eq!(systemd.exec(&["systemctl", "start", "rextest-podman"]).code, 0);
    assert!(common::until(10.0, || systemd.exec(&["test", "-S", "/run/podman/podman.sock"]).code == 0));

    // What there is.
    let all = value(&systemd.run(&rex, "containers()"));
    let names: Vec<&str> = all.as_array().unwrap().iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!(names, ["db", "done", "web"]);
    assert_eq!(
        (&all[2]["state"], &all[1]["state"], &all[2]["labels"]["role"]),
        (&json!("running"), &json!("exited"), &json!("front")),
        "{all:#}"
    );
    assert!(all[2]["image"].as_str().unwrap().ends_with("rextest:1") && all[2]["created"].as_str().unwrap().starts_with("20"), "{all:#}");
    systemd.run(&rex, r#"containers(#{state: "running", pattern: "w*"}).map(|c| c.name)"#).gives(json!(["web"]));
    let web = value(&systemd.run(&rex, r#"container("web")"#));
    let (id, pid) = (web["id"].as_str().unwrap().to_owned(), web["pid"].as_u64().unwrap());
    assert_eq!(state(&systemd, "web"), format!("running {pid}"));
    assert_eq!(
        (&web["running"], &web["command"][0], &web["network_mode"], &web["privileged"]),
        (&json!(true), &json!("/bin/sh"), &json!("none"), &json!(false)),
        "{web:#}"
    );
    assert!(web["environment"].as_array().unwrap().contains(&json!("PASSWORD")) && web["finished"].is_null(), "{web:#}");
    assert!(!web.to_string().contains("hunter2"), "{web:#}");
    assert_eq!(value(&systemd.run(&rex, r#"container("done").exit_code"#)), 3);
    // The beginning of an id is the container that has it.
    systemd.run(&rex, &format!(r#"container("{}").name"#, &id[..12])).gives("web");
    systemd.run(&rex, r#"try { container("nonesuch") } catch (e) { return e.kind }"#).gives("not_found");
    let lines = value(&systemd.run(&rex, r#"container_logs("web")"#));
    let told: Vec<(&str, &str)> =
        lines.as_array().unwrap().iter().map(|line| (line["stream"].as_str().unwrap(), line["text"].as_str().unwrap())).collect();
    assert!(told.contains(&("stdout", "first line")) && told.contains(&("stderr", "on the other stream")), "{lines:#}");
    assert!(lines[0]["time"].as_str().unwrap().starts_with("20"), "{lines:#}");
    systemd.run(&rex, r#"container_logs("web", #{stream: "stderr"}).map(|l| l.text)"#).gives(json!(["on the other stream"]));
    systemd.run(&rex, r#"container_logs("web", #{since: "-0s"}).len()"#).gives(0);
    systemd.run(&rex, r#"try { container_logs("web", #{max_bytes: 10}) } catch (e) { return e.kind }"#).gives("too_large");
    let stats = systemd.run(&rex, r#"container_stats("web")"#);
    if systemd.exec(&["cat", "/run/pod/groups"]).stdout.trim().is_empty() {
        let stats = value(&stats);
        assert!(stats["processes"].as_u64().unwrap() >= 1 && stats["time"].as_str().is_some(), "{stats:#}");
    } else {
        assert_eq!(stats.json()["error"]["kind"], "job_failed", "{stats:#?}");
    }
    systemd.run(&rex, r#"try { container_stats("done") } catch (e) { return e.kind }"#).gives("job_failed");

    // One of them, and not stopping it.
    let rex = rex.policy(WEB_ONLY);
    let before = (state(&systemd, "web"), state(&systemd, "db"));
    let db = podman(&systemd, "inspect -f '{{.Id}}' db").stdout.trim().to_owned();
    for denied in [
        r#"container_stop("web")"#.to_owned(),
        format!(r#"container_stop("{id}")"#),
        r#"container_restart("db")"#.to_owned(),
        format!(r#"container_restart("{db}")"#),
        format!(r#"container_logs("{}")"#, &db[..12]),
        r#"container("nonesuch")"#.to_owned(),
        "containers()".to_owned(),
    ] {
        let run = systemd.run(&rex, &denied);
        run.is_denied();
        assert!(!run.stdout.contains("\"name\": \"db\""), "{run:#?}");
    }
    for odd in ["../images/json", "web/exec", "web?x=1", "web/../db", "%77eb", "", "web\\r\\nX: y"] {
        systemd.run(&rex, &format!("container_restart(\"{odd}\")")).ends(1);
    }
    assert_eq!((state(&systemd, "web"), state(&systemd, "db")), before);
    let run = systemd.run_with(&rex, &["--dry-run"], r#"container_restart("web")"#);
    assert_eq!(run.json()["would_change_count"], 1, "{run:#?}");
    assert_eq!(state(&systemd, "web"), before.0);
    let run = systemd.run(&rex, r#"let done = container_restart("web", #{grace: 1}); [done.name, done.changed, done.before, done.state]"#);
    run.gives(json!(["web", true, "running", "running"]));
    assert!(
        run.events("effect").iter().any(|record| record["resource"] == "container_system::Container::\"web\"" && record["result"] == "ok"),
        "{run:#?}"
    );
    assert_eq!(run.events("decision")[0]["attributes"]["image"].as_str().map(|image| image.ends_with("rextest:1")), Some(true), "{run:#?}");
    let now = state(&systemd, "web");
    assert!(now.starts_with("running ") && now != before.0, "{now}");
    assert_eq!(state(&systemd, "db"), before.1);

    let rex = rex.policy(common::ALLOW_ALL);
    systemd.run(&rex, r#"let done = container_stop("db", #{grace: 1}); [done.before, done.state]"#).gives(json!(["running", "exited"]));
    assert_eq!(state(&systemd, "db"), "exited 0");
    systemd.run(&rex, r#"let done = container_start("db"); [done.changed, done.state]"#).gives(json!([true, "running"]));
    assert!(state(&systemd, "db").starts_with("running "));
    systemd.run(&rex, r#"container_start("db").changed"#).gives(false);
    // By image, which only the engine knows.
    let rex = rex.policy(r#"permit(principal, action == container_system::Action::"inspect", resource) when { resource has image && resource.image like "*rextest:1" };"#);
    systemd.run(&rex, r#"container("web").name"#).gives("web");
    let rex = rex.policy(r#"permit(principal, action == container_system::Action::"inspect", resource) when { resource has image && resource.image like "*other:1" };"#);
    systemd.run(&rex, r#"container("web").name"#).is_denied();
    // rex.toml says where the socket is, and where there is none.
    let rex = rex.policy(common::ALLOW_ALL).config("[containers]\nsocket = \"/run/nowhere.sock\"");
    systemd.run(&rex, "try { containers() } catch (e) { return e.kind }").gives("unsupported");
    podman(&systemd, "rm -f -t 0 -a");
}
