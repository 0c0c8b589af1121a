//! `rex policy format`: policies in one style, in place or from standard input to standard output; with `--check`, a difference.

use crate::error::{Error, Exit, Kind, Result};
use crate::os::replace::replace;
use crate::os::trusted::{Owner, read_up_to};
use crate::policy::{Source, format};
use crate::terms::OwnersFiles;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that are read of standard input; policies may not be larger.
const MAX: u64 = 4 << 20;

/// How long the shortest difference is looked for; after that a longer one does.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct FormatArgs {
    /// Files, or folders of *.cedar files; `-` is standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Change nothing: print the difference, and exit 1 when there is one.
    #[arg(long)]
    check: bool,
}

/// A file and what it should be.
struct Formatted {
    /// None for standard input.
    path: Option<PathBuf>,
    name: String,
    old: String,
    new: String,
}

/// Formats all of them or none. Exit 78 when one does not parse, 1 when `--check` finds a difference.
#[must_use]
pub fn run(args: &FormatArgs) -> u8 {
    let formatted = match all(&args.files) {
        Ok(formatted) => formatted,
        Err(code) => return code,
    };
    if args.check {
        let differences: String =
            formatted.iter().filter(|one| one.old != one.new).map(|one| difference(&one.name, &one.old, &one.new)).collect();
        let shown = super::super::show(&differences);
        return if differences.is_empty() || shown != Exit::Ok as u8 { shown } else { Exit::ScriptFailed as u8 };
    }
    for one in &formatted {
        let done = match &one.path {
            None => match super::super::show(&one.new) {
                0 => Ok(()),
                code => return code,
            },
            Some(_) if one.old == one.new => Ok(()),
            Some(path) => replace(path, one.old.as_bytes(), one.new.as_bytes()),
        };
        if let Err(error) = done {
            return super::super::local::failed(&error);
        }
    }
    Exit::Ok as u8
}

/// Every file, formatted; every fault said on stderr.
fn all(paths: &[PathBuf]) -> std::result::Result<Vec<Formatted>, u8> {
    let mut code = None;
    let mut done = Vec::new();
    let mut say = |error: &Error| {
        // A fault of a policy has lines of its own.
        let text = format!("{}\n", if error.path.is_some() { error.to_string() } else { error.message.clone() });
        let _ = crate::output::write_all(rustix::stdio::stderr(), crate::output::neutralise(&text).as_bytes());
        code.get_or_insert(match error.kind {
            Kind::Config | Kind::NotFound => Exit::ConfigInvalid as u8,
            kind => kind.exit() as u8,
        });
    };
    for path in paths {
        match sources(path) {
            Ok(sources) => {
                for (path, source) in sources {
                    match format::format(&source) {
                        Ok(new) => done.push(Formatted { path, name: source.name, old: source.text, new }),
                        Err(error) => say(&error),
                    }
                }
            }
            Err(error) => say(&error),
        }
    }
    code.map_or(Ok(done), Err)
}

fn sources(path: &Path) -> Result<Vec<(Option<PathBuf>, Source)>> {
    if path != Path::new("-") {
        if !path.exists() {
            return Err(Error::new(Kind::NotFound, "there is no such file or folder").with_path(path.display().to_string()));
        }
        let sources = OwnersFiles::new(None, Owner::Unchecked).sources(path)?;
        return Ok(sources.into_iter().map(|source| (Some(PathBuf::from(&source.name)), source)).collect());
    }
    let bytes = read_up_to(rustix::stdio::stdin(), MAX + 1).map_err(|errno| Error::os("standard input", errno.raw_os_error()))?;
    if bytes.len() as u64 > MAX {
        return Err(Error::new(Kind::Config, format!("standard input is larger than {} MiB", MAX >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::new(Kind::Config, "standard input is not UTF-8 text"))?;
    Ok(vec![(None, Source { name: "<stdin>".to_owned(), text })])
}

/// As `diff -u` prints it.
fn difference(name: &str, old: &str, new: &str) -> String {
    similar::TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(old, new)
        .unified_diff()
        .context_radius(3)
        .header(name, &format!("{name} (formatted)"))
        .to_string()
}
