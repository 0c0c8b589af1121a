//! Accounts of this host: passwd(5), group(5) and shadow(5), aliases of a uid, members of groups, what a password allows. Directories are asked by name.

use crate::error::{Error, Kind, Result};
use crate::os::facts;
use crate::os::process::{Group, Names, User, group_of_line, other_name_services, user_of_line};
use std::path::Path;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SHADOW: &str = "/etc/shadow";
const SHELLS: &str = "/etc/shells";
const MAX_FILE: u64 = 16 << 20;

/// What an account's password field means for sshd and PAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Password {
    /// A hash that some password fits.
    Set,
    /// None fits (`*`), and the account is not locked.
    None,
    /// The field begins with `!`: sshd refuses the account, keys too, where PAM does not decide (`UsePAM no`).
    Locked,
    /// No password is asked for at all.
    Empty,
    /// shadow(5) was not readable, or has no line of this name.
    Unknown,
}

/// What shadow(5) says about the time of an account, in days since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ageing {
    pub changed: Option<i64>,
    pub maximum: Option<i64>,
    pub inactive: Option<i64>,
    pub expires: Option<i64>,
}

impl Ageing {
    /// Whether the account has ended (shadow(5), field 8).
    #[must_use]
    pub fn account_expired(&self, today: i64) -> bool {
        self.expires.is_some_and(|day| today >= day)
    }
    /// Whether the password must be changed at the next login: sshd then runs passwd(1) instead of the forced command.
    #[must_use]
    pub fn password_expired(&self, today: i64) -> bool {
        self.changed == Some(0)
            || self.changed.zip(self.maximum).is_some_and(|(changed, maximum)| maximum >= 0 && today > changed.saturating_add(maximum))
    }
}

#[derive(Clone, Debug)]
struct Shadow {
    name: String,
    password: Password,
    ageing: Ageing,
}

/// The tables of the host.
#[derive(Debug)]
pub struct Accounts {
    users: Vec<(User, Password)>,
    groups: Vec<Group>,
    /// None where this process may not read it.
    shadow: Option<Vec<Shadow>>,
    shells: Vec<String>,
    names: Names,
}

impl Accounts {
    /// # Errors
    /// Where passwd(5) or group(5) cannot be read.
    pub fn of_host() -> Result<Self> {
        let table = |path: &str| {
            facts::text(Path::new(path), MAX_FILE)?.ok_or_else(|| Error::new(Kind::NotFound, "there is no such file").with_path(path))
        };
        let shadow = facts::text(Path::new(SHADOW), MAX_FILE).ok().flatten();
        let shells = facts::text(Path::new(SHELLS), MAX_FILE).ok().flatten().unwrap_or_default();
        Ok(Self::of_texts(&table(PASSWD)?, &table(GROUP)?, shadow.as_deref(), &shells, Names::of_host()))
    }

    fn of_texts(passwd: &str, group: &str, shadow: Option<&str>, shells: &str, names: Names) -> Self {
        let user = |line: &str| Some((user_of_line(line)?, password(line.split(':').nth(1)?)));
        let shells = shells.lines().map(str::trim).filter(|line| line.starts_with('/'));
        Self {
            users: passwd.lines().filter_map(user).collect(),
            groups: group.lines().filter_map(group_of_line).collect(),
            shadow: shadow.map(|text| text.lines().filter_map(shadow_of_line).collect()),
            shells: shells.map(str::to_owned).collect(),
            names,
        }
    }

