//! principals.toml: which keys, certificates, Unix users and bastions mean which principal, and what groups a principal has.

mod packed;

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use serde::Deserialize;
use ssh_key::Fingerprint;
use toml::Spanned;

use super::key::Certificate;
use super::{Evidence, Identity, name};
use crate::error::{Error, Kind, Result};
pub use packed::key;

/// What becomes of a caller of kind `argument` or `user` (or named by a bastion) whom the file does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unmapped {
    /// Nothing is done for them. A key or certificate that nothing maps is always refused.
    #[default]
    Refuse,
    /// They are a principal of that name, in no group.
    Pass,
}

/// A principal as the owner describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    pub groups: Vec<String>,
    /// For an agent's principal: for whom it works.
    pub on_behalf_of: Option<String>,
}

/// A host whose key may speak for the people logged in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bastion {
    pub name: String,
    /// The environment variable that its client sends.
    pub variable: String,
    /// Whom it may name; `None` for anybody whom the file allows.
    people: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Rule {
    person: String,
    authority: String,
    key_id: Option<String>,
    principals: Vec<String>,
}

/// The parsed file, every reference in it resolved.
#[derive(Clone, Debug, Default)]
pub struct Principals {
    unmapped: Unmapped,
    people: BTreeMap<String, Person>,
    unix_users: HashMap<String, String>,
    keys: HashMap<String, String>,
    /// By fingerprint: whether its certificates' principals are names of ours.
    authorities: HashMap<String, bool>,
    certificates: Vec<Rule>,
    /// By fingerprint.
    bastions: HashMap<String, Bastion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    default: Unmapped,
    #[serde(default)]
    principal: Vec<RawPrincipal>,
    #[serde(default)]
    authority: Vec<RawAuthority>,
    #[serde(default)]
    bastion: Vec<RawBastion>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrincipal {
    name: Spanned<String>,
    #[serde(default)]
    groups: Vec<Spanned<String>>,
    #[serde(default)]
    unix_users: Vec<Spanned<String>>,
    #[serde(default)]
    keys: Vec<Spanned<String>>,
    #[serde(default)]
    certificates: Vec<RawCertificate>,
    on_behalf_of: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    authority: Spanned<String>,
    key_id: Option<Spanned<String>>,
    #[serde(default)]
    principals: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthority {
    name: Spanned<String>,
    fingerprint: Spanned<String>,
    #[serde(default)]
    map_principals: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBastion {
    name: Spanned<String>,
    fingerprint: Spanned<String>,
    variable: Spanned<String>,
    people: Option<Vec<Spanned<String>>>,
}

/// The text being parsed, to say where something is wrong.
struct Source<'a> {
    text: &'a str,
    file: &'a str,
}

impl Source<'_> {
    fn wrong(&self, offset: usize, what: &str) -> Error {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Error::new(Kind::Config, format!("{}:{line}:{column}: {what}", self.file))
    }

    /// What the parser says of types, in the words of this file.
    fn plainly(&self, offset: usize, message: &str) -> String {
        let before = self.text.get(..offset).unwrap_or("");
        let line = self.text.lines().nth(before.matches('\n').count()).unwrap_or("").trim();
        let key = line.split_once('=').map_or(line, |(key, _)| key).trim();
        if let Some(table) = ["principal", "authority", "bastion"].iter().find(|table| line.starts_with(&format!("[{table}]"))) {
            return format!("there may be several of it: write [[{table}]]");
        }
        if message.contains("invalid type") && message.contains("expected a sequence") {
            let value = line.split_once('=').map_or("", |(_, value)| value.trim());
            let like = if value.starts_with('"') { format!("[{value}]") } else { "[\"…\"]".to_owned() };
            return format!("`{key}` is a list: write {key} = {like}");
        }
        if message.contains("unknown variant") && key == "default" {
            return "`default` is \"refuse\" or \"pass\"".to_owned();
        }
        message.to_owned()
    }

    fn at(&self, place: &Spanned<String>, what: &str) -> Error {
        self.wrong(place.span().start, &format!("`{}` {what}", place.get_ref().escape_debug()))
    }

    fn name(&self, given: &Spanned<String>) -> Result<String> {
        match name::fault(given.get_ref()) {
            None => Ok(given.get_ref().clone()),
            Some(fault) => Err(self.at(given, fault)),
        }
    }

    fn names(&self, given: &[Spanned<String>]) -> Result<Vec<String>> {
        let mut names = Vec::with_capacity(given.len());
        for one in given {
            let name = self.name(one)?;
            if names.contains(&name) {
                return Err(self.at(one, "is there twice"));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn fingerprint(&self, given: &Spanned<String>) -> Result<String> {
        let parsed =
            Fingerprint::from_str(given.get_ref()).ok().filter(|parsed| parsed.is_sha256() && parsed.to_string() == *given.get_ref());
        parsed.map(|_| given.get_ref().clone()).ok_or_else(|| {
            self.at(given, "is not a fingerprint; `SHA256:` and 43 characters are needed, as `ssh-keygen -lf FILE` prints them")
        })
    }

    fn variable(&self, given: &Spanned<String>) -> Result<String> {
        let name = given.get_ref();
        let form =
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !form || name.len() > 64 {
            return Err(self.at(given, "is not the name of an environment variable"));
        }
        // These are sshd's, or rex reads them with another meaning.
        if name.starts_with("SSH_") || name.starts_with("LC_REX_") {
            return Err(self.at(given, "has a meaning of its own; choose another variable, such as `LC_BASTION`"));
        }
        Ok(name.clone())
    }
}

impl Principals {
    /// No file at all: callers of kind `argument` and `user` are themselves, in no group; keys and certificates mean nobody.
    #[must_use]
    pub fn absent() -> Self {
        Self { unmapped: Unmapped::Pass, ..Self::default() }
    }

    /// Parses the text of principals.toml; `file` is its name in messages.
    ///
    /// # Errors
    /// [`Kind::Config`] with line and column: not TOML, an unknown key, a name or fingerprint of the wrong form, the same key, Unix
    /// user, name or certificate condition for two principals, a reference to something that is not there.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let source = Source { text, file };
        let raw: File = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            source.wrong(offset, &source.plainly(offset, &error.message().replace('\n', ", ").to_lowercase_first()))
        })?;
        let mut principals = Self { unmapped: raw.default, ..Self::default() };
        let authority_names = principals.add_authorities(&source, &raw.authority)?;
        for one in &raw.principal {
            principals.add_person(&source, one, &authority_names)?;
        }
        for one in &raw.bastion {
            principals.add_bastion(&source, one)?;
        }
        Ok(principals)
    }

    fn add_authorities(&mut self, source: &Source<'_>, given: &[RawAuthority]) -> Result<HashMap<String, String>> {
        let mut names = HashMap::new();
        for one in given {
            let name = source.name(&one.name)?;
            let fingerprint = source.fingerprint(&one.fingerprint)?;
            if names.insert(name, fingerprint.clone()).is_some() {
                return Err(source.at(&one.name, "names two authorities"));
            }
            if self.authorities.insert(fingerprint, one.map_principals).is_some() {
                return Err(source.at(&one.fingerprint, "is registered twice"));
            }
        }
        Ok(names)
    }

    fn add_person(&mut self, source: &Source<'_>, one: &RawPrincipal, authorities: &HashMap<String, String>) -> Result<()> {
        let name = source.name(&one.name)?;
        let groups = source.names(&one.groups)?;
        let on_behalf_of = one.on_behalf_of.as_ref().map(|other| source.name(other)).transpose()?;
        for user in &one.unix_users {
            if self.unix_users.insert(source.name(user)?, name.clone()).is_some() {
                return Err(source.at(user, "is there twice; a Unix user is one principal"));
            }
        }
        for key in &one.keys {
            if self.keys.insert(source.fingerprint(key)?, name.clone()).is_some() {
                return Err(source.at(key, "is there twice; a key is one principal"));
            }
        }
        for certificate in &one.certificates {
            let Some(authority) = authorities.get(certificate.authority.get_ref()) else {
                return Err(source.at(&certificate.authority, "is not the name of an `[[authority]]` in this file"));
            };
            if certificate.key_id.is_none() && certificate.principals.is_empty() {
                return Err(
                    source.at(&certificate.authority, "alone would map every certificate of it; give `key_id`, `principals` or both")
                );
            }
            let principals = source.names(&certificate.principals)?;
            let key_id = certificate.key_id.as_ref().map(|key_id| key_id.get_ref().clone());
            self.certificates.push(Rule { person: name.clone(), authority: authority.clone(), key_id, principals });
        }
        if self.people.insert(name.clone(), Person { name, groups, on_behalf_of }).is_some() {
            return Err(source.at(&one.name, "is there twice; put everything about it into one `[[principal]]`"));
        }
        Ok(())
    }

    fn add_bastion(&mut self, source: &Source<'_>, one: &RawBastion) -> Result<()> {
        let fingerprint = source.fingerprint(&one.fingerprint)?;
        if self.keys.contains_key(&fingerprint) {
            return Err(source.at(&one.fingerprint, "is already the key of a principal; a bastion's key speaks for others only"));
        }
        let people = one.people.as_ref().map(|people| source.names(people)).transpose()?;
        if self.unmapped == Unmapped::Refuse
            && let Some(unknown) = one.people.iter().flatten().find(|person| !self.people.contains_key(person.get_ref()))
        {
            return Err(source.at(unknown, "is not the name of a `[[principal]]` in this file"));
        }
        let bastion = Bastion { name: source.name(&one.name)?, variable: source.variable(&one.variable)?, people };
        if self.bastions.values().any(|other| other.name == bastion.name) {
            return Err(source.at(&one.name, "names two bastions"));
        }
        if self.bastions.insert(fingerprint, bastion).is_some() {
            return Err(source.at(&one.fingerprint, "is registered twice"));
        }
        Ok(())
    }

    /// The principal of this name, described or passed as itself.
    fn named(&self, name: &str, what: &str) -> Result<Person> {
        let name = name::principal(name, what)?;
        match (self.people.get(&name), self.unmapped) {
            (Some(person), _) => Ok(person.clone()),
            (None, Unmapped::Pass) => Ok(Person { name, ..Person::default() }),
            (None, Unmapped::Refuse) => Err(denied(format!("{what} `{}` is nobody in principals.toml", name.escape_debug()))),
        }
    }

    /// Whom `--principal NAME` on the owner's line means.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it is no name, or nobody here.
    pub fn of_argument(&self, name: &str) -> Result<Person> {
        self.named(name, "the name given with --principal")
    }

    /// Whom a Unix user means: the principal that lists it in `unix_users`. An unlisted one passes as itself where the file says so,
    /// but never under the name of a principal that the file describes without listing it.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it means nobody.
    pub fn of_unix_user(&self, user: &str) -> Result<Person> {
        if let Some(person) = self.unix_users.get(user).and_then(|name| self.people.get(name)) {
            return Ok(person.clone());
        }
        if self.people.contains_key(user) {
            return Err(denied(format!(
                "principals.toml has a principal `{0}` but does not list the Unix user `{0}` for it",
                user.escape_debug()
            )));
        }
        self.named(user, "the Unix user")
    }

    /// Whom a plain key means.
    #[must_use]
    pub fn of_key(&self, fingerprint: &str) -> Option<&Person> {
        self.keys.get(fingerprint).and_then(|name| self.people.get(name))
    }

    /// The bastion that has this key.
    #[must_use]
    pub fn bastion(&self, fingerprint: &str) -> Option<&Bastion> {
        self.bastions.get(fingerprint)
    }

    /// Whom `bastion` may mean by `name`.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it is no name, nobody here, or nobody whom this bastion may name.
    pub fn of_bastion(&self, bastion: &Bastion, name: &str) -> Result<Person> {
        let person = self.named(name, &format!("the name in {}", bastion.variable))?;
        match &bastion.people {
            Some(people) if !people.contains(&person.name) => {
                Err(denied(format!("the bastion `{}` may not speak for `{}`", bastion.name.escape_debug(), person.name.escape_debug())))
            }
            _ => Ok(person),
        }
    }

    /// Whether the owner registered the authority with this fingerprint.
    #[must_use]
    pub fn knows_authority(&self, fingerprint: &str) -> bool {
        self.authorities.contains_key(fingerprint)
    }

    /// Whom a certificate means whose form, signature and dates have been checked. All comparisons are of whole strings.
    ///
    /// # Errors
    /// [`Kind::Denied`] if it means nobody, or more than one.
    pub fn of_certificate(&self, certificate: &Certificate) -> Result<Person> {
        let by_rule = self.certificates.iter().filter(|rule| rule.fits(certificate)).map(|rule| &rule.person);
        let maps = self.authorities.get(&certificate.authority).copied().unwrap_or(false);
        let by_name = certificate.principals.iter().filter(|principal| maps && self.people.contains_key(*principal));
        let mut found: Vec<&String> = by_rule.chain(by_name).collect();
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [] => Err(denied("the certificate means nobody in principals.toml")),
            [name] => self.people.get(*name).cloned().ok_or_else(|| Error::new(Kind::Internal, "a mapped principal is not described")),
            several => Err(denied(format!("the certificate means {} principals at once", several.len()))),
        }
    }

