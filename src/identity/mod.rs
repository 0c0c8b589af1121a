//! Who is asking: evidence from the owner's line, sshd, `rex serve` or the kernel, and the one principal it proves.

pub mod auth_info;
pub mod declared;
#[cfg(test)]
mod fixtures;
pub mod handover;
pub mod key;
pub mod name;
pub mod principals;
pub mod record;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use self::handover::Handover;
pub use self::key::{Certificate, Key};
pub use self::principals::{Person, Principals, key as principals_key};
use crate::error::{Error, Kind, Result};
use crate::os::process::{Environment, Names};

/// A kind of evidence; the words are those of `identity` in rex.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// `--principal` on the owner's line of a forced command.
    Argument,
    /// A root-owned record of the login, under the kernel's audit session.
    Record,
    /// The key or certificate in the file of `ExposeAuthInfo`.
    AuthInfo,
    /// The real uid.
    User,
    /// Handed over by `rex serve`, which authenticated the caller itself. Cannot be listed in rex.toml.
    Inherited,
}

impl Evidence {
    /// The kinds that rex.toml may list.
    pub const LISTABLE: [Self; 4] = [Self::Argument, Self::Record, Self::AuthInfo, Self::User];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Argument => "argument",
            Self::Record => "record",
            Self::AuthInfo => "auth-info",
            Self::User => "user",
            Self::Inherited => "inherited",
        }
    }

    /// The kind that rex.toml means by `word`.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::LISTABLE.into_iter().find(|kind| kind.name() == word)
    }
}

/// Where evidence may come from in this session.
#[derive(Clone, Copy, Debug)]
pub struct EvidenceSources<'a> {
    /// The value of `--principal` from the owner's line; never from a request.
    pub argument: Option<&'a str>,
    pub environment: &'a Environment,
    /// The folder of [`record`]s.
    pub logins: &'a std::path::Path,
    /// The real uid.
    pub uid: u32,
    pub names: &'a Names,
    /// JSON of a [`Handover`] that `rex serve` gave this process on a descriptor of its own.
    pub inherited: Option<&'a [u8]>,
}

/// The established caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The principal is `User::"name"`. 1–256 bytes, no control characters.
    pub name: String,
    pub groups: Vec<String>,
    pub evidence: Evidence,
    pub facts: Facts,
    /// How it was derived, a sentence each, for `rex whoami`.
    pub derivation: Vec<String>,
    /// Unix seconds at which the session must end, because the certificate does.
    pub expires: Option<u64>,
}

/// Attributes of the caller for policies and records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The first login name of the uid; `uid:N` if it has none.
    pub unix_user: String,
    pub uid: u32,
    /// SSH's methods that succeeded, sorted and joined by commas. Known only where auth-info or `rex serve` decided.
    pub method: Option<String>,
    /// `SHA256:…`; of several keys the one that sorts first, so that the client's order does not matter.
    pub key_fingerprint: Option<String>,
    pub key_type: Option<String>,
    pub certificate: Option<Certificate>,
    pub client_address: Option<IpAddr>,
    /// The client's own word, proof of nothing.
    pub agent: Option<String>,
    /// The client's own word, proof of nothing.
    pub task: Option<String>,
    /// From principals.toml: for whom this principal works.
    pub on_behalf_of: Option<String>,
    /// The bastion that spoke for the caller.
    pub via: Option<String>,
}

/// What `rex whoami` shows of an identity; the caller adds limits, layers and the policy digest.
#[derive(Clone, Debug, Serialize)]
pub struct WhoAmI<'a> {
    pub principal: &'a str,
    pub groups: &'a [String],
    pub evidence: Evidence,
    pub derivation: &'a [String],
    pub expires: Option<u64>,
    pub facts: &'a Facts,
}

/// `identity` as plain data to print.
#[must_use]
pub fn whoami(identity: &Identity) -> WhoAmI<'_> {
    let Identity { name, groups, evidence, facts, derivation, expires } = identity;
    WhoAmI { principal: name, groups, evidence: *evidence, derivation, expires: *expires, facts }
}

fn denied(message: impl Into<String>) -> Error {
    Error::new(Kind::Denied, message)
}

