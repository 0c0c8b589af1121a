//! Manual pages of files and functions, each from the table that the program itself uses.

use super::roff::Page;
use crate::functions::function::Function;
use crate::functions::{TOPICS, manual};

/// rex.toml(5), from the rows of the settings.
pub fn settings(name: &str) -> String {
    let mut page = Page::new(name, 5);
    page.name(name, "the settings of rex on this host");
    page.heading("DESCRIPTION");
    page.paragraph(
        "`/etc/rex/rex.toml` is a file of TOML. `--config` of the owner's line names another; principals.toml, `policies` and `scripts` then lie \
         beside that. What the \
         file leaves out is at its default, which is shown here; without a file all is.",
    );
    page.paragraph("An unknown key or a value out of range stops everything (exit 78). The file and every folder above it must be writable by root alone.");
    page.heading("SETTINGS OF THE TOP LEVEL");
    let mut section = "";
    for row in crate::config::manual() {
        if row.section != section {
            section = row.section;
            page.heading(&format!("SETTINGS OF [{section}]"));
            if section == "limits" {
                page.paragraph(
                    "A group of principals.toml can have limits of its own, in `[groups.NAME.limits]`, higher or lower; what it leaves out is as in \
                     `[limits]`. \
                     When several groups of a caller set the same limit, the lowest holds.",
                );
            }
        }
        page.item(&format!("{} = {}", row.name, row.default), row.doc);
        let range = row.range.map(|(low, high)| format!(", {low} to {high}")).unwrap_or_default();
        page.more(&format!("Accepts {}{range}.", row.accepts));
    }
    page.heading("SEE ALSO");
    page.paragraph("`rex(1)`, `principals.toml(5)`");
    page.finish()
}

/// principals.toml(5), from the commented file that is shipped: its comments are the text, its settings the examples.
pub fn principals(name: &str) -> String {
    let mut page = Page::new(name, 5);
    page.name(name, "who is who");
    page.heading("DESCRIPTION");
    let file = include_str!("../../../config/principals.toml");
    for block in file.split("\n\n") {
        // A comment is `# text`; `#key = value` is an example, and so is a line without a sign.
        let mut said = String::new();
        let mut literal = String::new();
        for line in block.lines() {
            match line.strip_prefix("# ").or(if line == "#" { Some("") } else { None }) {
                Some("") => paragraph(&mut page, &mut said),
                // Set by columns.
                Some(text) if text.starts_with("  ") => literal.push_str(&format!("{text}\n")),
                Some(text) => {
                    flush(&mut page, &mut said, &mut literal);
                    let text = text.strip_prefix("/etc/rex/principals.toml: ").unwrap_or(text);
                    said.push_str(&format!("{text} "));
                }
                None => {
                    paragraph(&mut page, &mut said);
                    let line = line.strip_prefix('#').unwrap_or(line);
                    if line.starts_with("[[") {
                        page.subheading(line);
                    } else {
                        literal.push_str(&format!("{line}\n"));
                    }
                }
            }
        }
        paragraph(&mut page, &mut said);
        flush(&mut page, &mut said, &mut literal);
    }
    page.heading("SEE ALSO");
    page.paragraph("`rex(1)`, `rex.toml(5)`");
    page.finish()
}

fn paragraph(page: &mut Page, said: &mut String) {
    let text = std::mem::take(said);
    if !text.is_empty() {
        page.paragraph(text.trim());
    }
}

fn flush(page: &mut Page, said: &mut String, literal: &mut String) {
    let lines = std::mem::take(literal);
    if !lines.is_empty() {
        paragraph(page, said);
        page.literal(&lines);
    }
}

/// rex-functions(7), from the table of functions.
pub fn functions(name: &str) -> String {
    let mut page = Page::new(name, 7);
    page.name(name, "the functions of scripts");
    page.heading("DESCRIPTION");
    page.paragraph(
        "Required arguments come first, options last, as a map: `find(\"/var/log\", #{name: \"*.gz\"})`. An option that does not exist is an error. A \
         function that \
         fails throws a map with `kind` and `message`; besides the kinds given with each, every function may throw `bad_argument`, and one that asks \
         the policy may throw \
         `denied`. In the examples `dir` is a folder that holds the files named beside them.",
    );
    for (_, about, functions) in TOPICS {
        page.heading(&about.to_uppercase());
        functions.iter().for_each(|function| one(&mut page, function));
    }
    page.heading("SEE ALSO");
    page.paragraph("`rex(1)`");
    page.finish()
}

fn one(page: &mut Page, function: &Function) {
    page.subheading(&function.signature());
    for text in function.doc.split('\n').filter(|line| !line.is_empty()) {
        page.paragraph(&manual::bare(text));
    }
    for param in function.body.params().iter().filter(|param| param.options.is_none()) {
        let left = if param.optional { ", may be left out" } else { "" };
        page.item(param.name, &format!("({}{left}) {}", param.kind, manual::bare(param.doc)));
    }
    for option in function.options().unwrap_or(&[]) {
        let default = manual::default(option).map_or_else(String::new, |default| format!(", `{default}` unless given"));
        page.item(&format!("#{{{}}}", option.name), &format!("({}{default}) {}", option.kind, manual::bare(option.doc)));
    }
    let asks: Vec<String> = function.asks.iter().map(|ask| format!("`{}`", manual::action(ask))).collect();
    let asks = if asks.is_empty() { "no permission".to_owned() } else { asks.join(", ") };
    let fails: Vec<String> = function.fails.iter().map(|kind| format!("`{}`", kind.name())).collect();
    let fails = if fails.is_empty() { String::new() } else { format!(" May fail with {}.", fails.join(", ")) };
    page.paragraph(&format!("Asks for {asks}.{fails}"));
    for example in function.examples {
        let given = manual::given(example);
        let given = if given.is_empty() { given } else { format!("// dir holds {given}\n") };
        let gives = if example.gives.is_empty() { String::new() } else { format!("\n// gives {}", example.gives) };
        page.literal(&format!("{given}{}{gives}", example.script));
    }
}
