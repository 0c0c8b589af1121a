//! Capabilities: root, or an account that was given some, keeps those that a permitted operation can need.

use crate::error::{Error, Kind, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Takes every other capability away: effective, permitted, inheritable, ambient and bounding. Whether there was anything to take or to hold.
pub(super) fn drop_all_but(kept: CapabilitySet) -> Result<bool> {
    let failed = |errno: rustix::io::Errno| Error::new(Kind::Layer, format!("the layer `capabilities` cannot be armed ({errno})"));
    let now = rustix::thread::capabilities(None).map_err(failed)?;
    // Without CAP_SETPCAP the bounding set stays; with no-new-privs and without programs nothing comes back from it.
    for capability in CapabilitySet::all().difference(kept).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let permitted = now.permitted & kept;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: now.effective & kept, permitted, inheritable: CapabilitySet::empty() },
    )
    .map_err(failed)?;
    let left = rustix::thread::capabilities(None).map_err(failed)?;
    if !left.permitted.difference(kept).is_empty() {
        return Err(Error::new(Kind::Layer, "the layer `capabilities` did not take effect"));
    }
    Ok(true)
}
