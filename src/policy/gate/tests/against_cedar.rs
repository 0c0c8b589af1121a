//! For generated policies and questions the sliced decision is Cedar's, except that an error in a policy denies.

use super::*;
use cedar_policy as cedar;
use proptest::prelude::*;
use std::collections::HashMap;

pub(super) fn destination() -> Vec<(&'static str, Value)> {
    let text = || Value::String("/x".into());
    vec![("destination", Value::Record(vec![("path", text()), ("name", text()), ("parent_path", text())]))]
}

pub(super) fn pick(options: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(options)
}

pub(super) fn policy() -> impl Strategy<Value = String> {
    let principal = pick(&[
        "principal",
        "principal == User::\"ann\"",
        "principal == User::\"bob\"",
        "principal in Group::\"ops\"",
        "principal in Group::\"dev\"",
        "principal is User",
        "principal is User in Group::\"ops\"",
        "principal in User::\"ann\"",
    ]);
    let action = pick(&[
        "action",
        "action == file_system::Action::\"read\"",
        "action in [file_system::Action::\"stat\", file_system::Action::\"delete\"]",
        "action in file_system::Action::\"view\"",
        "action in [file_system::Action::\"edit\", file_system::Action::\"read\"]",
        "action in file_system::Action::\"SafeIO\"",
    ]);
    let resource = pick(&[
        "resource",
        "resource == file_system::File::\"/a/b\"",
        "resource == file_system::Dir::\"/a/b\"",
        "resource in file_system::Dir::\"/a\"",
        "resource in file_system::File::\"/a/b/c\"",
        "resource in file_system::Dir::\"/\"",
        "resource is file_system::File",
        "resource is file_system::File in file_system::Dir::\"/a/b\"",
        "resource is file_system::Dir",
    ]);
    let condition = pick(&[
        "",
        "when { resource.owner == \"root\" }",
        "unless { resource.owner == \"root\" }",
        "when { resource has size && resource.size > 5 }",
        "when { resource in file_system::Dir::\"/a/b\" }",
        "unless { resource in [file_system::Dir::\"/a/b\", file_system::Dir::\"/c\"] }",
        "when { resource.path like \"/a*\" }",
        "when { resource.links * 9223372036854775807 > 0 }",
        "when { resource.owner == \"ann\" && resource.links * 9223372036854775807 > 0 }",
        "when { principal in Group::\"ops\" && action in file_system::Action::\"view\" }",
        "when { principal in [Group::\"dev\", Group::\"ops\"] }",
        "when { context.session.mode == \"local\" && principal has uid && principal.uid == 7 }",
        "when { (if resource.owner == \"root\" then resource.path else \"x\") like \"/a*\" }",
        "when { action == file_system::Action::\"stat\" } unless { resource is file_system::Dir }",
    ]);
    (pick(&["permit", "permit", "forbid"]), principal, action, resource, condition).prop_map(
        |(effect, principal, action, resource, condition)| {
            // The conditions are about files; what other actions are about has other attributes.
            let guard = if action == "action" && !condition.is_empty() {
                "when { resource is file_system::File || resource is file_system::Dir } "
            } else {
                ""
            };
            format!("{effect}({principal}, {action}, {resource}) {guard}{condition};\n")
        },
    )
}

struct Whole {
    set: cedar::PolicySet,
    schema: cedar::Schema,
}

impl Whole {
    fn uid(kind: &str, id: &str) -> cedar::EntityUid {
        cedar::EntityUid::from_type_name_and_id(kind.parse().unwrap(), cedar::EntityId::new(id))
    }