    /// Whether a caller who was established earlier would still be the same principal with all of its groups: for runs that last. Not judged
    /// anew are certificates, whose end ends the run by itself, and what a bastion said.
    #[must_use]
    pub fn still_means(&self, identity: &Identity) -> bool {
        let facts = &identity.facts;
        let by_key =
            matches!(identity.evidence, Evidence::AuthInfo | Evidence::Inherited) && facts.certificate.is_none() && facts.via.is_none();
        let same_key =
            !by_key || facts.key_fingerprint.as_ref().is_none_or(|key| self.of_key(key).is_some_and(|person| person.name == identity.name));
        let person = match self.people.get(&identity.name) {
            Some(person) => person.clone(),
            None if self.unmapped == Unmapped::Pass => Person::default(),
            None => return false,
        };
        same_key && identity.groups.iter().all(|group| person.groups.contains(group))
    }

    /// The environment variables of all bastions.
    pub fn bastion_variables(&self) -> impl Iterator<Item = &str> {
        self.bastions.values().map(|bastion| bastion.variable.as_str())
    }

    /// Whether whoever the file does not name passes as themselves.
    #[must_use]
    pub fn others_pass(&self) -> bool {
        self.unmapped == Unmapped::Pass
    }

    /// All principals that the file describes, by name.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.values()
    }
}

impl Rule {
    fn fits(&self, certificate: &Certificate) -> bool {
        self.authority == certificate.authority
            && self.key_id.as_ref().is_none_or(|key_id| *key_id == certificate.key_id)
            && (self.principals.is_empty() || self.principals.iter().any(|principal| certificate.principals.contains(principal)))
    }
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

/// Messages of rex begin in lower case; those of the TOML parser may not.
trait LowercaseFirst {
    fn to_lowercase_first(&self) -> String;
}

impl LowercaseFirst for String {
    fn to_lowercase_first(&self) -> String {
        let mut chars = self.chars();
        chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
    }
}

#[cfg(test)]
mod tests;
