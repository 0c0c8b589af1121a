//! A test as somebody wrote it, and the cases that come of it: every combination of its principals, actions and resources.

use super::circumstances;
use super::values::{Given, attributes, time};
use super::vocabulary::{Vocabulary, shown};
use super::{Case, Expect};
use crate::policy::gate::{Open, Principal};
use crate::policy::schema;
use crate::policy::words::Value;
use std::collections::HashMap;

/// Most cases that one test may come to.
const CASES: usize = 10_000;

/// What is wrong, and at which byte of the text.
pub(super) type Fault = (usize, String);
/// Place, name, value.
pub(super) type Pairs = Vec<(usize, String, Given)>;
/// Place and text.
pub(super) type Word = (usize, String);

/// A principal of `[principals]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Person {
    pub groups: Vec<String>,
    pub has: Pairs,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub place: usize,
    pub name: Option<String>,
    pub principals: Vec<Word>,
    pub groups: Vec<String>,
    pub principal_has: Pairs,
    pub actions: Vec<Word>,
    pub resources: Vec<Word>,
    pub missing: bool,
    pub resource_has: Pairs,
    pub context: Pairs,
    pub session: Pairs,
    pub now: Option<(usize, Given)>,
    pub client_address: Option<(usize, Given)>,
    pub open: Option<Open>,
    pub allow: Option<bool>,
    pub by: Option<Vec<String>>,
    /// Whether `by` names all that decided.
    pub by_exactly: bool,
    pub why: Option<String>,
    pub hint: Option<String>,
    pub retry: Option<bool>,
}

/// The later ones take the place of earlier ones of the same name.
pub(super) fn over(base: &Pairs, more: &Pairs) -> Pairs {
    let mut all: Pairs = base.iter().filter(|(_, name, _)| more.iter().all(|(_, other, _)| other != name)).cloned().collect();
    all.extend(more.iter().cloned());
    all
}

impl Draft {
    /// # Errors
    /// What is missing, unknown or of another type, and where.
    pub(super) fn cases(&self, people: &HashMap<String, Person>, vocabulary: &Vocabulary) -> Result<Vec<Case>, Fault> {
        let lacks = |what: &str, like: &str| Err((self.place, format!("the test has no `{what}`; write e.g. {like}")));
        if self.principals.is_empty() {
            return lacks("principal", "principal = \"alice\"");
        }
        if self.actions.is_empty() {
            return lacks("action", "action = \"read\"");
        }
        if self.resources.is_empty() {
            return lacks("resource", "resource = \"/var/log/syslog\"");
        }
        let expect = self.expect()?;
        let count = self.principals.len().saturating_mul(self.actions.len()).saturating_mul(self.resources.len());
        if count > CASES {
            return Err((self.place, format!("{count} combinations; a test may come to {CASES}")));
        }
        let mut cases = Vec::with_capacity(count);
        for principal in &self.principals {
            for action in &self.actions {
                for resource in &self.resources {
                    let mut case = self.case(principal, action, resource, people, vocabulary)?;
                    let question = format!("{} {} {}", principal.1, action.1, resource.1);
                    case.name = match &self.name {
                        None => question,
                        Some(name) if count == 1 => name.clone(),
                        Some(name) => format!("{name} ({question})"),
                    };
                    case.expect = expect.clone();
                    cases.push(case);
                }
            }
        }
        Ok(cases)
    }

    fn expect(&self) -> Result<Expect, Fault> {
        let Some(allow) = self.allow else {
            return Err((self.place, "the test has no `expect`; write expect = \"allow\" or expect = \"deny\"".to_owned()));
        };
        if allow && (self.why.is_some() || self.hint.is_some() || self.retry.is_some()) {
            return Err((self.place, "`why`, `hint` and `retry` are about denials, and this test expects `allow`".to_owned()));
        }
        if self.why.as_deref() == Some("not_permitted") && self.by.as_ref().is_some_and(|by| !by.is_empty()) {
            return Err((self.place, "`not_permitted` means that no rule is about it, so there is none for `by`".to_owned()));
        }
        Ok(Expect {
            allow,
            by: self.by.clone(),
            by_exactly: self.by_exactly,
            why: self.why.clone(),
            hint: self.hint.clone(),
            retry: self.retry,
        })
    }

    fn case(
        &self,
        principal: &Word,
        action: &Word,
        resource: &Word,
        people: &HashMap<String, Person>,
        vocabulary: &Vocabulary,
    ) -> Result<Case, Fault> {
        if let Some(fault) = crate::identity::name::fault(&principal.1) {
            return Err((principal.0, format!("`{}` is no principal: {fault}", shown(&principal.1))));
        }
        let nobody = Person::default();
        let person = people.get(&principal.1).unwrap_or(&nobody);
        let mut groups = person.groups.clone();
        groups.extend(self.groups.iter().filter(|group| !person.groups.contains(group)).cloned());
        let mut has = attributes(&over(&person.has, &self.principal_has), schema::USER.attributes, "a principal")?;
        let question = vocabulary.question(&action.1, &resource.1).map_err(|wrong| {
            let about_action = wrong.starts_with("there is no action") || wrong.contains("is a group of actions");
            (if about_action { action.0 } else { resource.0 }, wrong)
        })?;
        let resource_has = attributes(&self.resource_has, question.noun.attributes, &format!("a {}", question.noun.name))?;
        if self.missing && !resource_has.is_empty() {
            return Err((self.place, "what is `missing` has no attributes".to_owned()));
        }
        let mut session = circumstances::session(&self.session)?;
        if let Some((place, address)) = &self.client_address {
            let address =
                super::values::value(address, "__cedar::ipaddr").map_err(|wrong| (*place, format!("`client_address`: {wrong}")))?;
            for attributes in [&mut has, &mut session] {
                if attributes.iter().all(|(name, _)| *name != "client_address") {
                    attributes.push(("client_address", address.clone()));
                }
            }
        }
        let now = self.now.as_ref().map(|(place, now)| time(now).map_err(|wrong| (*place, format!("`now`: {wrong}")))).transpose()?;
        let context = circumstances::context(&question, &self.context, &has)?;
        Ok(Case {
            file: String::new(),
            line: 0,
            name: String::new(),
            policies: None,
            open: self.open,
            principal: Principal { name: principal.1.clone(), groups, attributes: has },
            session,
            now,
            ask: question.ask,
            noun: question.noun,
            id: question.id,
            missing: self.missing,
            resource_has,
            context,
            expect: Expect::default(),
        })
    }
}

/// Whether a value is there.
pub(super) fn gives(attributes: &[(&'static str, Value)], name: &str) -> bool {
    attributes.iter().any(|(known, _)| *known == name)
}
