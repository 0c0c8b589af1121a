//! What the id of a thing tells by itself. Things that are only named (questions beforehand, tests, records, comparisons) are told of as the resources
//! themselves would be.

/// Kinds of which a host has one whole, and what is in each, besides files: the kind of a part, the whole's kind and id.
const WHOLES: &[(&str, &str, &str)] = &[
    ("journal::Log", "journal::Log", "system"),
    ("package_system::Package", "package_system::Database", "local"),
    ("container_system::Container", "container_system::Engine", "local"),
    ("probe_system::Probe", "probe_system::Probes", "local"),
];

/// Kinds whose attribute `name` is the id.
const NAMES: &[&str] =
    &["systemd::Service", "systemd::Unit", "journal::Log", "package_system::Package", "container_system::Container", "probe_system::Probe"];

/// The whole that a thing is in: its kind and id.
pub(super) fn whole_of(kind: &str, id: &str) -> Option<(&'static str, &'static str)> {
    let row = WHOLES.iter().find(|(part, whole, of)| *part == kind && (*whole, *of) != (kind, id));
    row.map(|(_, whole, of)| (*whole, *of))
}

/// Whether what is in things of this kind follows from the ids alone.
pub(super) fn is_whole(kind: &str) -> bool {
    WHOLES.iter().any(|(_, whole, _)| *whole == kind)
}

/// Whether the id is the attribute `name`.
pub(super) fn is_name(kind: &str) -> bool {
    NAMES.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions;

    /// A noun that says otherwise would be told of in two ways.
    #[test]
    fn the_nouns_of_functions_agree() {
        let (_, nouns) = functions::vocabulary();
        for (part, whole, _) in WHOLES {
            let noun = nouns.iter().find(|noun| noun.name == *part);
            assert!(noun.is_some_and(|noun| noun.parents.contains(whole)), "{part}");
        }
        for kind in NAMES {
            let noun = nouns.iter().find(|noun| noun.name == *kind);
            assert!(noun.is_some_and(|noun| noun.attributes.iter().any(|attribute| attribute.name == "name" && attribute.fixed)), "{kind}");
        }
    }

    #[test]
    fn a_part_is_in_the_whole_and_the_whole_in_nothing() {
        assert_eq!(whole_of("journal::Log", "nginx.service"), Some(("journal::Log", "system")));
        assert_eq!(whole_of("journal::Log", "system"), None);
        assert_eq!(whole_of("probe_system::Probe", "x"), Some(("probe_system::Probes", "local")));
        assert_eq!((whole_of("probe_system::Probes", "local"), whole_of("file_system::File", "/x")), (None, None));
    }
}
