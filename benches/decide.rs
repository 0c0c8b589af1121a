//! What a decision costs, and loading the policies: `cargo bench --bench decide` prints microseconds. The budget is in docs/design.md, part 3.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use rexsh::error::Result;
use rexsh::limits::{Limits, Watch};
use rexsh::policy::*;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

const FILE: Noun = Noun {
    name: "file_system::File",
    parents: &["file_system::Dir"],
    attributes: &[Attribute { name: "path", cedar: "String", required: true, fixed: true, doc: "" }],
    doc: "",
};

struct File(String);

impl Resource for File {
    const NOUNS: &'static [Noun] = &[FILE];
    fn noun(&self) -> &'static Noun {
        &FILE
    }
    fn id(&self) -> &str {
        &self.0
    }
    fn each_ancestor(&self, visit: &mut dyn FnMut(&'static str, &str)) {
        let mut rest = self.0.as_str();
        while let Some((above, _)) = rest.rsplit_once('/') {
            visit("file_system::Dir", if above.is_empty() { "/" } else { above });
            rest = above;
        }
    }
    fn attribute(&self, _: &str) -> Result<Option<Value>> {
        Ok(Some(Value::String(self.0.clone())))
    }
}

enum Read {}
impl Action for Read {
    type On = File;
    const NAMESPACE: &'static str = "file_system";
    const NAME: &'static str = "read";
    const APPLIES_TO: &'static [&'static str] = &["file_system::File"];
    const GROUPS: &'static [&'static str] = &["view"];
    const DOC: &'static str = "";
    const ACCESS: Access = Access::ReadOnly;
    const NEEDS_OPEN: bool = true;
}

const SITE: Site<'static> = Site { function: "cat", asks: &[const { ask::<Read>() }], line: 1, column: 1 };

struct Nowhere;
impl Recorder for Nowhere {
    fn effect(&self, _: &EffectRecord<'_>) -> Result<()> {
        Ok(())
    }
    fn decision(&self, _: &DecisionRecord<'_>) -> Result<()> {
        Ok(())
    }
    fn walk(&self, _: &WalkRecord<'_>) -> Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Memory(RefCell<Option<Vec<u8>>>);
impl Store for Memory {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        self.0.borrow().clone()
    }
    fn put(&self, _: &str, bytes: &[u8]) {
        *self.0.borrow_mut() = Some(bytes.to_vec());
    }
}

fn load(text: &str, schema: &str, store: Option<&dyn Store>) -> Policies {
    let scope = Scope { name: "ann".into(), groups: vec!["ops".into()] };
    Policies::load(&[Source { name: "p".into(), text: text.into() }], schema, &scope, store).unwrap()
}

fn gate(text: &str, schema: &str) -> Gate {
    let principal = Principal { name: "ann".into(), groups: vec!["ops".into()], attributes: Vec::new() };
    let attributes = vec![("mode", Value::String("local".into())), ("interactive", Value::Bool(false))];
    let session = Session { run: "r".into(), attributes };
    Gate::new(
        Arc::new(load(text, schema, None)),
        principal,
        session,
        Box::new(Nowhere),
        Arc::new(Watch::new(Limits::default())),
        Rules::default(),
    )
    .unwrap()
}

/// The best of five, in microseconds each: other work on the machine only ever adds.
fn measure(times: usize, mut work: impl FnMut(usize)) -> f64 {
    let mut best = f64::MAX;
    for round in 0..5 {
        let start = Instant::now();
        (0..times).for_each(|number| work(round * times + number));
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / times as f64);
    }
    best
}

fn policies(count: usize, principal: impl Fn(usize) -> String) -> String {
    let mut text = String::new();
    for number in 0..count {
        let _ = writeln!(
            text,
            "@id(\"p{number}\")\npermit(\n  {},\n  action in [file_system::Action::\"read\", file_system::Action::\"stat\"],\n  resource in file_system::Dir::\"/srv/data/{number}\"\n) when {{ resource.path like \"/srv/*\" }};",
            principal(number)
        );
    }
    text
}

fn main() {
    let schema = schema::render(SITE.asks, &[]);
    let mine = |_: usize| "principal == User::\"ann\"".to_owned();
    for count in [1, 1000] {
        for (what, extra) in [
            ("plain scope", "permit(principal, action in file_system::Action::\"view\", resource in file_system::Dir::\"/a/b\");"),
            (
                "with a condition",
                "permit(principal, action in file_system::Action::\"view\", resource in file_system::Dir::\"/a/b\") when { resource.path like \"/a/*\" && resource in file_system::Dir::\"/a/b/c\" };",
            ),
            (
                "with a forbid on open",
                "permit(principal, action in file_system::Action::\"view\", resource in file_system::Dir::\"/a/b\"); forbid(principal, action == file_system::Action::\"open\", resource in file_system::Dir::\"/a/secret\");",
            ),
        ] {
            let gate = gate(&format!("{}{extra}", policies(count, mine)), &schema);
            let fresh = measure(3000, |number| {
                let _ = gate.permit::<Read>(&SITE, File(format!("/a/b/c/d/e/f/g/file-{number}"))).unwrap();
            });
            let file = File("/a/b/c/d/e/f/g/file-0".into());
            let mut file = Some(file);
            let again = measure(20_000, |_| file = Some(gate.permit::<Read>(&SITE, file.take().unwrap()).unwrap().into_resource()));
            println!("decision at depth 8, {count} policies, {what}: never seen {fresh:.2} µs, remembered {again:.3} µs");
        }
    }
    for (count, of) in [(5, 5), (5000, 10)] {
        let text =
            policies(count, |number| if number % (count / of) == 0 { mine(0) } else { format!("principal == User::\"user-{number}\"") });
        let store = Memory::default();
        let start = Instant::now();
        load(&text, &schema, Some(&store));
        let miss = start.elapsed().as_secs_f64() * 1e3;
        let hit = measure(if count > 100 { 20 } else { 200 }, |_| assert!(load(&text, &schema, Some(&store)).cached)) / 1e3;
        println!(
            "load {count} policies ({} KiB), {of} of the caller: from text {miss:.1} ms, from the cache {hit:.2} ms",
            text.len() >> 10
        );
    }
}
