//! Functions on extended attributes and access control lists. They ask for [`Stat`], [`Read`] and [`SetXAttr`].

mod acl;

use super::attributes::{Chmod, must_exist, wanted_mode};
use super::file_read::Read;
use super::file_stat::Stat;
use super::function::{Call, Example, Function, param, with2, with3, with4};
use super::value::{Dynamic, FromScript, IntoScript, Map, name_value, plain_type, record};
use crate::error::{Error, Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, Answer, Attribute, Granted, Value, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;
use crate::sys::attributes::MAX_XATTR;
use acl::Acl;
use rustix::fs::FileType;

pub const FUNCTIONS: &[Function] = &[XATTR_LIST, XATTR_GET, XATTR_SET, XATTR_REMOVE, ACL_GET];

/// `file_system::Action::"set_x_attr"`: set or remove an extended attribute.
pub enum SetXAttr {}
impl Action for SetXAttr {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "set_x_attr";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File", "file_system::Dir"];
    const GROUPS: &'static [&'static str] = &["SafeIO", "edit"];
    const DOC: &'static str = "Set or remove an extended attribute.";
    const ACCESS: Access = Access::Change;
    const CONTEXT: &'static [Attribute] =
        &[Attribute { name: "xattr", cedar: "{ name: String }", required: true, fixed: false, doc: "Which one." }];
    const NEEDS_OPEN: bool = true;
    const MAY_BE_ABSENT: bool = true;
}

/// The circumstances of a `set_x_attr`.
#[must_use]
pub fn wanted_xattr(name: &[u8]) -> Vec<(&'static str, Value)> {
    vec![("xattr", Value::Record(vec![("name", Value::String(crate::resource::path::to_id(name)))]))]
}

/// The kernel's own limit on a name, XATTR_NAME_MAX of linux/limits.h.
const LONGEST_NAME: usize = 255;
const LABEL: &[u8] = b"security.selinux";
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// The name of an extended attribute, with its namespace.
#[derive(Clone, Debug)]
pub struct Name(Vec<u8>);

impl FromScript for Name {
    const TYPE: &'static str = "the name of an extended attribute, e.g. `user.note`";
    fn from_script(value: Dynamic) -> Result<Self> {
        let bytes = if value.is_blob() {
            value.into_blob().unwrap_or_default()
        } else {
            String::from_script(value).map_err(|_| bad_argument(format!("expected {}", Self::TYPE)))?.into_bytes()
        };
        let dot = bytes.iter().position(|byte| *byte == b'.');
        if bytes.contains(&0) || bytes.len() > LONGEST_NAME || !dot.is_some_and(|dot| dot > 0 && dot + 1 < bytes.len()) {
            return Err(bad_argument(format!("expected {}", Self::TYPE)));
        }
        Ok(Self(bytes))
    }
}

impl Name {
    fn is_list(&self) -> bool {
        self.0 == ACCESS_LIST || self.0 == DEFAULT_LIST
    }
    /// The bits that setting it can come to, where that is a matter of `chmod` too: an access list is the permission bits and more, and file
    /// capabilities give a program rights as set-user-id does.
    fn mode(&self, file: &File, list: Option<&Acl>) -> Option<u32> {
        let now = file.stat().map_or(0, |stat| stat.st_mode & 0o7777);
        match (self.0.as_slice(), list) {
            (name, Some(list)) if name == ACCESS_LIST => Some((now & 0o7000) | list.mode()),
            (ACCESS_LIST | DEFAULT_LIST, _) => Some(now),
            (b"security.capability", _) => Some(now | 0o4000),
            _ => None,
        }
    }
}

options! {
    /// Options of `xattr_list` and others.
    LookOptions {
        follow: bool = true, "Follow a symbolic link at the end of the path.";
    }
}

const XATTR_LIST: Function = Function {
    name: "xattr_list",
    doc: "The names of the extended attributes of a file: an array of strings (a blob where a name is not UTF-8).\n\nNames begin with their namespace: `user.`, `security.`, `system.` (access control lists), and for root \
          `trusted.`. A filesystem without extended attributes gives an empty array. To see a name is `stat`; to see a value ([xattr_get]) is `read`.",
    body: &with2(xattr_list, [param("path", "The file or directory."), param("options", "")]),
    asks: &[ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Permission],
    examples: &[Example {
        given: &[("file", "")],
        script: r#"xattr_list(dir + "/file").filter(|name| name.starts_with("user."))"#,
        gives: "[]",
    }],
};

