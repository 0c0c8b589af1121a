//! What cron starts and when: cron_jobs. It asks to read ([`Read`]) each table and folder.

use super::file_read::Read;
use super::function::{Call, Example, Function, param, with1};
use super::value::{Array, Dynamic, IntoScript, Map, name_value, record};
use super::walker::{Bounds, Seen, Step, Walker};
use crate::error::{Error, Kind, Result};
use crate::options;
use crate::policy::{Granted, ask};
use crate::resource::file::File;
use crate::resource::path::AbsPath;
use crate::sys;

pub const FUNCTIONS: &[Function] = &[CRON_JOBS];

/// Tables whose lines name a user, and folders of such tables.
const TABLE: &str = "/etc/crontab";
const TABLES: &str = "/etc/cron.d";
/// Folders with a table for each user: Debian, SUSE, Red Hat. The last has the others in it on hosts of the first kinds.
const OF_USERS: &[&str] = &["/var/spool/cron/crontabs", "/var/spool/cron/tabs", "/var/spool/cron"];
/// Folders of programs, and how often these run.
const PROGRAMS: &[(&str, &str)] = &[
    ("/etc/cron.hourly", "@hourly"),
    ("/etc/cron.daily", "@daily"),
    ("/etc/cron.weekly", "@weekly"),
    ("/etc/cron.monthly", "@monthly"),
    ("/etc/cron.yearly", "@yearly"),
];
const ANACRON: &str = "/etc/anacrontab";
/// Bytes of one table.
const LARGEST: u64 = 1 << 20;

options! {
    /// Options of `cron_jobs`.
    CronOptions {
        user: Option<String> = None, "Only what runs as this user.";
        pattern: Option<String> = None, "Only jobs whose command has this text in it.";
    }
}

const CRON_JOBS: Function = Function {
    name: "cron_jobs",
    doc: "What cron and anacron start and when: an array of maps.\n\nEach has `kind` (`system`, `user`, `folder`, `anacron`), `schedule` (the five fields as they are written, `@daily` and the like; of anacron the period in days), `user` (`()` where the table does not say), `command`, `file`, `line` (`()` for a program in a folder), `environment` (a map of the variables that the table sets above it). The tables are `/etc/crontab`, those in `/etc/cron.d`, those of users, `/etc/anacrontab`, and the programs in `/etc/cron.daily` and its like. Lines that are no job are left out. Timers of systemd are no jobs of cron.\n\nAsks to read each table and folder; those that are denied, or that this Unix user may not read, are left out; if all are denied, that is a denial.",
    body: &with1(cron_jobs, [param("options", "")]),
    asks: &[ask::<Read>()],
    fails: &[],
    examples: &[Example { given: &[], script: "cron_jobs().all(|j| j.command.len() > 0)", gives: "true" }],
};

/// The way to all tables, and what became of it.
struct Tables<'c, 'h> {
    call: &'c Call<'h>,
    allowed: bool,
    denied: Option<Error>,
}