/// Establishes who is asking, at `now` (Unix seconds). `demanded` is `identity` of rex.toml: the first kind in it whose evidence is
/// present decides, alone; evidence that is present but odd denies. With one kind, that kind must be there.
///
/// # Errors
/// [`Kind::Denied`] when nobody is proved; [`Kind::Config`] when `demanded` is empty or lists what this version does not have.
pub fn establish(asked: &EvidenceSources<'_>, demanded: &[Evidence], principals: &Principals, now: u64) -> Result<Identity> {
    if let Some(json) = asked.inherited {
        return of_server_login(asked, json, principals, now);
    }
    if asked.argument.is_some() && !demanded.contains(&Evidence::Argument) {
        return Err(denied("--principal does not count here, because `identity` in rex.toml does not list `argument`"));
    }
    for kind in demanded {
        let present = match kind {
            Evidence::Argument => asked.argument.is_some(),
            // Where it is the only kind, what lacks is worth a sentence of its own.
            Evidence::Record => demanded.len() == 1 || record::is_present(asked.logins),
            Evidence::AuthInfo => auth_info::is_present(asked.environment),
            Evidence::User => true,
            Evidence::Inherited => {
                return Err(Error::new(Kind::Config, format!("`identity` cannot list `{}`", kind.name())));
            }
        };
        if present {
            return of_kind(*kind, asked, principals, now);
        }
    }
    let kinds: Vec<&str> = demanded.iter().map(|kind| kind.name()).collect();
    if kinds.is_empty() {
        return Err(Error::new(Kind::Config, "`identity` lists no kind of evidence").with_hint("identity = [\"argument\", \"user\"]"));
    }
    Err(denied(format!("nothing shows who is asking; this host accepts evidence of kind {}", kinds.join(", "))))
}

fn of_kind(kind: Evidence, asked: &EvidenceSources<'_>, principals: &Principals, now: u64) -> Result<Identity> {
    let mut facts = kernel_facts(asked);
    let mut derivation = Vec::new();
    let proved = match (kind, asked.argument) {
        (Evidence::Argument, Some(name)) => {
            derivation.push("the host's own command line names the principal (--principal)".to_owned());
            Proved { person: principals.of_argument(name)?, ..Proved::default() }
        }
        (Evidence::AuthInfo | Evidence::Record, _) => {
            let (steps, how) = if kind == Evidence::Record {
                (record::read(asked.logins, asked.uid)?, "root's record of the login (rex pam-record) gives the key")
            } else {
                (auth_info::read(asked.environment, asked.uid)?, "sshd's account of the login (ExposeAuthInfo) gives the key")
            };
            facts.method = Some(methods(&steps));
            let keys: Vec<&Key> = steps.iter().filter_map(|step| step.key.as_ref()).collect();
            derivation.push(how.to_owned());
            of_keys(&keys, asked.environment, principals, now, &mut derivation)?
        }
        (Evidence::User, _) => {
            let user = asked.names.user(asked.uid).ok_or_else(|| denied(format!("the user id {} has no name on this host", asked.uid)))?;
            derivation.push(format!("the kernel says user id {}, which is `{}`", asked.uid, user.escape_debug()));
            Proved { person: principals.of_unix_user(&user)?, ..Proved::default() }
        }
        _ => return Err(denied("the evidence demanded is not there")),
    };
    finish(kind, proved, facts, derivation, asked.environment)
}

/// Who logged in to `rex serve`: the handover is evidence as sshd's file is, and means the same principal.
fn of_server_login(asked: &EvidenceSources<'_>, handover: &[u8], principals: &Principals, now: u64) -> Result<Identity> {
    if asked.argument.is_some() {
        return Err(denied("both --principal and an identity from rex serve were given"));
    }
    let handover = Handover::from_json(handover)?;
    let bytes = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|_| denied("the identity handed over by the server is odd: no base64"))
    };
    let plain = Key::from_blob(&handover.key.kind, &bytes(&handover.key.blob)?)?;
    let key = match &handover.certificate {
        None => plain,
        Some(certificate) => {
            let blob = bytes(certificate)?;
            Key::from_blob(key::declared_type(&blob).unwrap_or_default(), &blob)?
        }
    };
    let environment =
        Environment::of(handover.env.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect());
    let mut derivation = vec!["rex serve verified the possession of the key".to_owned()];
    let proved = of_keys(&[&key], &environment, principals, now, &mut derivation)?;
    let facts = Facts { method: Some(auth_info::Method::PublicKey.name().into()), ..kernel_facts(asked) };
    let mut identity = finish(Evidence::Inherited, proved, facts, derivation, &environment)?;
    // The server holds the socket; what the client calls SSH_CONNECTION is its own invention here.
    identity.facts.client_address = handover.client_address.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    Ok(identity)
}

fn kernel_facts(asked: &EvidenceSources<'_>) -> Facts {
    let unix_user = asked.names.user(asked.uid).unwrap_or_else(|| format!("uid:{}", asked.uid));
    Facts { unix_user, uid: asked.uid, ..Facts::default() }
}

