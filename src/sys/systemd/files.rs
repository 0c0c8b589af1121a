//! Unit files through the service manager: enabling, disabling, masking, unmasking, and what of it changed in the file system.

use super::{MANAGER, Systemd, bus};
use crate::error::Result;
use crate::policy::{Action, Granted};
use crate::resource::service::Service;
use std::time::Duration;

/// How long rereading all unit files may take.
const RELOAD: Duration = Duration::from_secs(90);

/// What is done to the file of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileJob {
    Enable,
    Disable,
    Mask,
    Unmask,
}

/// A change that systemd made in the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `symlink` or `unlink`.
    pub kind: String,
    pub path: String,
    /// Where a link leads.
    pub target: String,
}

/// What a job on a unit's file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesDone {
    pub changes: Vec<Change>,
    /// Whether the unit has anything to be enabled by; only known of enabling.
    pub installable: Option<bool>,
    /// enabled, disabled, static, masked …
    pub before: String,
    pub after: String,
    /// Whether all unit files were read again.
    pub reloaded: bool,
}

type Changes = Vec<(String, String, String)>;

impl Systemd<'_> {
    /// Does it, and has unit files read again where that is wanted and something changed, as systemctl(1) does. `runtime`: only until the next start of
    /// the machine. `force`: in the place of links that are there already.
    ///
    /// # Errors
    /// Those of the bus.
    pub fn change_file<A: Action<On = Service>>(
        &self,
        unit: &Granted<A>,
        job: FileJob,
        (runtime, force): (bool, bool),
        reload: bool,
    ) -> Result<FilesDone> {
        unit.to_be_done()?;
        let name = unit.resource().name();
        let names = [name];
        let before = self.file_state(name)?;
        let call = |method, body: &_| self.bus.call::<(&[&str], bool, bool), Changes>(MANAGER.0, MANAGER.1, method, body);
        let short = |method| self.bus.call::<(&[&str], bool), Changes>(MANAGER.0, MANAGER.1, method, &(&names[..], runtime));
        let (installable, changes) = match job {
            FileJob::Enable => {
                let body = (&names[..], runtime, force);
                let (info, changes): (bool, Changes) = self.bus.call(MANAGER.0, MANAGER.1, "EnableUnitFiles", &body)?;
                (Some(info), changes)
            }
            FileJob::Mask => (None, call("MaskUnitFiles", &(&names[..], runtime, force))?),
            FileJob::Disable => (None, short("DisableUnitFiles")?),
            FileJob::Unmask => (None, short("UnmaskUnitFiles")?),
        };
        let changes: Vec<Change> = changes
            .into_iter()
            .filter(|(kind, ..)| matches!(kind.as_str(), "symlink" | "unlink"))
            .map(|(kind, path, target)| Change { kind, path, target })
            .collect();
        let reloaded = reload && !changes.is_empty();
        if reloaded {
            self.bus.wait::<()>(RELOAD, bus::call(self.bus.connection, MANAGER.0, MANAGER.1, "Reload", &()))?;
        }
        let after = self.file_state(name)?;
        Ok(FilesDone { changes, installable, before, after, reloaded })
    }

    /// Empty for a unit without a file.
    fn file_state(&self, name: &str) -> Result<String> {
        match self.bus.call(MANAGER.0, MANAGER.1, "GetUnitFileState", &name) {
            Err(error) if error.kind == crate::error::Kind::NotFound => Ok(String::new()),
            other => other,
        }
    }
}
