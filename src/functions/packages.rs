//! Functions about installed packages, from the package manager's own files. No program is started for them.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1, with2};
use super::journal::Moment;
use super::machine::time;
use super::value::{Dynamic, IntoScript, Map, name_value, record};
use crate::error::{Kind, Result, bad_argument};
use crate::options;
use crate::policy::{Access, Action, ask};
use crate::resource::file::File;
use crate::resource::package::{DATABASE, Database, PACKAGE, Package};
use crate::resource::path::AbsPath;
use crate::sys::packages::{Installed, Packages, is_as_installed};

pub const FUNCTIONS: &[Function] = &[PACKAGE_INFO, PACKAGES, PACKAGE_OWNER, PACKAGE_FILES, PACKAGE_VERIFY, PACKAGE_HISTORY];

const LOOK: &[&str] = &["view"];

/// `package_system::Action::"list"`: see which packages there are.
pub enum List {}
impl Action for List {
    type On = Database;
    const NAMESPACE: &'static str = "package_system";
    const NAME: &'static str = "list";
    const APPLIES_TO: &'static [&'static str] = &[DATABASE.name];
    const GROUPS: &'static [&'static str] = LOOK;
    const DOC: &'static str = "See which packages are installed in which versions, what is newer, and which file came with which.";
    const ACCESS: Access = Access::ReadOnly;
}

/// `package_system::Action::"history"`: see what was installed and removed.
pub enum History {}
impl Action for History {
    type On = Database;
    const NAMESPACE: &'static str = "package_system";
    const NAME: &'static str = "history";
    const APPLIES_TO: &'static [&'static str] = &[DATABASE.name];
    const GROUPS: &'static [&'static str] = LOOK;
    const DOC: &'static str = "See what was installed, upgraded and removed, and when.";
    const ACCESS: Access = Access::ReadOnly;
}

/// `package_system::Action::"inspect"`: see all that is known of a package.
pub enum Inspect {}
impl Action for Inspect {
    type On = Package;
    const NAMESPACE: &'static str = "package_system";
    const NAME: &'static str = "inspect";
    const APPLIES_TO: &'static [&'static str] = &[PACKAGE.name];
    const GROUPS: &'static [&'static str] = LOOK;
    const DOC: &'static str = "See all that is known of it: version, dependencies, the names of its files and what they should contain.";
    const ACCESS: Access = Access::ReadOnly;
}

const NAME: &str = "Its name; where there are several architectures that of the host is meant, or say `libc6:i386`.";
const FAILS: &[Kind] = &[Kind::NotFound, Kind::Unsupported, Kind::Permission, Kind::BadData];
const FAILS_ALL: &[Kind] = &[Kind::Unsupported, Kind::Permission, Kind::BadData];

