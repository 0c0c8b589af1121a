//! Merging by folder, where the owner asks for it: two things or more below it become one permit, and what keeps secrets by its name stays out.

use super::propose::{About, Candidate, Permit, Who};
use super::write::literal;
use super::{Seen, Wanted, sensitive};
use crate::error::{Error, Kind, Result};
use crate::policy::words::Access;
use std::collections::{BTreeMap, BTreeSet};

/// # Errors
/// [`Kind::Usage`] for a folder that is no canonical path, is sensitive, or holds something that is.
pub(super) fn check(wanted: &Wanted) -> Result<()> {
    for folder in &wanted.folders {
        let shown = literal(folder);
        let canonical =
            folder.starts_with('/') && folder.split('/').skip(1).all(|part| !matches!(part, "" | "." | "..")) && !folder.ends_with('/');
        if !canonical {
            return Err(Error::new(
                Kind::Usage,
                format!("--folder {shown}: expected a canonical path of a folder other than `/`, e.g. /var/log/app"),
            ));
        }
        // Whether reading or changing: a merged permit must not depend on which of the two comes later.
        let found = sensitive::reason(folder, Access::Change, &wanted.own)
            .map(|why| (folder.clone(), why))
            .or_else(|| sensitive::inside(folder, Access::ReadOnly, &wanted.own));
        if let Some((place, why)) =
            found.filter(|(place, why)| place != folder || sensitive::reason(folder, Access::ReadOnly, &wanted.own) == Some(*why))
        {
            let where_ = if place == *folder { "it is a sensitive place".to_owned() } else { format!("{} is in it", literal(&place)) };
            return Err(Error::new(Kind::Usage, format!("--folder {shown} is not merged: {where_} ({why})"))
                .with_hint("name a folder further down, or leave the permits one by one"));
        }
    }
    Ok(())
}

/// Takes out of `candidates` what becomes permits for folders.
pub(super) fn merge(candidates: &mut Vec<Candidate>, wanted: &Wanted) -> Vec<Permit> {
    let mut folders = wanted.folders.clone();
    // The innermost first.
    folders.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
    folders.dedup();
    let mut permits = Vec::new();
    for folder in folders {
        // By caller, type and verb: the things, of which there must be two.
        type Key = (Who, String, (String, String), bool);
        let mut things: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
        let key = |candidate: &Candidate| -> Option<(Key, String)> {
            let About::Exactly(kind, id) = &candidate.about else { return None };
            let change = candidate.access == Access::Change;
            let below = id.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
            let fit = below
                && kind.starts_with("file_system::")
                && !candidate.alone
                && sensitive::reason(id, candidate.access, &wanted.own).is_none()
                && !(change && sensitive::inside(&folder, Access::Change, &wanted.own).is_some());
            fit.then(|| ((candidate.who.clone(), kind.clone(), candidate.seen.asked.action.clone(), change), id.clone()))
        };
        for (key, id) in candidates.iter().filter_map(key) {
            things.entry(key).or_default().insert(id);
        }
        things.retain(|_, ids| ids.len() >= 2);
        type Merged = (BTreeSet<(String, String)>, Vec<Seen>);
        let mut merged: BTreeMap<(Who, String, bool), Merged> = BTreeMap::new();
        let mut kept = Vec::new();
        for candidate in candidates.drain(..) {
            match key(&candidate).filter(|(key, _)| things.contains_key(key)) {
                Some(((who, kind, action, change), _)) => {
                    let (actions, of) = merged.entry((who, kind, change)).or_default();
                    actions.insert(action);
                    of.push(candidate.seen);
                }
                None => kept.push(candidate),
            }
        }
        *candidates = kept;
        for ((who, kind, change), (actions, of)) in merged {
            let access = if change { Access::Change } else { Access::ReadOnly };
            let unless = sensitive::patterns(access).iter().map(|pattern| format!("resource.path like {}", literal(pattern))).collect();
            let about = About::Folder(kind, folder.clone());
            permits.push(Permit { id: String::new(), who, actions, about, when: Vec::new(), unless, of });
        }
    }
    permits
}