impl Tables<'_, '_> {
    /// What is denied or is not there is left out.
    fn known<T>(&mut self, tried: Result<T>) -> Result<Option<T>> {
        match tried {
            Ok(done) => {
                self.allowed = true;
                Ok(Some(done))
            }
            Err(error) if error.kind == Kind::Denied => {
                self.denied = self.denied.take().or(Some(error));
                Ok(None)
            }
            Err(error) => match error.kind {
                Kind::NotFound | Kind::NotADirectory | Kind::Permission | Kind::NotAFile | Kind::IsADirectory => {
                    self.allowed = true;
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }
    fn text(&mut self, path: &AbsPath) -> Result<Option<String>> {
        let granted = File::locate(path).and_then(|file| self.call.permit::<Read>(file));
        let Some(granted) = self.known(granted)? else { return Ok(None) };
        self.text_of(&granted)
    }
    fn text_of(&mut self, granted: &Granted<Read>) -> Result<Option<String>> {
        let read = sys::file::read(granted, 0, None, LARGEST, &self.call.host.watch);
        Ok(self.known(read)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
    /// The files in a folder, by name, as cron takes them: no hidden ones, no links that lead nowhere.
    fn folder(&mut self, path: &str) -> Result<Vec<(Vec<u8>, AbsPath)>> {
        let root = File::locate_dir(&AbsPath::new(path)?)?;
        let walker = Walker::new(self.call, &root, Bounds { max_depth: Some(1), ..Bounds::default() });
        let Some(mut walker) = self.known(walker)? else { return Ok(Vec::new()) };
        let entered = walker.enter_root(root);
        if self.known(entered)?.is_none() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        loop {
            let name = match walker.step()? {
                Step::Name(name) => name,
                Step::Left => continue,
                Step::Done => break,
            };
            let is_file = matches!(walker.see(&name)?, Seen::There(entry) if !entry.is_dir());
            if is_file && !name.bytes.starts_with(b".") {
                let place = [path.as_bytes(), b"/", &name.bytes].concat();
                found.push((name.bytes, AbsPath::new(place)?));
            }
        }
        walker.finish()?;
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }
}

fn cron_jobs(call: &Call<'_>, options: CronOptions) -> Result<Array> {
    let mut tables = Tables { call, allowed: false, denied: None };
    let mut jobs = Vec::new();
    let table = AbsPath::new(TABLE)?;
    if let Some(text) = tables.text(&table)? {
        jobs.extend(lines(&text, &table, &Form::System));
    }
    for (name, path) in tables.folder(TABLES)? {
        // cron passes over such names: copies that editors and package managers leave (cron(8)).
        let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if plain && let Some(text) = tables.text(&path)? {
            jobs.extend(lines(&text, &path, &Form::System));
        }
    }
    for folder in OF_USERS {
        for (name, path) in tables.folder(folder)? {
            let user = String::from_utf8_lossy(&name).into_owned();
            if let Some(text) = tables.text(&path)? {
                jobs.extend(lines(&text, &path, &Form::User(user)));
            }
        }
    }
    let anacron = AbsPath::new(ANACRON)?;
    if let Some(text) = tables.text(&anacron)? {
        jobs.extend(lines(&text, &anacron, &Form::Anacron));
    }
    for (folder, schedule) in PROGRAMS {
        for (name, path) in tables.folder(folder)? {
            if name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
                let command = path.shown();
                jobs.push(Job {
                    kind: "folder",
                    schedule: (*schedule).to_owned(),
                    user: Some("root".to_owned()),
                    command,
                    file: path,
                    line: None,
                    environment: Vec::new(),
                });
            }
        }
    }
    if let (false, Some(denied)) = (tables.allowed, tables.denied) {
        return Err(denied);
    }
    let wanted = |job: &Job| {
        options.user.as_ref().is_none_or(|user| job.user.as_ref() == Some(user))
            && options.pattern.as_ref().is_none_or(|text| job.command.contains(text.as_str()))
    };
    Ok(jobs.into_iter().filter(wanted).map(|job| row(job).into_script()).collect())
}

/// Which form a table has.
enum Form {
    /// A user stands before the command.
    System,
    User(String),
    Anacron,
}

struct Job {
    kind: &'static str,
    schedule: String,
    user: Option<String>,
    command: String,
    file: AbsPath,
    line: Option<i64>,
    environment: Vec<(String, String)>,
}

fn row(job: Job) -> Map {
    let environment: Map = job.environment.into_iter().map(|(name, value)| (name.into(), value.into_script())).collect();
    record([
        ("kind", job.kind.into_script()),
        ("schedule", job.schedule.into_script()),
        ("user", job.user.into_script()),
        ("command", job.command.into_script()),
        ("file", name_value(job.file.as_bytes())),
        ("line", job.line.map_or(Dynamic::UNIT, IntoScript::into_script)),
        ("environment", environment.into_script()),
    ])
}

/// The jobs of a table (crontab(5), anacrontab(5)).
fn lines(text: &str, file: &AbsPath, form: &Form) -> Vec<Job> {
    let mut environment: Vec<(String, String)> = Vec::new();
    let mut jobs = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some((name, value)) = assignment(line) {
            environment.retain(|(known, _)| *known != name);
            environment.push((name, value));
            continue;
        }
        let parsed = match form {
            Form::Anacron => anacron(line),
            Form::System => schedule(line).and_then(|(schedule, rest)| {
                let (user, command) = word(rest)?;
                Some((schedule, Some(user.to_owned()), command.to_owned()))
            }),
            Form::User(user) => schedule(line).map(|(schedule, command)| (schedule, Some(user.clone()), command.to_owned())),
        };
        let Some((schedule, user, command)) = parsed.filter(|(.., command)| !command.is_empty()) else { continue };
        let kind = match form {
            Form::System => "system",
            Form::User(_) => "user",
            Form::Anacron => "anacron",
        };
        let line = i64::try_from(at + 1).ok();
        jobs.push(Job { kind, schedule, user, command, file: file.clone(), line, environment: environment.clone() });
    }
    jobs
}

/// The first word, and what is behind the blanks after it.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (first, rest) = text.split_at(end);
    (!first.is_empty()).then(|| (first, rest.trim_start()))
}

/// `NAME = value`, the value in quotes or not.
fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().trim_matches(['"', '\'']);
    let is_name = name.bytes().enumerate().all(|(at, byte)| byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit());
    let value = value.trim();
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    (is_name && !name.is_empty()).then(|| (name.to_owned(), quoted('"').or_else(|| quoted('\'')).unwrap_or(value).to_owned()))
}

/// When, and what is behind it.
fn schedule(line: &str) -> Option<(String, &str)> {
    if line.starts_with('@') {
        let (when, rest) = word(line)?;
        return Some((when.to_owned(), rest));
    }
    let mut rest = line;
    let mut fields = Vec::with_capacity(5);
    for _ in 0..5 {
        let (field, more) = word(rest)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "*,-/~".contains(c);
        if !field.chars().all(plain) {
            return None;
        }
        fields.push(field);
        rest = more;
    }
    Some((fields.join(" "), rest))
}

/// Period, delay, name, command.
fn anacron(line: &str) -> Option<(String, Option<String>, String)> {
    let (period, rest) = word(line)?;
    let (delay, rest) = word(rest)?;
    let (_, command) = word(rest)?;
    let numbers =
        (period.starts_with('@') || period.bytes().all(|byte| byte.is_ascii_digit())) && delay.bytes().all(|byte| byte.is_ascii_digit());
    numbers.then(|| (period.to_owned(), None, command.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn of(text: &str, form: &Form) -> Vec<(String, Option<String>, String, i64)> {
        let file = AbsPath::new("/etc/crontab").unwrap();
        lines(text, &file, form).into_iter().map(|job| (job.schedule, job.user, job.command, job.line.unwrap())).collect()
    }

    #[test]
    fn tables_are_read_in_each_of_their_forms() {
        let text = "# m h\nSHELL=/bin/sh\n17 *\t* * *\troot  cd / && run-parts /etc/x\n@reboot alice /bin/a b=c\n*/5 0-3 1,2 jan mon-fri bob x\nodd line\n1 2 3\n";
        assert_eq!(
            of(text, &Form::System),
            [
                ("17 * * * *".to_owned(), Some("root".to_owned()), "cd / && run-parts /etc/x".to_owned(), 3),
                ("@reboot".to_owned(), Some("alice".to_owned()), "/bin/a b=c".to_owned(), 4),
                ("*/5 0-3 1,2 jan mon-fri".to_owned(), Some("bob".to_owned()), "x".to_owned(), 5),
            ]
        );
        let text = "MAILTO=\"a b\"\n0 1 * * * /usr/bin/backup --to x\n";
        assert_eq!(
            of(text, &Form::User("eve".into())),
            [("0 1 * * *".to_owned(), Some("eve".to_owned()), "/usr/bin/backup --to x".to_owned(), 2)]
        );
        assert_eq!(
            lines(text, &AbsPath::new("/x").unwrap(), &Form::User("eve".into()))[0].environment,
            [("MAILTO".to_owned(), "a b".to_owned())]
        );
        let text = "START_HOURS_RANGE=3-22\n7\t25\tcron.weekly\t\tnice run-parts /etc/cron.weekly\n@monthly 45 cron.monthly x\n";
        assert_eq!(
            of(text, &Form::Anacron),
            [("7".to_owned(), None, "nice run-parts /etc/cron.weekly".to_owned(), 2), ("@monthly".to_owned(), None, "x".to_owned(), 3)]
        );
    }
}
