//! Lints of principals: groups that nobody is in, users that principals.toml does not know.

use super::notes::nearest;
use super::{Item, Note, View};
use std::collections::BTreeSet;

/// Whom principals.toml describes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    pub users: BTreeSet<String>,
    pub groups: BTreeSet<String>,
    /// Whether others pass as themselves (`default = "pass"`).
    pub others_pass: bool,
}

pub(super) fn look(view: &View<'_>, item: &Item<'_>, notes: &mut Vec<Note>) {
    let Some(people) = view.around.people else { return };
    super::broad::entities(item, &mut |uid, place| {
        let id: &str = uid.eid().as_ref();
        let (what, known) = match uid.entity_type().to_string().as_str() {
            "Group" => ("group", &people.groups),
            "User" if !people.others_pass => ("user", &people.users),
            _ => return,
        };
        if known.contains(id) {
            return;
        }
        let message = match what {
            "group" => format!("nobody in principals.toml is in the group `{}`", id.escape_debug()),
            _ => format!("principals.toml has no principal `{}`, and refuses whom it does not know", id.escape_debug()),
        };
        let help = match nearest(id, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if what == "group" => format!("give it to somebody there: groups = [\"{}\"]", id.escape_debug()),
            None => format!("describe them there: [[principal]] name = \"{}\"", id.escape_debug()),
        };
        notes.push(Note::new("nobody", message).at(place).help(help));
    });
}