fn xattr_list(call: &Call<'_>, path: AbsPath, options: LookOptions) -> Result<Vec<Dynamic>> {
    let granted = call.permit::<Stat>(File::locate_with(&path, options.follow)?)?;
    let mut names = sys::attributes::xattrs(&granted)?;
    names.sort();
    Ok(names.iter().map(|name| name_value(name)).collect())
}

options! {
    /// Options of `xattr_get`.
    GetOptions {
        follow: bool = true, "Follow a symbolic link at the end of the path.";
        blob: bool = false, "Always give a blob, also where the value is text.";
    }
}

const XATTR_GET: Function = Function {
    name: "xattr_get",
    doc: "The value of an extended attribute, or `()` where the file has none of this name.\n\nA string where it is UTF-8, else a blob. The NUL that ends a label of SELinux is left out.",
    body: &with3(
        xattr_get,
        [param("path", "The file or directory."), param("name", "The name with its namespace, e.g. `user.note`."), param("options", "")],
    ),
    asks: &[ask::<Read>()],
    fails: &[Kind::NotFound, Kind::Permission],
    examples: &[Example { given: &[("file", "")], script: r#"xattr_get(dir + "/file", "user.note")"#, gives: "()" }],
};

fn xattr_get(call: &Call<'_>, path: AbsPath, name: Name, options: GetOptions) -> Result<Dynamic> {
    let granted = call.permit::<Read>(File::locate_with(&path, options.follow)?)?;
    let Some(mut value) = sys::attributes::xattr(&granted, &name.0)? else { return Ok(Dynamic::UNIT) };
    if options.blob {
        return Ok(Dynamic::from_blob(value));
    }
    if name.0 == LABEL && value.last() == Some(&0) {
        value.pop();
    }
    Ok(name_value(&value))
}

/// What `xattr_set` sets: text, bytes, or parts of a label of SELinux.
pub enum Content {
    Bytes(Vec<u8>),
    Label(Map),
}

impl FromScript for Content {
    const TYPE: &'static str = "a string, a blob, or a map of `user`, `role`, `type`, `level`";
    fn from_script(value: Dynamic) -> Result<Self> {
        if value.is_map() {
            return Map::from_script(value).map(Self::Label);
        }
        if value.is_blob() {
            return Ok(Self::Bytes(value.into_blob().unwrap_or_default()));
        }
        value
            .into_string()
            .map(|text| Self::Bytes(text.into_bytes()))
            .map_err(|name| bad_argument(format!("expected {}, got {}", Self::TYPE, plain_type(name))))
    }
}

/// A label of SELinux with some of its parts replaced. The level is all that follows the third colon: it may have categories, with colons of
/// their own.
fn label(now: Option<&[u8]>, parts: &Map) -> Result<Vec<u8>> {
    const PARTS: [&str; 4] = ["user", "role", "type", "level"];
    let now = now.map(|now| String::from_utf8_lossy(now.strip_suffix(b"\0").unwrap_or(now)).into_owned()).unwrap_or_default();
    let mut label: Vec<String> = now.splitn(4, ':').filter(|_| !now.is_empty()).map(str::to_owned).collect();
    for key in parts.keys() {
        // The setters of the reference are named `selinux_user` and so on.
        let name = key.strip_prefix("selinux_").unwrap_or(key);
        if !PARTS.contains(&name) {
            return Err(bad_argument(format!("`{}` is no part of a label: they are user, role, type, level", key.escape_debug())));
        }
    }
    for (at, part) in PARTS.iter().enumerate() {
        let given = parts.get(*part).or_else(|| parts.get(format!("selinux_{part}").as_str()));
        let Some(given) = given else { continue };
        let text = given.clone().into_string().map_err(|_| bad_argument(format!("`{part}` of a label is text")))?;
        let colon = *part != "level" && text.contains(':');
        if text.is_empty() || colon || text.contains(['\0', '\n', ' ']) {
            return Err(bad_argument(format!("`{}` is no {part} of a label", text.chars().take(60).collect::<String>().escape_debug())));
        }
        let length = label.len();
        match label.get_mut(at) {
            Some(place) => *place = text,
            None if length == at => label.push(text),
            None => {
                return Err(bad_argument(format!("the file has no label to take over what stands before `{part}`"))
                    .with_hint("give user, role, type and level, or the whole label as text"));
            }
        }
    }
    if label.len() < 3 {
        return Err(bad_argument("a label has at least user, role and type").with_hint("give the whole label as text"));
    }
    Ok(label.join(":").into_bytes())
}

const XATTR_SET: Function = Function {
    name: "xattr_set",
    doc: "Sets an extended attribute.\n\nThe policy is told its name (`context.xattr.name`). A label of SELinux (`security.selinux`) is the whole label as text, or a map of the parts to be replaced \
          (`user`, `role`, `type`, `level`; the level may have categories: `s0:c1,c2`). An access control list (`system.posix_acl_access`, `system.posix_acl_default`) is text as for setfacl(1), e.g. \
          `\"u::rw-,u:alice:r--,g::r--,m::r--,o::---\"`, or a blob in the kernel's form; it can change the permission bits, so `chmod` is asked for too, and also for `security.capability`, with \
          `context.set_uid` true.\n\nA map: `changed`, `path`, `name`.",
    body: &with4(
        xattr_set,
        [
            param("path", "The file or directory."),
            param("name", "The name with its namespace, e.g. `user.note`."),
            param("value", "A string, a blob, or parts of a label."),
            param("options", ""),
        ],
    ),
    asks: &[ask::<SetXAttr>(), ask::<Chmod>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::ReadOnly, Kind::NoSpace, Kind::Unsupported, Kind::TooLarge, Kind::Changed],
    examples: &[
        Example {
            given: &[("file", "")],
            script: r#"xattr_set(dir + "/file", "user.note", "kept"); xattr_get(dir + "/file", "user.note")"#,
            gives: r#""kept""#,
        },
        Example {
            given: &[("file", "")],
            script: r#"xattr_set(dir + "/file", "system.posix_acl_access", "u::rw-,u:65534:r--,g::r--,m::r--,o::---"); acl_get(dir + "/file").access.len()"#,
            gives: "5",
        },
    ],
};

/// Asks for what setting this attribute comes to.
fn allow(call: &Call<'_>, mut file: File, name: &Name, list: Option<&Acl>) -> Result<Granted<SetXAttr>> {
    if let Some(mode) = name.mode(&file, list) {
        file = call.permit_with::<Chmod>(file, wanted_mode(mode))?.into_resource();
    }
    call.permit_with::<SetXAttr>(file, wanted_xattr(&name.0))
}

fn xattr_set(call: &Call<'_>, path: AbsPath, name: Name, value: Content, options: LookOptions) -> Result<Map> {
    let mut list = None;
    let value = match value {
        Content::Bytes(bytes) if name.is_list() => {
            let read = match std::str::from_utf8(&bytes) {
                Ok(text) if !text.contains('\0') => Acl::parse(text)?,
                _ => Acl::from_bytes(&bytes).and_then(Acl::checked).map_err(|error| bad_argument(error.message))?,
            };
            let bytes = read.to_bytes();
            list = Some(read);
            Content::Bytes(bytes)
        }
        Content::Label(_) if name.0 != LABEL => return Err(bad_argument("xattr_set: value: a map is for `security.selinux` only")),
        value => value,
    };
    if let Content::Bytes(bytes) = &value
        && bytes.len() > MAX_XATTR
    {
        return Err(Error::new(Kind::TooLarge, format!("an extended attribute holds at most {MAX_XATTR} bytes")).with_path(path.shown()));
    }
    let granted = allow(call, File::locate_with(&path, options.follow)?, &name, list.as_ref())?;
    must_exist(granted.resource())?;
    let now = sys::attributes::xattr(&granted, &name.0)?;
    let value = match value {
        Content::Bytes(bytes) => bytes,
        Content::Label(parts) => {
            let mut bytes = label(now.as_deref(), &parts)?;
            // As libselinux writes it.
            bytes.push(0);
            bytes
        }
    };
    // That it has this value already is told only to who may read it; to others it is set once more.
    let may_know = call.host.gate.would::<Read>(granted.resource()) == Answer::Yes;
    let same = may_know && now.as_deref().is_some_and(|now| now == value || (name.0 == LABEL && now.strip_suffix(b"\0") == Some(&value)));
    if !same {
        let shown = String::from_utf8_lossy(&name.0).escape_debug().to_string();
        call.effect(&granted, || sys::attributes::set_xattr(&granted, &name.0, &value), |()| (value.len() as u64, shown))?;
    }
    Ok(told(!same, &path, &name))
}

fn told(changed: bool, path: &AbsPath, name: &Name) -> Map {
    record([("changed", changed.into_script()), ("path", name_value(path.as_bytes())), ("name", name_value(&name.0))])
}

const XATTR_REMOVE: Function = Function {
    name: "xattr_remove",
    doc: "Removes an extended attribute; one that is not there is no error.\n\nThe policy is told its name (`context.xattr.name`). To remove an access control list can widen the permission bits, so `chmod` is asked for \
          too.\n\nA map: `changed`, `path`, `name`.",
    body: &with3(
        xattr_remove,
        [param("path", "The file or directory."), param("name", "The name with its namespace, e.g. `user.note`."), param("options", "")],
    ),
    asks: &[ask::<SetXAttr>(), ask::<Chmod>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::ReadOnly, Kind::Unsupported, Kind::Changed],
    examples: &[
        Example {
            given: &[("file", "")],
            script: r#"xattr_set(dir + "/file", "user.note", "x"); [xattr_remove(dir + "/file", "user.note").changed, xattr_remove(dir + "/file", "user.note").changed]"#,
            gives: "[true, false]",
        },
        Example { given: &[("file", "")], script: r#"xattr_remove(dir + "/file", "system.posix_acl_access").changed"#, gives: "false" },
    ],
};

fn xattr_remove(call: &Call<'_>, path: AbsPath, name: Name, options: LookOptions) -> Result<Map> {
    let granted = allow(call, File::locate_with(&path, options.follow)?, &name, None)?;
    must_exist(granted.resource())?;
    // Names are told to who may stat it, and that one is missing is no secret to who may remove it.
    if sys::attributes::xattr(&granted, &name.0)?.is_none() {
        return Ok(told(false, &path, &name));
    }
    let shown = String::from_utf8_lossy(&name.0).escape_debug().to_string();
    let removed = call.effect(&granted, || sys::attributes::remove_xattr(&granted, &name.0), |_| (0, format!("removed {shown}")))?;
    Ok(told(removed, &path, &name))
}

const ACL_GET: Function = Function {
    name: "acl_get",
    doc: "The access control list of a file or directory.\n\nA map: `path`, `owner`, `group`, `extended` (whether there is more than the permission bits), `access` and, of a directory that has one, `default` (what is made in it gets): arrays of maps with \
          `tag` (user_obj, user, group_obj, group, mask, other), `permissions` (as in `rw-`), `read`, `write`, `execute`, and for a named user or group `name` and `id`; `text`, the same as getfacl(1) writes it. Without a list, \
          `access` is what the permission bits say. [xattr_set] sets one.",
    body: &with2(acl_get, [param("path", "The file or directory."), param("options", "")]),
    asks: &[ask::<Stat>()],
    fails: &[Kind::NotFound, Kind::Permission, Kind::Unsupported, Kind::BadData],
    examples: &[Example {
        given: &[("file", "")],
        script: r#"acl_get(dir + "/file").access.map(|e| e.tag)"#,
        gives: r#"["user_obj", "group_obj", "other"]"#,
    }],
};

fn acl_get(call: &Call<'_>, path: AbsPath, options: LookOptions) -> Result<Map> {
    let granted = call.permit::<Stat>(File::locate_with(&path, options.follow)?)?;
    let stat = sys::attributes::stat(&granted)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Error::new(Kind::Unsupported, "a symbolic link has no access control list of its own").with_path(path.shown()));
    }
    let list = |name: &[u8]| sys::attributes::xattr(&granted, name)?.map(|bytes| Acl::from_bytes(&bytes)).transpose();
    let access = list(ACCESS_LIST)?;
    let default = if granted.resource().is_dir() { list(DEFAULT_LIST)? } else { None };
    let extended = access.is_some() || default.is_some();
    let access = access.unwrap_or_else(|| Acl::of_mode(stat.st_mode));
    let names = crate::resource::file::names();
    let mut text = access.text("");
    let mut map = record([
        ("path", name_value(path.as_bytes())),
        ("owner", names.user(stat.st_uid).unwrap_or_else(|| stat.st_uid.to_string()).into_script()),
        ("group", names.group(stat.st_gid).unwrap_or_else(|| stat.st_gid.to_string()).into_script()),
        ("extended", extended.into_script()),
        ("access", access.maps()),
    ]);
    if let Some(default) = default {
        text.push_str(&default.text("default:"));
        map.insert("default".into(), default.maps());
    }
    map.insert("text".into(), text.into_script());
    Ok(map)
}

#[cfg(test)]
mod tests;