    fn allows(&self, action: &str, paper: &Paper) -> bool {
        let text = |text: &str| cedar::RestrictedExpression::new_string(text.to_owned());
        let kind = Resource::noun(paper).name;
        let mut entities = Vec::new();
        let mut above = Vec::new();
        Resource::each_ancestor(paper, &mut |kind, id| above.push(Self::uid(kind, id)));
        for (index, uid) in above.iter().enumerate() {
            entities.push(cedar::Entity::new(uid.clone(), HashMap::new(), above.get(index + 1).into_iter().cloned().collect()).unwrap());
        }
        let mut attributes = HashMap::from([
            ("path".to_owned(), text(&paper.path)),
            ("owner".to_owned(), text(&paper.owner)),
            ("links".to_owned(), cedar::RestrictedExpression::new_long(2)),
        ]);
        attributes.extend(paper.size.map(|size| ("size".to_owned(), cedar::RestrictedExpression::new_long(size))));
        entities.push(cedar::Entity::new(Self::uid(kind, &paper.path), attributes, above.first().into_iter().cloned().collect()).unwrap());
        let uid = HashMap::from([("uid".to_owned(), cedar::RestrictedExpression::new_long(7))]);
        entities.push(cedar::Entity::new(Self::uid("User", "ann"), uid, [Self::uid("Group", "ops")].into()).unwrap());
        let actions = self.schema.action_entities().unwrap();
        let entities = actions.add_entities(entities, None).unwrap();
        let session = cedar::RestrictedExpression::new_record([("mode".to_owned(), text("local"))]).unwrap();
        let context = cedar::Context::from_pairs([("session".to_owned(), session)]).unwrap();
        let request = cedar::Request::new(
            Self::uid("User", "ann"),
            Self::uid("file_system::Action", action),
            Self::uid(kind, &paper.path),
            context,
            None,
        )
        .unwrap();
        let response = cedar::Authorizer::new().is_authorized(&request, &self.set, &entities);
        response.decision() == cedar::Decision::Allow && response.diagnostics().errors().next().is_none()
    }
}

/// A cache for one set, so that what is asked is what was read back from it.
#[derive(Default)]
struct Kept(std::cell::RefCell<Option<Vec<u8>>>);

impl crate::policy::Store for Kept {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        self.0.borrow().clone()
    }
    fn put(&self, _: &str, bytes: &[u8]) {
        *self.0.borrow_mut() = Some(bytes.to_vec());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_sliced_decision_is_that_of_the_whole_set(texts in proptest::collection::vec(policy(), 1..10)) {
        let text = texts.concat();
        let schema = render(ASKS, &[]);
        let scope = Scope { name: "ann".into(), groups: vec!["ops".into()] };
        let (sources, kept) = ([Source { name: "p".into(), text: text.clone() }], Kept::default());
        let first = Policies::load(&sources, &schema, &scope, Some(&kept)).unwrap();
        let loaded = Policies::load(&sources, &schema, &scope, Some(&kept)).unwrap();
        prop_assert!(loaded.cached && !first.cached);
        for verb in ["stat", "delete", "move"] {
            prop_assert_eq!(first.hull("file_system", verb), loaded.hull("file_system", verb), "{}\n{}", verb, text);
        }
        let whole = Whole { set: text.parse().unwrap(), schema: cedar::Schema::from_cedarschema_str(&schema).unwrap().0 };
        let gate = Gate::new(Arc::new(loaded), principal(), session(), Box::new(Notes::default()), Arc::new(Watch::new(Limits::default())), Rules::default()).unwrap();
        let papers: [fn() -> Paper; 7] = [|| file("/a/b"), || dir("/a/b"), || file("/a/b/c"), || file("/c"), || dir("/"), || Paper { owner: "ann".into(), size: None, ..file("/a/b/c/d") }, || Paper { size: Some(1), ..dir("/a") }];
        // Twice, so that memory is asked too.
        for paper in papers.iter().chain(&papers) {
            prop_assert_eq!(gate.permit::<Stat>(&SITE, paper()).is_ok(), whole.allows("stat", &paper()), "stat {:?}\n{}", paper(), text);
            prop_assert_eq!(gate.permit::<Delete>(&SITE, paper()).is_ok(), whole.allows("delete", &paper()), "delete {:?}\n{}", paper(), text);
            prop_assert_eq!(gate.permit_with::<Move>(&SITE, paper(), destination()).is_ok(), whole.allows("move", &paper()), "move {:?}\n{}", paper(), text);
        }
    }
}
