//! Rules that every row of the table of functions obeys.

use libtest_mimic::{Failed, Trial};
use rexsh::error::{Class, Kind};
use rexsh::functions::function::Function;
use rexsh::functions::{all, by_name, manual, vocabulary};
use rexsh::invocation::arguments::RESERVED;
use std::collections::BTreeSet;

/// Functions that need no example, each with the reason.
const WITHOUT_EXAMPLE: &[(&str, &str)] = &[("warn", "as `info`"), ("error", "as `info`"), ("debug", "as `info`"), ("trace", "as `info`")];

/// A rule over the table: what breaks it.
type Rule = fn() -> Vec<String>;

pub fn trials() -> Vec<Trial> {
    let rules: [(&str, Rule); 10] = [
        ("names_are_unique", names_are_unique),
        ("names_are_words_of_the_language", names_are_words_of_the_language),
        ("docs_begin_with_a_sentence", docs_begin_with_a_sentence),
        ("parameters_are_documented", parameters_are_documented),
        ("options_come_last_and_are_documented", options_come_last_and_are_documented),
        ("defaults_are_shown_without_rust", defaults_are_shown_without_rust),
        ("every_function_has_an_example", every_function_has_an_example),
        ("references_lead_somewhere", references_lead_somewhere),
        ("errors_are_listed_once_and_none_that_all_have", errors_are_listed_once_and_none_that_all_have),
        ("verbs_and_nouns_do_not_contradict_one_another", verbs_and_nouns_do_not_contradict_one_another),
    ];
    let trial = |(name, rule): (&str, fn() -> Vec<String>)| {
        Trial::test(format!("table::{name}"), move || match rule() {
            broken if broken.is_empty() => Ok(()),
            broken => Err(Failed::from(broken.join("\n"))),
        })
    };
    rules.into_iter().map(trial).collect()
}

/// `name: what` for every function of which the check says something.
fn each(check: impl Fn(&Function) -> Vec<String>) -> Vec<String> {
    all().flat_map(|function| check(function).into_iter().map(move |what| format!("{}: {what}", function.name))).collect()
}

fn is_snake_case(name: &str) -> bool {
    let words = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    words && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('_') && !name.contains("__")
}

fn names_are_unique() -> Vec<String> {
    let mut seen = BTreeSet::new();
    all().filter(|function| !seen.insert(function.name)).map(|function| format!("{} is there twice", function.name)).collect()
}

fn names_are_words_of_the_language() -> Vec<String> {
    each(|function| {
        let params = function.body.params();
        let options = function.options().unwrap_or(&[]);
        let names = params.iter().map(|param| param.name).chain(options.iter().map(|option| option.name)).chain([function.name]);
        names
            .filter_map(|name| match () {
                () if !is_snake_case(name) => Some(format!("`{name}` is not snake_case")),
                // Parameters are named in messages only; `debug` is a function of the language that takes more arguments here.
                () if RESERVED.contains(&name) && name != "debug" && !params.iter().any(|param| param.name == name) => {
                    Some(format!("`{name}` is a reserved word"))
                }
                () => None,
            })
            .collect()
    })
}

fn docs_begin_with_a_sentence() -> Vec<String> {
    each(|function| {
        let summary = manual::summary(function);
        let mut broken = Vec::new();
        if !summary.starts_with(|c: char| c.is_uppercase() || c == '`') || !summary.ends_with('.') {
            broken.push(format!("the first line of its doc is no sentence with a full stop: {summary:?}"));
        }
        if summary.chars().count() > 120 {
            broken.push("the first line of its doc is longer than 120 characters".to_owned());
        }
        broken
    })
}

fn parameters_are_documented() -> Vec<String> {
    each(|function| {
        let params = function.body.params();
        let silent = params.iter().filter(|param| param.options.is_none() && param.doc.trim().is_empty());
        silent.map(|param| format!("parameter `{}` has no doc", param.name)).collect()
    })
}

fn options_come_last_and_are_documented() -> Vec<String> {
    each(|function| {
        let params = function.body.params();
        let mut broken = Vec::new();
        let maps = params.iter().filter(|param| param.options.is_some()).count();
        if maps > 1 {
            broken.push("more than one map of options".to_owned());
        }
        if params.windows(2).any(|pair| pair[0].optional && !pair[1].optional) {
            broken.push("a parameter that may be left out stands before one that may not".to_owned());
        }
        let options = function.options().unwrap_or(&[]);
        let mut flags = BTreeSet::new();
        for option in options {
            if option.doc.trim().is_empty() || !option.doc.trim().ends_with('.') {
                broken.push(format!("the doc of option `{}` is no sentence with a full stop", option.name));
            }
            broken
                .extend(option.flags.iter().filter(|flag| !flags.insert(**flag)).map(|flag| format!("two options have the flag `{flag}`")));
        }
        broken
    })
}

fn defaults_are_shown_without_rust() -> Vec<String> {
    each(|function| {
        let options = function.options().unwrap_or(&[]).iter();
        let shown = options.filter_map(|option| Some((option.name, manual::default(option)?)));
        let rust = |text: &str| {
            ["::", "(", "<<", ".", "as "].iter().any(|sign| text.contains(sign)) && !text.starts_with('"') && text.parse::<f64>().is_err()
        };
        shown
            .filter(|(_, text)| rust(text))
            .map(|(name, text)| format!("option `{name}` has the default `{text}`, which the manual cannot show"))
            .collect()
    })
}

fn every_function_has_an_example() -> Vec<String> {
    let excused = |function: &Function| WITHOUT_EXAMPLE.iter().any(|(name, _)| *name == function.name);
    let mut broken = each(|function| match (function.examples.is_empty(), excused(function)) {
        (true, false) => vec!["has no example".to_owned()],
        (false, true) => vec!["has an example now: take it out of WITHOUT_EXAMPLE".to_owned()],
        _ => Vec::new(),
    });
    broken.extend(
        WITHOUT_EXAMPLE
            .iter()
            .filter(|(name, _)| by_name(name).is_none())
            .map(|(name, _)| format!("WITHOUT_EXAMPLE: no function `{name}`")),
    );
    broken
}

fn references_lead_somewhere() -> Vec<String> {
    each(|function| {
        let params = function.body.params();
        let options = function.options().unwrap_or(&[]);
        let texts = params.iter().map(|param| param.doc).chain(options.iter().map(|option| option.doc)).chain([function.doc]);
        texts
            .flat_map(manual::links)
            .filter(|name| by_name(name).is_none())
            .map(|name| format!("refers to `{name}`, which is no function"))
            .collect()
    })
}

fn errors_are_listed_once_and_none_that_all_have() -> Vec<String> {
    each(|function| {
        let mut seen = BTreeSet::new();
        let wrong = |kind: &&Kind| {
            let everywhere = matches!(kind, Kind::Denied | Kind::BadArgument | Kind::Internal) || kind.class() == Class::Limit;
            everywhere || !seen.insert(kind.name())
        };
        let fails =
            function.fails.iter().filter(wrong).map(|kind| format!("`{}` is listed twice, or every function can give it", kind.name()));
        let mut asks = BTreeSet::new();
        let twice =
            function.asks.iter().map(manual::action).filter(|name| !asks.insert(name.clone())).map(|name| format!("declares {name} twice"));
        fails.chain(twice).collect()
    })
}

fn verbs_and_nouns_do_not_contradict_one_another() -> Vec<String> {
    // Every declaration of a verb, not one per verb: that is where they could differ.
    let asks: Vec<_> = all().flat_map(|function| function.asks).copied().collect();
    rexsh::policy::schema::problems(&asks, &vocabulary().1)
}