const PACKAGE_INFO: Function = Function {
    name: "package_info",
    doc: "An installed package: a map.\n\n`name`, `version`, `architecture`, `status` (`installed`; while dpkg is not done with it `unpacked`, `half-configured` …; `config-files` where only its configuration is left), `held` (kept from being upgraded), `automatic` (came along with another; `()` where nobody knows), `essential`, `section`, `priority`, `maintainer`, `homepage`, `source` (where it has another name), `installed_size` (bytes), `summary`, `description`, `depends`, `pre_depends`, `recommends`, `suggests`, `enhances`, `breaks`, `conflicts`, `replaces`, `provides` (arrays), `conffiles` (paths), `manager` (`dpkg` or `apk`). What is not known is `()`. A host of rpm ends in `unsupported`.",
    body: &with1(package_info, [param("name", NAME)]),
    asks: &[ask::<Inspect>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"package_info("dpkg").status"#, gives: "" }],
};

options! {
    /// Options of `packages`.
    PackagesOptions {
        pattern: Vec<String> = Vec::new(), "Only packages whose names match one of these patterns (`*`, `?`, `[…]`).";
        upgradable: bool = false, "Only those of which the lists of the sources, as they were fetched last, have a newer version; it is in `available`. Pins and holds are not looked at. dpkg only.";
        removed: bool = false, "Also those of which only the configuration is left.";
        limit: u64 = 100_000, "Stop after so many.";
    }
}

const PACKAGES: Function = Function {
    name: "packages",
    doc: "The installed packages, by name.\n\nEach is a map with `name`, `version`, `architecture`, `status`, `held`, `automatic`, `installed_size` and `summary` as in [package_info], and `available` with `upgradable`. Asks once, for the list as a whole.",
    body: &with1(packages, [param("options", "")]),
    asks: &[ask::<List>()],
    fails: FAILS_ALL,
    examples: &[Example { given: &[], script: r#"packages(#{pattern: "dpkg*"}).map(|p| p.name)"#, gives: "" }],
};

const PACKAGE_OWNER: Function = Function {
    name: "package_owner",
    doc: "The packages that a file or folder came with: an array of maps with `name` and `architecture`, by name.\n\nMore than one for a folder that several packages use, none for what came otherwise. `/bin/x` and `/usr/bin/x` are the same. What a package has put aside for another (dpkg-divert) is found where it is. Whether there is anything at the path is not looked at.",
    body: &with1(package_owner, [param("path", "The file or folder.")]),
    asks: &[ask::<List>()],
    fails: FAILS_ALL,
    examples: &[Example { given: &[], script: r#"package_owner("/usr/bin/dpkg").map(|p| p.name)"#, gives: "" }],
};

const PACKAGE_FILES: Function = Function {
    name: "package_files",
    doc: "The files and folders that came with a package: an array of paths.\n\nAsks about the package only; the files are not looked at.",
    body: &with1(package_files, [param("name", NAME)]),
    asks: &[ask::<Inspect>()],
    fails: FAILS,
    examples: &[Example { given: &[], script: r#"package_files("dpkg").contains("/usr/bin/dpkg")"#, gives: "" }],
};

options! {
    /// Options of `package_verify`.
    VerifyOptions {
        keep_going: bool = false, "Leave out files whose `read` is denied, or that may not be read; they are in `unread`.";
        conffiles: bool = true, "Configuration files too.";
    }
}

const PACKAGE_VERIFY: Function = Function {
    name: "package_verify",
    doc: "Whether the files of a package are as they were installed, by the digests that the package manager keeps.\n\nA map: `name`, `ok` (nothing but configuration files differs), `checked` (how many), `changed` and `missing` (paths), `changed_conffiles` and `missing_conffiles` (configuration, which may be changed), `unread`. Owners and modes are not kept by dpkg and not compared. The digests are MD5 (dpkg) or SHA-1 (apk) and lie on the same disk: they show accidents and carelessness, and no attacker who is root. Asks about the package, and to read each file; where one is denied the call is, unless `keep_going`.",
    body: &with2(package_verify, [param("name", NAME), param("options", "")]),
    asks: &[ask::<Inspect>(), ask::<Read>()],
    fails: &[Kind::NotFound, Kind::Unsupported, Kind::Permission, Kind::BadData, Kind::Io],
    examples: &[
        Example { given: &[], script: r#"package_verify("hostname").checked"#, gives: "" },
        Example { given: &[], script: r#"package_verify("hostname", #{keep_going: true}).name"#, gives: "" },
    ],
};

options! {
    /// Options of `package_history`.
    HistoryOptions {
        since: Option<Moment> = None, "Only from this moment on.";
        name: Vec<String> = Vec::new(), "Only these packages.";
        action: Vec<String> = Vec::new(), "Only `install`, `upgrade`, `remove` or `purge`.";
        limit: u64 = 10_000, "The last so many.";
    }
}

const PACKAGE_HISTORY: Function = Function {
    name: "package_history",
    doc: "What was installed, upgraded and removed, the oldest first: dpkg's log and its rotations, packed ones too.\n\nMaps with `time` (a DateTime), `action` (`install`, `upgrade`, `remove`, `purge`), `name`, `architecture`, `from` and `to` (versions, or `()`). The log has no zone; its times are taken for the host's. A host of apk, which keeps none, ends in `unsupported`.",
    body: &with1(package_history, [param("options", "")]),
    asks: &[ask::<History>()],
    fails: FAILS_ALL,
    examples: &[Example { given: &[], script: r#"package_history(#{since: "-7d"}).map(|s| [s.name, s.to])"#, gives: "" }],
};

fn text(value: &str) -> Dynamic {
    if value.is_empty() { Dynamic::UNIT } else { value.into_script() }
}

fn package_info(call: &Call<'_>, name: String) -> Result<Map> {
    let granted = call.permit::<Inspect>(Package::of(&name)?)?;
    let one = Packages::of(&granted, &|| call.check())?;
    let about = one.about()?;
    let mut map = row(about);
    map.extend(record([
        ("essential", about.essential.into_script()),
        ("section", text(&about.section)),
        ("priority", text(&about.priority)),
        ("maintainer", text(&about.maintainer)),
        ("homepage", text(&about.homepage)),
        ("source", text(&about.source)),
        ("description", text(&about.description)),
        ("conffiles", Dynamic::from_array(about.conffiles.iter().map(|file| name_value(&file.path)).collect())),
        ("manager", one.manager().name().into_script()),
    ]));
    for key in ["depends", "pre_depends", "recommends", "suggests", "enhances", "breaks", "conflicts", "replaces", "provides"] {
        let list = about.relations.iter().find(|(known, _)| *known == key).map(|(_, list)| list.clone());
        map.insert(key.into(), list.unwrap_or_default().into_script());
    }
    Ok(map)
}

fn row(package: &Installed) -> Map {
    record([
        ("name", package.name.as_str().into_script()),
        ("version", package.version.as_str().into_script()),
        ("architecture", text(&package.architecture)),
        ("status", package.status.as_str().into_script()),
        ("held", package.held.into_script()),
        ("automatic", package.automatic.into_script()),
        ("installed_size", package.bytes.into_script()),
        ("summary", text(&package.summary)),
    ])
}

fn packages(call: &Call<'_>, options: PackagesOptions) -> Result<Vec<Map>> {
    let mut patterns = Vec::new();
    for pattern in &options.pattern {
        let glob = globset::Glob::new(pattern);
        let glob = glob.map_err(|_| bad_argument(format!("packages: option `pattern`: `{}` is no pattern", pattern.escape_debug())))?;
        patterns.push(glob.compile_matcher());
    }
    let granted = call.permit::<List>(Database)?;
    let check = || call.check();
    let packages = Packages::open(&granted, &check)?;
    let wanted = |package: &Installed| {
        (options.removed || package.status != "config-files")
            && (patterns.is_empty() || patterns.iter().any(|pattern| pattern.is_match(&package.name)))
    };
    let mut rows: Vec<(&Installed, Option<String>)> = if options.upgradable {
        let newer = packages.upgradable(&check)?;
        newer.into_iter().filter_map(|(at, version)| packages.all().get(at).map(|package| (package, Some(version)))).collect()
    } else {
        packages.all().iter().map(|package| (package, None)).collect()
    };
    rows.retain(|(package, _)| wanted(package));
    rows.sort_by(|(a, _), (b, _)| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    let shown = |(package, available): (&Installed, Option<String>)| {
        let mut map = row(package);
        if let Some(available) = available {
            map.insert("available".into(), available.into_script());
        }
        map
    };
    Ok(rows.into_iter().take(usize::try_from(options.limit).unwrap_or(usize::MAX)).map(shown).collect())
}

fn package_owner(call: &Call<'_>, path: AbsPath) -> Result<Vec<Map>> {
    let granted = call.permit::<List>(Database)?;
    let check = || call.check();
    let owners = Packages::open(&granted, &check)?.owners(path.as_bytes(), &check)?;
    let row = |(name, architecture): (String, String)| record([("name", name.into_script()), ("architecture", text(&architecture))]);
    Ok(owners.into_iter().map(row).collect())
}

fn package_files(call: &Call<'_>, name: String) -> Result<Vec<Dynamic>> {
    let granted = call.permit::<Inspect>(Package::of(&name)?)?;
    let files = Packages::of(&granted, &|| call.check())?.files()?;
    Ok(files.iter().map(|path| name_value(path)).collect())
}

fn package_verify(call: &Call<'_>, name: String, options: VerifyOptions) -> Result<Map> {
    let granted = call.permit::<Inspect>(Package::of(&name)?)?;
    let check = || call.check();
    let one = Packages::of(&granted, &check)?;
    let (mut changed, mut missing, mut unread) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], Vec::new());
    let mut checked = 0_u64;
    for expected in one.digests()?.iter().filter(|digest| options.conffiles || !digest.conffile) {
        let path = AbsPath::new(expected.path.as_slice())?;
        let found = call.permit::<Read>(File::locate(&path)?).and_then(|file| is_as_installed(&file, expected, &check));
        let of = |lists: &mut [Vec<Dynamic>; 2]| {
            let [plain, conffiles] = lists;
            if expected.conffile { conffiles } else { plain }.push(name_value(&expected.path));
        };
        checked += 1;
        match found {
            Ok(true) => {}
            Ok(false) => of(&mut changed),
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::NotADirectory) => of(&mut missing),
            // Something else has taken its place.
            Err(error) if matches!(error.kind, Kind::IsADirectory | Kind::NotAFile) => of(&mut changed),
            Err(error) if options.keep_going && matches!(error.kind, Kind::Denied | Kind::Permission) => {
                checked -= 1;
                unread.push(name_value(&expected.path));
            }
            Err(error) => return Err(error),
        }
    }
    let [changed, changed_conffiles] = changed;
    let [missing, missing_conffiles] = missing;
    Ok(record([
        ("name", one.about()?.name.as_str().into_script()),
        ("ok", (changed.is_empty() && missing.is_empty() && unread.is_empty()).into_script()),
        ("checked", checked.into_script()),
        ("changed", changed.into_script()),
        ("missing", missing.into_script()),
        ("changed_conffiles", changed_conffiles.into_script()),
        ("missing_conffiles", missing_conffiles.into_script()),
        ("unread", unread.into_script()),
    ]))
}

fn package_history(call: &Call<'_>, options: HistoryOptions) -> Result<Vec<Map>> {
    const ACTIONS: [&str; 4] = ["install", "upgrade", "remove", "purge"];
    if let Some(odd) = options.action.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
        let odd: String = odd.chars().take(40).collect();
        return Err(bad_argument(format!("package_history: option `action`: `{}` is none of {}", odd.escape_debug(), ACTIONS.join(", "))));
    }
    let granted = call.permit::<History>(Database)?;
    let steps = Packages::history(&granted, &|| call.check())?;
    let since = options.since.map_or(i64::MIN, |moment| i64::try_from(moment.0 / 1000).unwrap_or(i64::MAX));
    let steps: Vec<_> = steps
        .into_iter()
        .filter(|step| step.time_ms >= since)
        .filter(|step| options.name.is_empty() || options.name.contains(&step.name))
        .filter(|step| options.action.is_empty() || options.action.contains(&step.action))
        .collect();
    let skipped = steps.len().saturating_sub(usize::try_from(options.limit).unwrap_or(usize::MAX));
    let row = |step: crate::sys::packages::Step| {
        record([
            ("time", time(step.time_ms)),
            ("action", step.action.into_script()),
            ("name", step.name.into_script()),
            ("architecture", text(&step.architecture)),
            ("from", text(&step.from)),
            ("to", text(&step.to)),
        ])
    };
    Ok(steps.into_iter().skip(skipped).map(row).collect())
}
