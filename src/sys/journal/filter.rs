//! Which entries are wanted: terms combined with all-of and any-of, answered from the index of a journal file.

use super::file::{EntryList, Source};
use crate::error::Result;

/// Where a walk goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forward,
    Backward,
}

/// A condition on entries, independent of any file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The entry has this field with this value, as `FIELD=value`.
    Has(Vec<u8>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

impl Filter {
    #[must_use]
    pub fn has(field: &str, value: impl std::fmt::Display) -> Self {
        Self::Has(format!("{field}={value}").into_bytes())
    }

    /// The entries that systemd counts as the log of a system unit (journalctl(1), `--unit=`): what the unit wrote, what PID 1 says about it, what a
    /// root process says about it, and core dumps of its processes. Every field in it is either set by journald itself (leading underscore)
    /// or believed only from root, so a service cannot write into the log of another.
    #[must_use]
    pub fn unit(unit: &str) -> Self {
        let mut any = vec![
            Self::has("_SYSTEMD_UNIT", unit),
            Self::All(vec![Self::has("_PID", 1), Self::has("UNIT", unit)]),
            Self::All(vec![
                // SD_MESSAGE_COREDUMP of sd-messages.h.
                Self::has("MESSAGE_ID", "fc2e22bc6ee647b6b90729ab34a250b1"),
                Self::has("_UID", 0),
                Self::has("COREDUMP_UNIT", unit),
            ]),
            Self::All(vec![Self::has("_UID", 0), Self::has("OBJECT_SYSTEMD_UNIT", unit)]),
        ];
        if unit.ends_with(".slice") {
            any.push(Self::has("_SYSTEMD_SLICE", unit));
        }
        Self::Any(any)
    }

    /// This condition against the index of one file.
    pub fn bind(&self, source: &Source) -> Bound {
        match self {
            Self::Has(payload) => source.find(payload).map_or(Bound::Never, |data| Bound::In(Place::new(source.entries_of(&data)))),
            Self::All(parts) => {
                let mut bound = Vec::new();
                for part in parts {
                    match part.bind(source) {
                        Bound::Never => return Bound::Never,
                        part => bound.push(part),
                    }
                }
                Bound::All(bound)
            }
            Self::Any(parts) => {
                let mut bound: Vec<Bound> =
                    parts.iter().map(|part| part.bind(source)).filter(|part| !matches!(part, Bound::Never)).collect();
                if bound.len() == 1 {
                    bound.pop().unwrap_or(Bound::Never)
                } else if bound.is_empty() {
                    Bound::Never
                } else {
                    Bound::Any(bound)
                }
            }
        }
    }
}

/// A [`Filter`] of one file, with a place in each of its lists.
pub enum Bound {
    Never,
    In(Place),
    All(Vec<Bound>),
    Any(Vec<Bound>),
}

/// A place in a list of entries.
pub struct Place {
    list: EntryList,
    /// Index and offset of the entry found last.
    last: Option<(u64, u64)>,
}

impl Place {
    pub fn new(list: EntryList) -> Self {
        Self { list, last: None }
    }

    /// The nearest entry at `offset` or beyond it on the way.
    fn seek(&mut self, source: &Source, offset: u64, way: Way) -> Option<u64> {
        let len = self.list.len();
        // Mostly the answer is the last one again, or its neighbour.
        if let Some((index, found)) = self.last {
            let next = match way {
                Way::Forward if found >= offset => return Some(found),
                Way::Backward if found <= offset => return Some(found),
                Way::Forward => index.checked_add(1).filter(|index| *index < len)?,
                Way::Backward => index.checked_sub(1)?,
            };
            let at = source.nth(&self.list, next);
            let there = match way {
                Way::Forward => at >= offset,
                Way::Backward => at <= offset,
            };
            if there {
                return self.found(next, at);
            }
        }
        match way {
            Way::Forward => {
                let from = self.last.map_or(0, |(index, _)| index);
                let index = self.list.partition(from, |index| source.nth(&self.list, index) < offset);
                if index < len { self.found(index, source.nth(&self.list, index)) } else { None }
            }
            Way::Backward => {
                let index = self.list.partition(0, |index| source.nth(&self.list, index) <= offset).checked_sub(1)?;
                self.found(index, source.nth(&self.list, index))
            }
        }
    }

    fn found(&mut self, index: u64, offset: u64) -> Option<u64> {
        self.last = Some((index, offset));
        Some(offset).filter(|offset| *offset != u64::MAX)
    }
}

impl Bound {
    /// The offset of the nearest entry at `offset` or beyond it on the way that fulfils the condition.
    ///
    /// # Errors
    /// Those of `check`, which is asked on every step.
    pub fn seek(&mut self, source: &Source, offset: u64, way: Way, check: &dyn Fn() -> Result<()>) -> Result<Option<u64>> {
        match self {
            Self::Never => Ok(None),
            Self::In(place) => Ok(place.seek(source, offset, way)),
            Self::Any(parts) => {
                let mut best: Option<u64> = None;
                for part in parts {
                    let found = part.seek(source, offset, way, check)?;
                    best = match (best, found, way) {
                        (Some(a), Some(b), Way::Forward) => Some(a.min(b)),
                        (Some(a), Some(b), Way::Backward) => Some(a.max(b)),
                        (a, b, _) => a.or(b),
                    };
                }
                Ok(best)
            }
            Self::All(parts) => {
                let mut at = offset;
                // Every round moves on, so it ends; a long one can be stopped from outside.
                loop {
                    check()?;
                    let before = at;
                    for part in parts.iter_mut() {
                        match part.seek(source, at, way, check)? {
                            Some(found) => at = found,
                            None => return Ok(None),
                        }
                    }
                    if at == before {
                        return Ok(Some(at));
                    }
                }
            }
        }
    }
}
