//! Whether the machine should be started anew: marks of the package manager, and kernels that are installed but do not run.

use super::{machine, read_text};
use crate::policy::{Action, Granted};
use crate::resource::machine::Machine;
use std::cmp::Ordering;

/// Marks of Debian and Ubuntu (update-notifier-common, unattended-upgrades).
const MARK: &str = "/run/reboot-required";
const PACKAGES: &str = "/run/reboot-required.pkgs";
/// A folder for each kernel that is installed.
const KERNELS: &[&str] = &["/usr/lib/modules", "/lib/modules"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// The package manager says so.
    pub marked: bool,
    /// On whose account.
    pub packages: Vec<String>,
    pub running: String,
    /// The newest of those that are installed; nothing where none is.
    pub newest: Option<String>,
}

impl Restart {
    /// Whether a newer kernel than the running one is installed.
    #[must_use]
    pub fn newer_kernel(&self) -> bool {
        self.newest.as_ref().is_some_and(|newest| compare(newest, &self.running) == Ordering::Greater)
    }
}

#[must_use]
pub fn required<A: Action<On = Machine>>(machine: &Granted<A>) -> Restart {
    let mut packages: Vec<String> = Vec::new();
    for name in read_text(PACKAGES).unwrap_or_default().lines().map(str::trim).filter(|name| !name.is_empty()) {
        if !packages.iter().any(|known| known == name) {
            packages.push(name.to_owned());
        }
    }
    let marked = rustix::fs::stat(MARK).is_ok();
    let newest = KERNELS.iter().flat_map(|folder| kernels(folder)).max_by(|one, other| compare(one, other));
    Restart { marked, packages, running: machine::uname(machine).kernel_release, newest }
}

/// Folders that hold a kernel's modules: what a removed package leaves behind has no list of them.
fn kernels(folder: &str) -> Vec<String> {
    let Ok(open) = super::open_dir(folder) else { return Vec::new() };
    let entries = rustix::fs::Dir::read_from(&open).ok().into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned)).filter(|name| !name.starts_with('.'));
    names.filter(|name| rustix::fs::statat(&open, format!("{name}/modules.dep"), rustix::fs::AtFlags::empty()).is_ok()).collect()
}

/// Versions, numbers in them by their value.
fn compare(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        text.split(['.', '-', '+', '_', '~'])
            .map(|part| {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let (number, rest) = part.split_at(digits);
                (number.parse().unwrap_or(0), rest.to_owned())
            })
            .collect()
    };
    parts(one).cmp(&parts(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kernels_are_told_by_their_numbers() {
        let of = |running: &str, newest: &str| {
            Restart { running: running.into(), newest: Some(newest.into()), ..Restart::default() }.newer_kernel()
        };
        for (running, newest, newer) in [
            ("6.1.0-9-amd64", "6.1.0-13-amd64", true),
            ("6.1.0-13-amd64", "6.1.0-13-amd64", false),
            ("6.10.2-arch1-1", "6.9.7-arch1-1", false),
            ("5.14.0-362.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64", true),
        ] {
            assert_eq!(of(running, newest), newer, "{running} {newest}");
        }
        assert!(!Restart { running: "6.1".into(), ..Restart::default() }.newer_kernel());
    }
}
