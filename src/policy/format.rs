//! Policies in one style: the formatter of Cedar's authors, which keeps comments and annotations, with our widths.

use super::load::on_big_stack;
use super::pointed::pointed;
use super::{bounds, load::Source, wording};
use crate::error::{Error, Kind, Result};
use cedar_policy_core::parser::parse_policyset;
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use miette::Diagnostic as _;

/// Columns of a line, and of one step inwards.
const WIDTH: usize = 100;
const STEP: isize = 4;
/// Stands for a blank line while the formatter works; nobody's comment.
const BLANK: &str = "//\u{1}blank\u{1}";
/// Passes until nothing changes any more.
const PASSES: usize = 4;

/// The policies in the style. What is in this style already stays as it is; what they mean never changes.
///
/// # Errors
/// [`Kind::Config`], each fault with its place, when the text is not Cedar, or larger or deeper than policies may be.
pub fn format(source: &Source) -> Result<String> {
    if let Err(much) = bounds::check(&source.text) {
        return Err(Error::new(Kind::Config, pointed(&source.name, &source.text, much.offset, &much.message)));
    }
    // A byte order mark is of no use, and the formatter knows none.
    let unmarked = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    on_big_stack(|| {
        if let Err(errors) = parse_policyset(unmarked) {
            let faults: Vec<String> = errors
                .iter()
                .map(|error| {
                    let offset = error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
                    let (offset, message) = wording::syntax(
                        unmarked,
                        offset,
                        &format!("{error} {}", error.help().map_or_else(String::new, |help| help.to_string())),
                    )
                    .unwrap_or_else(|| (offset, error.to_string()));
                    pointed(&source.name, unmarked, offset, &message)
                })
                .collect();
            return Err(Error::new(Kind::Config, faults.join("\n")));
        }
        let mut text = unmarked.replace("\r\n", "\n");
        for _ in 0..PASSES {
            let next = once(&source.name, &text)?;
            if next == text {
                return Ok(text);
            }
            text = next;
        }
        Err(Error::new(Kind::Internal, format!("{}: the formatter finds no end; the file is left as it is", source.name)))
    })?
}

fn once(name: &str, text: &str) -> Result<String> {
    let config = Config { line_width: WIDTH, indent_width: STEP };
    // The formatter drops blank lines behind comments, and a paragraph about the whole file would become one about its first rule.
    let kept = (!text.contains(BLANK)).then(|| keep_blanks(text)).flatten();
    // The formatter itself compares what it made with what it was given.
    let mut text = policies_str_to_pretty(kept.as_deref().unwrap_or(text), &config)
        .map_err(|error| Error::new(Kind::Internal, format!("{name}: the formatter gives up, the file is left as it is: {error}")))?;
    if kept.is_some() {
        let lines: Vec<&str> = text.lines().map(|line| if line.trim() == BLANK { "" } else { line }).collect();
        text = lines.join("\n");
    }
    let text = text.trim_start_matches('\n').trim_end();
    Ok(if text.is_empty() { String::new() } else { format!("{text}\n") })
}

