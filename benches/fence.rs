//! What the fence costs: `cargo bench --bench fence` prints microseconds. Each figure comes from processes of its own, since there is no way back from a fence:
//! this program starts itself with the word `inside`, which times the plan and the arming, and the same calls on files before and after. A run of rex has no such way round.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use rexsh::limits::Limits;
use rexsh::policy::{Policies, Scope, Source};
use rexsh::sys::fence::{Own, Plan, arm};
use std::process::Command;
use std::time::Instant;

const CHILDREN: usize = 101;
const CALLS: u32 = 5_000;
const FIGURES: [&str; 4] =
    ["the plan", "arming it", "openat2, fstat, readlink, open, read, close, close: before", "the same calls, fenced"];

const POLICY: &str = "permit(principal, action in [file_system::Action::\"open\", file_system::Action::\"read\"], resource in file_system::Dir::\"/etc\");
permit(principal, action == file_system::Action::\"read\", resource in file_system::Dir::\"/srv/data\") when { resource.path like \"/srv/*\" };";

fn main() {
    if std::env::args().nth(1).as_deref() == Some("inside") {
        return inside();
    }
    let mut all: Vec<Vec<f64>> = vec![Vec::new(); FIGURES.len()];
    for _ in 0..CHILDREN {
        let output = Command::new(std::env::current_exe().unwrap()).arg("inside").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        for (list, figure) in all.iter_mut().zip(text.split_whitespace()) {
            list.push(figure.parse().unwrap());
        }
    }
    for (name, mut figures) in FIGURES.iter().zip(all) {
        figures.sort_by(f64::total_cmp);
        println!("{name}: {:.2} us (best {:.2})", figures[figures.len() / 2], figures[0]);
    }
}

fn inside() {
    let micros = |since: Instant| since.elapsed().as_secs_f64() * 1e6;
    let source = Source { name: "p.cedar".into(), text: POLICY.into() };
    let scope = Scope { name: "ann".into(), groups: Vec::new() };
    let policies = Policies::load(&[source], &rexsh::terms::schema(), &scope, None).unwrap();
    calls();
    let before = Instant::now();
    (0..CALLS).for_each(|_| calls());
    let unfenced = micros(before) / f64::from(CALLS);
    let began = Instant::now();
    let plan = Plan::of(&policies, Own::default());
    let planned = micros(began);
    let began = Instant::now();
    rexsh::sys::confine::confine(&Limits::default()).unwrap();
    let layers = arm(&plan).unwrap();
    let armed = micros(began);
    assert!(layers.contains(&"seccomp"), "{layers:?}");
    let after = Instant::now();
    (0..CALLS).for_each(|_| calls());
    println!("{planned} {armed} {unfenced} {}", micros(after) / f64::from(CALLS));
}

/// What `cat` does with a small file.
fn calls() {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, open, openat2, readlink};
    use std::os::fd::AsRawFd as _;
    let pinned = openat2(CWD, "/etc/passwd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_MAGICLINKS).unwrap();
    fstat(&pinned).unwrap();
    let name = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    readlink(&name, Vec::new()).unwrap();
    let file = open(&name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    rustix::io::read(&file, &mut [0u8; 4096]).unwrap();
}