    /// The accounts in passwd(5), in its order; those of a directory cannot be listed.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.iter().map(|(user, _)| user)
    }
    /// The groups in group(5), in its order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
    /// An account by its login name, also one that a directory has.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<User> {
        self.users().find(|user| user.name == name).cloned().or_else(|| self.names.user_named(name))
    }
    /// A group by name, also one that a directory has.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Group> {
        self.groups.iter().find(|group| group.name == name).cloned().or_else(|| self.names.group_named(name))
    }
    /// Every login name of a uid, the first of passwd(5) first: that one is the name of the uid.
    #[must_use]
    pub fn aliases(&self, uid: u32) -> Vec<&User> {
        self.users().filter(|user| user.uid == uid).collect()
    }
    /// The names of an account's groups, its own first.
    #[must_use]
    pub fn groups_of(&self, user: &User) -> Vec<String> {
        let own = self.groups.iter().find(|group| group.gid == user.gid).map(|group| group.name.clone());
        let mut groups: Vec<String> = own.or_else(|| self.names.group(user.gid)).into_iter().collect();
        for group in self.groups.iter().filter(|group| group.members.contains(&user.name)) {
            if !groups.contains(&group.name) {
                groups.push(group.name.clone());
            }
        }
        groups
    }
    /// The accounts of a group: those that it lists, and those whose own group it is.
    #[must_use]
    pub fn members(&self, group: &Group) -> Vec<User> {
        let mut members: Vec<User> = self.users().filter(|user| user.gid == group.gid).cloned().collect();
        for name in &group.members {
            if !members.iter().any(|user| user.name == *name) {
                members.extend(self.user(name));
            }
        }
        members
    }
    /// What its password allows. shadow(5) counts where passwd(5) says `x`.
    #[must_use]
    pub fn password(&self, name: &str) -> Password {
        match self.users.iter().find(|(user, _)| user.name == name) {
            Some((_, Password::Unknown)) | None => self.shadow_of(name).map_or(Password::Unknown, |shadow| shadow.password),
            Some((_, password)) => *password,
        }
    }
    /// None where shadow(5) says nothing of the name, or was not readable.
    #[must_use]
    pub fn ageing(&self, name: &str) -> Option<Ageing> {
        self.shadow_of(name).map(|shadow| shadow.ageing)
    }
    fn shadow_of(&self, name: &str) -> Option<&Shadow> {
        self.shadow.as_ref()?.iter().find(|shadow| shadow.name == name)
    }
    /// Whether shadow(5) could be read.
    #[must_use]
    pub fn knows_passwords(&self) -> bool {
        self.shadow.is_some()
    }
    /// Whether shells(5) lists it.
    #[must_use]
    pub fn is_listed_shell(&self, shell: &Path) -> bool {
        self.shells.iter().any(|listed| Path::new(listed) == shell)
    }
    /// Whether the host knows accounts from elsewhere too (LDAP, sssd …), which no list here has.
    #[must_use]
    pub fn others_exist(&self) -> bool {
        other_name_services()
    }
}

/// The second field of passwd(5) or shadow(5).
fn password(field: &str) -> Password {
    match field {
        "x" => Password::Unknown,
        "" => Password::Empty,
        field if field.starts_with('!') => Password::Locked,
        // crypt(5): no hash is shorter, and none begins with `*`.
        field if field.starts_with('*') || field.len() < 13 => Password::None,
        _ => Password::Set,
    }
}

fn shadow_of_line(line: &str) -> Option<Shadow> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, hash, changed, _, maximum, _, inactive, expires, ..] = fields.as_slice() else { return None };
    let day = |text: &str| text.parse::<i64>().ok();
    let ageing = Ageing { changed: day(changed), maximum: day(maximum), inactive: day(inactive), expires: day(expires) };
    Some(Shadow { name: (*name).to_owned(), password: password(hash), ageing })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\na:x:7:7::/a:/bin/sh\nb:x:7:8::/b:/usr/bin/rexsh\nc::9:7::/c:\nd:*:10:8::/d:/bin/sh\n+nis\n";
    const GROUP: &str = "root:x:0:\nga:x:7:b,nobody-at-all\ngb:x:8:a\n";
    const SHADOW: &str = "root:$y$j9T$abcdefgh$ijklmnop:20000:0:99999:7:::\na:*:0:0:99999:7:::\nb:!$y$j9T$abc$def:20000:0:30:7::20100:\n";

    fn accounts(shadow: Option<&str>) -> Accounts {
        Accounts::of_texts(
            PASSWD,
            GROUP,
            shadow,
            "# shells\n/bin/sh\n",
            Names::with_files(Path::new("/dev/null"), Path::new("/dev/null"), None),
        )
    }

    #[test]
    fn names_groups_and_members_are_those_of_the_tables() {
        let accounts = accounts(None);
        let named = |name: &str| accounts.user(name).unwrap();
        assert_eq!(accounts.aliases(7).iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            (accounts.groups_of(&named("a")), accounts.groups_of(&named("b"))),
            (vec!["ga".into(), "gb".into()], vec!["gb".to_owned(), "ga".into()])
        );
        let members: Vec<String> = accounts.members(&accounts.group("ga").unwrap()).into_iter().map(|user| user.name).collect();
        assert_eq!(members, ["a", "c", "b"]);
        assert!(accounts.user("nis").is_none() && accounts.user("+nis").is_none());
        assert!(accounts.is_listed_shell(Path::new("/bin/sh")) && !accounts.is_listed_shell(Path::new("/usr/bin/rexsh")));
    }

    #[test]
    fn passwords_mean_what_sshd_takes_them_for() {
        let known = accounts(Some(SHADOW));
        let of = |name: &str| known.password(name);
        assert_eq!(
            (of("root"), of("a"), of("b"), of("c"), of("d")),
            (Password::Set, Password::None, Password::Locked, Password::Empty, Password::None)
        );
        assert_eq!((accounts(None).password("a"), accounts(None).knows_passwords()), (Password::Unknown, false));
        let (a, b) = (known.ageing("a").unwrap(), known.ageing("b").unwrap());
        assert!(a.password_expired(20000) && !a.account_expired(20000));
        assert!(!b.password_expired(20030) && b.password_expired(20031) && !b.account_expired(20099) && b.account_expired(20100));
    }
}