/// The text with a comment of our own for each blank line between a comment and what follows it, outside of rules. None where there is none.
fn keep_blanks(text: &str) -> Option<String> {
    let set = parse_policyset(text).ok()?;
    let mut rules: Vec<(usize, usize)> = set
        .templates()
        .chain(set.static_policies().map(|policy| policy.template()))
        .filter_map(|rule| rule.loc().map(|loc| (loc.start(), loc.end())))
        .collect();
    rules.sort_unstable();
    let (mut out, mut at, mut rule, mut comment, mut changed) = (String::new(), 0, 0, false, false);
    for line in text.split_inclusive('\n') {
        while rules.get(rule).is_some_and(|(_, end)| *end <= at) {
            rule += 1;
        }
        let inside = rules.get(rule).is_some_and(|(start, end)| *start < at && at < *end);
        let bare = line.trim();
        // Behind the last rule, too, the formatter keeps comments only.
        let last = rule >= rules.len() && !rules.is_empty() && !out.ends_with(&format!("{BLANK}\n"));
        if !inside && bare.is_empty() && (comment || last) {
            out.push_str(BLANK);
            out.push('\n');
            changed = true;
            comment = false;
        } else {
            out.push_str(line);
            comment = !inside && bare.starts_with("//");
        }
        at += line.len();
    }
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn formatted(text: &str) -> String {
        format(&Source { name: "a.cedar".into(), text: text.into() }).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn comments_annotations_and_paragraphs_stay() {
        let text = "// About the file.\n\n\n// About the rule.\n@id(\"a\")   @hint(\"x  //  y\")\npermit(principal, // who\n action,resource)when{ resource\n in file_system::Dir::\"/a\" // where\n };\n\n// A section.\n\n// Of a rule.\nforbid(principal,action,resource);\n// The end.\n\n// Really.\n";
        assert_eq!(
            formatted(text),
            "// About the file.\n\n// About the rule.\n@id(\"a\")\n@hint(\"x  //  y\")\npermit (principal, // who\n    action, resource)\nwhen\n{\n    resource in file_system::Dir::\"/a\" // where\n};\n\n// A section.\n\n// Of a rule.\nforbid (principal, action, resource);\n// The end.\n\n// Really.\n"
        );
    }

    #[test]
    fn a_comment_at_the_end_stays_where_it_is() {
        for text in ["permit (principal, action, resource);\n\n// The end.\n", "permit (principal, action, resource);\n// The end.\n"] {
            assert_eq!(formatted(text), text);
        }
    }

    #[test]
    fn what_is_not_cedar_is_refused_with_every_place() {
        let refused = |text: &str| format(&Source { name: "a.cedar".into(), text: text.into() }).unwrap_err();
        let error = refused("permit(principal, action resource);");
        assert!(error.kind == Kind::Config && error.message.starts_with("a.cedar:1:26: "), "{error}");
        assert!(refused(&"(".repeat(100_000)).message.starts_with("a.cedar:1:"));
    }

    #[test]
    fn no_rule_at_all_is_formatted_too() {
        assert_eq!(formatted(" \n"), "");
        assert_eq!(formatted("// only this\n"), "// only this\n");
    }

    /// A rule in odd spacing.
    fn rule() -> impl Strategy<Value = String> {
        let gap = prop::sample::select(vec!["", " ", "\n", "\n\n", " // c\n", "\n// d\n", "\t"]);
        let blank = prop::sample::select(vec![" ", "\n", " // e\n"]);
        let effect = prop::sample::select(vec!["permit", "forbid"]);
        let scope = prop::sample::select(vec!["resource", "resource is file_system::File", "resource in file_system::Dir::\"/a // b\""]);
        let actions = prop::sample::select(vec![
            "action",
            "action == a::Action::\"x\"",
            "action in [a::Action::\"a_long_name_of_an_action\",a::Action::\"another_long_name_of_an_action\",a::Action::\"c\"]",
        ]);
        let condition = prop::sample::select(vec![
            "",
            "when{true}",
            "unless { resource.path like \"/x/*\"&&!(resource.path like \"*;*\")||principal has agent }",
            "when { if context.a then [1,2,  3].contains(context.n) else {\"k\": \"v\"}.k == \"v\" }",
            "when { resource has size } unless { resource.size > -5 }",
        ]);
        let annotation = prop::sample::select(vec!["", "@id(\"i\") ", "@hint(\"say \\\"x\\\" // no comment\")\n"]);
        (gap.clone(), annotation, effect, gap.clone(), actions, gap.clone(), scope, blank, condition, gap).prop_map(
            |(a, note, effect, b, action, c, resource, d, condition, e)| {
                format!("{a}{note}{effect}{b}(principal,{c}{action},{resource}){d}{condition}{e};{e}")
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn formatting_twice_changes_nothing_more(rules in prop::collection::vec(rule(), 0..4)) {
            let once = formatted(&rules.concat());
            prop_assert_eq!(formatted(&once), once);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}|[a-z@(){};,/\"\n= ]{0,60}") {
            let _ = format(&Source { name: "a.cedar".into(), text });
        }
    }
}
