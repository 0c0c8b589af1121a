//! Taking filesystems away: unmount. It asks for [`Unmount`].

use super::function::{Call, Example, Function, param, with2};
use super::value::{IntoScript, Map, name_value, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Attribute, Value, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys::unmount;
use std::time::Duration;

pub const FUNCTIONS: &[Function] = &[UNMOUNT];

/// `file_system::Action::"unmount"`: take the filesystem away that is mounted on a directory.
pub enum Unmount {}
impl Action for Unmount {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "unmount";
    const APPLIES_TO: &'static [&'static str] = &["file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO"];
    const DOC: &'static str = "Take the filesystem away that is mounted on it.";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] = &[Attribute {
        name: "lazy",
        cedar: "Bool",
        required: true,
        fixed: true,
        doc: "Whether it goes out of sight at once, though it is in use.",
    }];
}

options! {
    /// Options of `unmount`.
    UnmountOptions {
        lazy: bool = false, "Take it out of sight at once even if it is in use; it is let go of when nobody uses it any more.";
        timeout: Duration = Duration::from_secs(30), "How long to wait, in seconds. What takes longer is `timeout`, and may still happen.";
    }
}

const UNMOUNT: Function = Function {
    name: "unmount",
    doc: "Takes the filesystem away that is mounted on a directory.\n\nThe path has to be the one that [mounts] tells, without links. Of several that lie on one another, the one on top. What is in use is the error `busy`, unless `lazy`; where nothing is mounted, `not_found`. It needs root.\n\nA map: `mounted_on`, `device`, `kind`, `lazy`, `changed`.",
    body: &with2(unmount, [param("path", "The directory."), param("options", "")]),
    asks: &[ask::<Unmount>()],
    fails: &[Kind::NotFound, Kind::Busy, Kind::Changed, Kind::Permission, Kind::Timeout, Kind::Unavailable, Kind::Unsupported],
    examples: &[Example {
        given: &[("empty/", "")],
        script: r#"let k = (); try { unmount(dir + "/empty") } catch (e) { if e.kind == "denied" { throw e } k = e.kind; } k"#,
        gives: r#""not_found""#,
    }],
};

fn unmount(call: &Call<'_>, path: AbsPath, options: UnmountOptions) -> Result<Map> {
    if path.as_bytes() == b"/" {
        return Err(bad_argument("unmount: the root directory stays").with_path(path.shown()));
    }
    // Not looked at: a dead file server would hold the call up, and a handle on it would keep it busy.
    let shown = path.shown();
    let granted = call.permit_with::<Unmount>(File::unvisited_dir(path), vec![("lazy", Value::Bool(options.lazy))])?;
    if granted.held() {
        // In a dry run the fence has nothing of what unmounting needs, what is mounted among it.
        return Err(call.withhold(&granted, "", None)?);
    }
    let nothing =
        || Error::new(Kind::NotFound, "nothing is mounted there").with_path(&shown).with_hint("the path has to be as `mounts()` tells it");
    let mount = unmount::at(&granted)?.ok_or_else(nothing)?;
    let told = || (0, format!("{} {}", mount.kind, String::from_utf8_lossy(&mount.device)));
    call.effect(&granted, || unmount::now(&granted, &mount, options.lazy, options.timeout, &|| call.check()), |()| told())?;
    Ok(record([
        ("mounted_on", shown.into_script()),
        ("device", name_value(&mount.device)),
        ("kind", mount.kind.into_script()),
        ("lazy", options.lazy.into_script()),
        ("changed", true.into_script()),
    ]))
}
