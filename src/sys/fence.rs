//! The fence: what no policy of this caller could ever permit, the kernel refuses too, whatever runs in this process.
//!
//! [`Plan`] is computed from the outer hull of the caller's policies and is plain data; [`arm`] puts it in force. Three layers, each by itself
//! narrower than the account's rights: Landlock confines paths (landlock(7)), seccomp system calls (seccomp(2)), and capabilities what root
//! may do besides (capabilities(7)). There is no way back. It is armed before a thread is started, so that every thread is behind it.

mod calls;
mod paths;
mod plan;
mod powers;
mod program;

pub use plan::{Own, Plan, Rights};
pub(super) use program::{Ready, place};

use crate::error::Result;

/// Arms every layer that the kernel has; gives the names of those in force.
///
/// # Errors
/// When a layer that the kernel has cannot be armed: what would be half a fence is none.
pub fn arm(plan: &Plan) -> Result<Vec<&'static str>> {
    let mut layers = Vec::new();
    // Capabilities first: opening the folders of the rules needs no more than what a permitted operation needs.
    let paths = paths::prepare(plan)?;
    if powers::drop_all_but(plan.powers)? {
        layers.push("capabilities");
    }
    if paths::restrict(paths)? {
        layers.push("landlock");
    }
    if calls::restrict(plan)? {
        layers.push("seccomp");
    }
    Ok(layers)
}