/// What one kind of evidence proved.
#[derive(Clone, Debug, Default)]
struct Proved {
    person: Person,
    key: Option<(String, String)>,
    certificate: Option<Certificate>,
    via: Option<String>,
    expires: Option<u64>,
}

fn finish(evidence: Evidence, proved: Proved, facts: Facts, mut derivation: Vec<String>, environment: &Environment) -> Result<Identity> {
    let Person { name, groups, on_behalf_of } = proved.person;
    let (key_fingerprint, key_type) = proved.key.unzip();
    let facts = Facts {
        key_fingerprint,
        key_type,
        certificate: proved.certificate,
        client_address: declared::client_address(environment)?,
        agent: declared::word(environment, declared::AGENT, &mut derivation)?,
        task: declared::word(environment, declared::TASK, &mut derivation)?,
        on_behalf_of,
        via: proved.via,
        ..facts
    };
    derivation.push(match groups.as_slice() {
        [] => format!("principal `{}`, in no group", name.escape_debug()),
        groups => format!("principal `{}`, in {}", name.escape_debug(), groups.join(", ").escape_debug()),
    });
    Ok(Identity { name, groups, evidence, facts, derivation, expires: proved.expires })
}

/// Every accepted key must mean somebody, and all of them the same one: the client chooses their order, so order means nothing.
fn of_keys(keys: &[&Key], environment: &Environment, principals: &Principals, now: u64, derivation: &mut Vec<String>) -> Result<Proved> {
    let mut proved = keys.iter().map(|key| of_one_key(key, environment, principals, now)).collect::<Result<Vec<_>>>()?;
    // A certificate sorts before a plain key, so that the facts of the one that says more are kept.
    proved.sort_by(|(a, _), (b, _)| (a.certificate.is_none(), &a.key).cmp(&(b.certificate.is_none(), &b.key)));
    let expires = proved.iter().filter_map(|(one, _)| one.expires).min();
    let via = proved.iter().find_map(|(one, _)| one.via.clone());
    if proved.iter().any(|(one, _)| proved.first().is_some_and(|(first, _)| first.person != one.person)) {
        return Err(denied("the accepted keys mean different principals"));
    }
    derivation.extend(proved.iter().map(|(_, how)| how.clone()));
    let (first, _) =
        proved.into_iter().next().ok_or_else(|| denied("the login was not made with a user's key, so nobody is derived from it"))?;
    Ok(Proved { via, expires, ..first })
}

fn of_one_key(key: &Key, environment: &Environment, principals: &Principals, now: u64) -> Result<(Proved, String)> {
    let fingerprint = key.fingerprint();
    let of_key = Some((fingerprint.clone(), key.kind()));
    if let Key::Certificate(certificate) = key {
        let registered = principals.knows_authority(&key::authority_of(certificate));
        let certificate = key::check(certificate, registered, now)?;
        let person = principals.of_certificate(&certificate)?;
        let how = format!(
            "certificate `{}` (serial {}) of authority {}",
            certificate.key_id.escape_debug(),
            certificate.serial,
            certificate.authority
        );
        let expires = certificate.valid_before;
        return Ok((Proved { person, key: of_key, certificate: Some(certificate), via: None, expires }, how));
    }
    if let Some(bastion) = principals.bastion(&fingerprint) {
        let variable = bastion.variable.as_str();
        let value = declared::single(environment, variable)?
            .ok_or_else(|| denied(format!("the bastion's key came without {variable}, which names the person")))?;
        let name = std::str::from_utf8(value).map_err(|_| denied(format!("the name in {variable} is not UTF-8")))?;
        let person = principals.of_bastion(bastion, name)?;
        let how = format!("key {fingerprint} is the bastion `{}`, which names the person in {variable}", bastion.name.escape_debug());
        return Ok((Proved { person, key: of_key, via: Some(bastion.name.clone()), ..Proved::default() }, how));
    }
    let person =
        principals.of_key(&fingerprint).cloned().ok_or_else(|| denied(format!("the key {fingerprint} means nobody in principals.toml")))?;
    Ok((Proved { person, key: of_key, ..Proved::default() }, format!("key {fingerprint} is listed in principals.toml")))
}

fn methods(steps: &[auth_info::Step]) -> String {
    let mut names: Vec<&str> = steps.iter().map(|step| step.method.name()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(",")
}

/// Takes over what `rex serve` established, after checking its form; what the kernel says of this process replaces what it says.
#[cfg(test)]
mod tests;
