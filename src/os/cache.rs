//! The folder of what was found out about policies once: trusted only where nobody but the owner of the policies can write.

use super::trusted::{Owner, Trusted};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::path::{Path, PathBuf};

/// Entries kept; the oldest go.
const KEPT: usize = 16;
/// Bytes of one entry.
const MAX: u64 = 64 << 20;

/// A folder of entries, each under a name of letters, digits and dashes.
pub struct CacheFolder {
    path: PathBuf,
    rule: Owner,
}

impl CacheFolder {
    #[must_use]
    pub fn new(path: PathBuf, rule: Owner) -> Self {
        Self { path, rule }
    }

    /// The entry, where it is there and nobody else could have written it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let rule = if self.rule == Owner::Unchecked { Owner::RootOrSelf } else { self.rule };
        Trusted::new(rule).read(&self.path.join(name), MAX).ok()
    }

    /// Keeps the entry, whole or not at all. Failing is no error.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let _ = self.try_put(name, bytes);
    }

    fn try_put(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.path)?;
        let folder = rustix::fs::open(&self.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        // Made under the umask of rex (0077); sessions of other accounts read it.
        rustix::fs::chmodat(&folder, ".", Mode::from_raw_mode(0o755), AtFlags::empty())?;
        let temporary = format!(".{name}.{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, temporary.as_str(), flags, Mode::from_raw_mode(0o600))?;
        let written = (|| {
            use std::io::Write;
            let mut file = std::fs::File::from(file);
            file.write_all(bytes)?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
            rustix::fs::renameat(&folder, temporary.as_str(), &folder, name)?;
            Ok(())
        })();
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&folder, temporary.as_str(), AtFlags::empty());
        }
        prune(&self.path);
        written
    }
}

fn prune(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut known: Vec<_> = entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    known.sort();
    let surplus = known.len().saturating_sub(KEPT);
    known.iter().take(surplus).for_each(|(_, path)| drop(std::fs::remove_file(path)));
}
