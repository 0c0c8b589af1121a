//! Edge cases of changing configuration files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
use super::*;
use crate::functions::rig::{Rig, options};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

const ALL: &str = "permit(principal, action, resource);";

fn line(bytes: &[u8], set: impl FnOnce(&mut LineEdit<'_>)) -> Result<Vec<u8>> {
    let mut edit = LineEdit { pattern: None, line: None, absent: false, after: None, before: None, all: None };
    set(&mut edit);
    lines::edit_line(bytes, &edit).map(|edited| edited.bytes)
}

fn regex(pattern: &str) -> Option<Regex> {
    Some(Regex::new(pattern).unwrap())
}

/// `set_key` with the defaults, except for what is set here.
fn key(form: Form, text: &str, key: &str, value: Option<&str>, set: impl FnOnce(&mut KeyEdit<'_>)) -> Result<String> {
    let mut edit = KeyEdit { form, section: None, key, value, separator: None, quote: Quote::Auto, which: None, comment: true };
    set(&mut edit);
    let edited = keys::set_key(text.as_bytes(), &edit)?;
    Ok(String::from_utf8(edited.bytes).unwrap())
}

#[track_caller]
fn sets(form: Form, before: &str, name: &str, value: &str, after: &str) {
    assert_eq!(key(form, before, name, Some(value), |_| ()).unwrap(), after);
    // What is set stays set, byte for byte.
    assert_eq!(key(form, after, name, Some(value), |_| ()).unwrap(), after);
}

fn in_section(name: &'static str) -> impl Fn(&mut KeyEdit<'_>) {
    move |edit| edit.section = Some(name)
}

fn toml_set(text: &str, section: &[&str], key: &str, value: Dynamic) -> Result<String> {
    let section: Vec<String> = section.iter().map(|name| (*name).to_owned()).collect();
    let value = if value.is_unit() { None } else { Some(toml::value(&value).unwrap()) };
    toml::set_key(text.as_bytes(), &section, key, value.as_ref(), true).map(|edited| String::from_utf8(edited.bytes).unwrap())
}

struct Folder {
    _folder: tempfile::TempDir,
    root: std::path::PathBuf,
}

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for (name, text) in files {
            fs::write(root.join(name), text).unwrap();
        }
        Self { _folder: folder, root }
    }
    fn path(&self, name: &str) -> Dynamic {
        self.root.join(name).to_str().unwrap().into_script()
    }
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root.join(name)).unwrap()
    }
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(&self.root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn the_end_of_the_last_line_stays_missing() {
    assert_eq!(line(b"a\nb", |edit| edit.line = Some("c")).unwrap(), b"a\nb\nc");
    assert_eq!(line(b"a\nb", |edit| (edit.pattern, edit.line) = (regex("^b"), Some("x"))).unwrap(), b"a\nx");
    assert_eq!(line(b"a\nb", |edit| (edit.pattern, edit.absent) = (regex("^a"), true)).unwrap(), b"b");
    assert_eq!(line(b"a\nb", |edit| (edit.pattern, edit.absent) = (regex("^b"), true)).unwrap(), b"a\n");
    assert_eq!(line(b"", |edit| edit.line = Some("c")).unwrap(), b"c\n");
}

#[test]
fn new_lines_end_as_the_others_do() {
    assert_eq!(line(b"a\r\nb\r\n", |edit| edit.line = Some("c")).unwrap(), b"a\r\nb\r\nc\r\n");
    assert_eq!(line(b"a\r\nb\r\n", |edit| (edit.pattern, edit.line) = (regex("^a$"), Some("x"))).unwrap(), b"x\r\nb\r\n");
    assert_eq!(line(b"a\nb\r\nc\n", |edit| (edit.line, edit.after) = (Some("x"), regex("b"))).unwrap(), b"a\nb\r\nx\nc\n");
    sets(Form::Ini, "[a]\r\nx = 1\r\n\r\n[b]\r\n", "y", "2", "y = 2\r\n[a]\r\nx = 1\r\n\r\n[b]\r\n");
    assert_eq!(toml_set("a = 1\r\nb = 2\r\n", &[], "c", 3_i64.into()).unwrap(), "a = 1\r\nb = 2\r\nc = 3\r\n");
}

#[test]
fn bytes_that_are_not_utf8_stay() {
    assert_eq!(line(b"\xff\xfe\nb\n", |edit| (edit.pattern, edit.line) = (regex("^b"), Some("x"))).unwrap(), b"\xff\xfe\nx\n");
    assert_eq!(line(b"\xef\xbb\xbfa\n", |edit| (edit.pattern, edit.line) = (regex("^a$"), Some("x"))).unwrap(), b"\xef\xbb\xbfx\n");
}

#[test]
fn the_last_match_is_replaced_or_all() {
    let edit = |all| move |edit: &mut LineEdit<'_>| (edit.pattern, edit.line, edit.all) = (regex("^a"), Some("x"), all);
    assert_eq!(line(b"a1\nb\na2\n", edit(None)).unwrap(), b"a1\nb\nx\n");
    assert_eq!(line(b"a1\nb\na2\n", edit(Some(true))).unwrap(), b"x\nb\nx\n");
    let gone = |all| move |edit: &mut LineEdit<'_>| (edit.pattern, edit.absent, edit.all) = (regex("^a"), true, all);
    assert_eq!(line(b"a1\nb\na2\n", gone(None)).unwrap(), b"b\n");
    assert_eq!(line(b"a1\nb\na2\n", gone(Some(false))).unwrap(), b"a1\nb\n");
}

#[test]
fn a_dollar_is_a_group_only_where_the_pattern_has_it() {
    let set =
        |pattern: &'static str, new: &'static str| move |edit: &mut LineEdit<'_>| (edit.pattern, edit.line) = (regex(pattern), Some(new));
    assert_eq!(line(b"PATH=/bin\n", set("^PATH=", "PATH=$HOME/bin:$1")).unwrap(), b"PATH=$HOME/bin:$1\n");
    assert_eq!(line(b"  a=1\n", set(r"^(\s*)a=(?P<old>.*)", "${1}a=2 # $old $$1 $HOME $9")).unwrap(), b"  a=2 # 1 $1 $HOME $9\n");
    let error = line(b"other\n", set(r"^(\s*)a=", "$1a=2")).unwrap_err();
    assert_eq!(error.kind, Kind::BadData);
    assert_eq!(line(b"other\n", set(r"^(\s*)a=", "a=2")).unwrap(), b"other\na=2\n");
}

#[test]
fn a_new_line_goes_where_it_is_said_or_nowhere() {
    assert_eq!(line(b"a\nb\na\n", |edit| (edit.line, edit.after) = (Some("x"), regex("a"))).unwrap(), b"a\nb\na\nx\n");
    assert_eq!(line(b"a\nb\na\n", |edit| (edit.line, edit.before) = (Some("x"), regex("a"))).unwrap(), b"x\na\nb\na\n");
    assert_eq!(line(b"b\n", |edit| (edit.line, edit.before) = (Some("x"), regex(""))).unwrap(), b"x\nb\n");
    assert_eq!(line(b"", |edit| (edit.line, edit.before) = (Some("x"), regex(""))).unwrap(), b"x\n");
    assert_eq!(line(b"b\n", |edit| (edit.line, edit.after) = (Some("x"), regex("zzz"))).unwrap_err().kind, Kind::BadData);
}

#[test]
fn env_files_keep_comments_quotes_and_export() {
    sets(Form::Env, "# A=0\nexport A='1' # why\nB=2\n", "A", "3", "# A=0\nexport A='3' # why\nB=2\n");
    sets(Form::Env, "A=1\nA=2\n", "A", "3", "A=1\nA=3\n");
    sets(Form::Env, "A='1'\n", "A", "it's", "A=\"it's\"\n");
    sets(Form::Env, "B=1\n#A=\nC=2\n", "A", "x y", "B=1\n#A=\nA=\"x y\"\nC=2\n");
    sets(Form::Env, "B=1", "A", "$HOME \"q\"", "B=1\nA=\"\\$HOME \\\"q\\\"\"");
    sets(Form::Env, "A=\"one\ntwo\"\nB=2\n", "A", "1", "A=\"1\"\nB=2\n");
    sets(Form::Env, "T=\"\nA=9\n\"\nA=1\n", "A", "2", "T=\"\nA=9\n\"\nA=2\n");
    sets(Form::Env, "A=1 \\\n 2\nB=3\n", "A", "4", "A=4\nB=3\n");
    assert_eq!(key(Form::Env, "A=1\nB=2\nA=3\n", "A", None, |_| ()).unwrap(), "B=2\n");
    // Only the whole key.
    sets(Form::Env, "AB=1\nXA=2\n", "A", "3", "AB=1\nXA=2\nA=3\n");
}

#[test]
fn ini_files_have_sections() {
    let text = "; top\n[a]\nx=1\n\n# about b\n[b]\nx = 2 ; why\n";
    assert_eq!(key(Form::Ini, text, "x", Some("3"), in_section("b")).unwrap(), text.replace("x = 2", "x = 3"));
    assert_eq!(key(Form::Ini, text, "y", Some("3"), in_section("a")).unwrap(), text.replace("x=1\n", "x=1\ny = 3\n"));
    assert_eq!(key(Form::Ini, text, "x", None, in_section("a")).unwrap(), text.replace("x=1\n", ""));
    assert_eq!(key(Form::Ini, text, "z", Some("3"), in_section("c")).unwrap(), format!("{text}\n[c]\nz = 3\n"));
    assert_eq!(key(Form::Ini, text, "z", None, in_section("c")).unwrap(), text);
    sets(Form::Ini, "[a]\n\tname = x\n", "top", "1", "top = 1\n[a]\n\tname = x\n");
    assert_eq!(key(Form::Ini, "[a]\n\tname = x\n", "mail", Some("y"), in_section("a")).unwrap(), "[a]\n\tname = x\n\tmail = y\n");
    // Of a key in two lines it is not clear which counts: units of systemd add them up.
    let twice = "[Service]\nExecStartPre=/a\nExecStartPre=/b\n";
    assert_eq!(key(Form::Unit, twice, "ExecStartPre", Some("/c"), in_section("Service")).unwrap_err().kind, Kind::BadData);
    let all = |edit: &mut KeyEdit<'_>| (edit.section, edit.which) = (Some("Service"), Some(Which::First));
    assert_eq!(key(Form::Unit, twice, "ExecStartPre", Some("/c"), all).unwrap(), "[Service]\nExecStartPre=/c\nExecStartPre=/b\n");
    let more = "[a]\nx = 1\n  and more\n";
    assert_eq!(key(Form::Ini, more, "x", Some("2"), in_section("a")).unwrap_err().kind, Kind::BadData);
}

#[test]
fn plain_files_are_written_as_they_are() {
    sets(Form::Conf, "a 1\nb  2 # why\n", "b", "3", "a 1\nb  3 # why\n");
    sets(Form::Conf, "a 1\nb  2\n", "c", "3", "a 1\nb  2\nc  3\n");
    sets(Form::Conf, "net.ipv4.ip_forward = 0\n", "net.ipv4.ip_forward", "1", "net.ipv4.ip_forward = 1\n");
    sets(Form::Conf, "#x = 1\nlog level = 2\nlog=3\n", "log", "4", "#x = 1\nlog level = 2\nlog=4\n");
    sets(Form::Conf, "a: 1\nb: 2\n", "c", "3", "a: 1\nb: 2\nc: 3\n");
    sets(
        Form::Conf,
        "#shared_buffers = 128MB\t# min 128kB\nport = 5432\n",
        "shared_buffers",
        "1GB",
        "#shared_buffers = 128MB\t# min 128kB\nshared_buffers = 1GB\nport = 5432\n",
    );
    sets(Form::Conf, "", "a", "1", "a = 1\n");
    sets(Form::Ini, "a = # none\nb\n", "a", "1", "a = 1 # none\nb\n");
    sets(Form::Ini, "a = 1\nb\n", "b", "2", "a = 1\nb = 2\n");
}

#[test]
fn in_sshd_config_a_key_stays_out_of_blocks() {
    let text = "#Port 22\n# Port is what it listens on\nx11forwarding no\n\nMatch User backup\n    X11Forwarding yes\n";
    sets(Form::Ssh, text, "X11Forwarding", "yes", &text.replace("x11forwarding no", "x11forwarding yes"));
    sets(Form::Ssh, text, "Port", "2222", &text.replace("#Port 22\n", "#Port 22\nPort 2222\n"));
    sets(Form::Ssh, text, "UsePAM", "yes", &text.replace("x11forwarding no\n", "x11forwarding no\nUsePAM yes\n"));
    assert_eq!(
        key(Form::Ssh, text, "X11Forwarding", Some("no"), in_section("match user backup")).unwrap(),
        text.replace("X11Forwarding yes", "X11Forwarding no")
    );
    assert_eq!(
        key(Form::Ssh, text, "PermitTTY", Some("no"), in_section("Match User backup")).unwrap(),
        format!("{text}    PermitTTY no\n")
    );
    assert_eq!(key(Form::Ssh, text, "PermitTTY", Some("no"), in_section("Match User other")).unwrap_err().kind, Kind::BadData);
}

#[test]
fn a_value_cannot_become_another_line_or_key() {
    for value in ["1\nB=2", "1\r\nB=2", "a\0b"] {
        assert_eq!(key(Form::Env, "A=1\n", "A", Some(value), |_| ()).unwrap_err().kind, Kind::BadArgument);
    }
    for name in ["A\nB", "A=B", "#A", "[A", "", " A"] {
        assert_eq!(key(Form::Ini, "A=1\n", name, Some("2"), |_| ()).unwrap_err().kind, Kind::BadArgument, "{name:?}");
    }
    // What would be read back as something else is refused, and with quotes it can be written.
    assert_eq!(key(Form::Ini, "a = 1\n", "a", Some("x # y"), |_| ()).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(key(Form::Ini, "a = 1\n", "a", Some("x # y"), |edit| edit.quote = Quote::Double).unwrap(), "a = \"x # y\"\n");
    assert_eq!(key(Form::Conf, "a = 1\n", "a", Some(" x"), |_| ()).unwrap_err().kind, Kind::BadArgument);
    assert_eq!(key(Form::Ini, "", "a", Some("1"), |edit| edit.section = Some("b]\n[c")).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn toml_keeps_every_other_byte() {
    let text = "# top\ntitle = 'x'   # why\n\n[web]   # the web\nport=80\nhosts = [\n  \"a\", # first\n  \"b\",\n]\n#workers = 2\n\n# about db\n[db.main]\nurl = \"u\"\n";
    assert_eq!(toml_set(text, &[], "title", "y".into_script()).unwrap(), text.replace("'x'", "\"y\""));
    assert_eq!(toml_set(text, &[], "title", "x".into_script()).unwrap(), text);
    assert_eq!(toml_set(text, &["web"], "port", 8080_i64.into()).unwrap(), text.replace("port=80", "port=8080"));
    assert_eq!(toml_set(text, &["web"], "workers", 4_i64.into()).unwrap(), text.replace("#workers = 2\n", "#workers = 2\nworkers = 4\n"));
    assert_eq!(toml_set(text, &["web"], "tls", true.into_script()).unwrap(), text.replace("]\n#workers", "]\ntls = true\n#workers"));
    assert_eq!(toml_set(text, &["web"], "hosts", Dynamic::UNIT).unwrap(), text.replace("hosts = [\n  \"a\", # first\n  \"b\",\n]\n", ""));
    assert_eq!(toml_set(text, &["db", "main"], "pool", 5_i64.into()).unwrap(), format!("{text}pool = 5\n"));
    assert_eq!(toml_set(text, &["new"], "a.b", 1_i64.into()).unwrap(), format!("{text}\n[new]\n\"a.b\" = 1\n"));
    assert_eq!(toml_set(text, &[], "debug", false.into_script()).unwrap(), text.replace("# why\n", "# why\ndebug = false\n"));
    assert_eq!(toml_set("a = 1", &[], "b", 2_i64.into()).unwrap(), "a = 1\nb = 2");
    assert_eq!(toml_set("p = {x = 1} # k\n", &["p"], "x", 2_i64.into()).unwrap(), "p = {x = 2} # k\n");
    assert_eq!(toml_set("p = {x = 1}\n", &["p"], "y", 2_i64.into()).unwrap_err().kind, Kind::BadData);
    assert_eq!(toml_set("p = {x = 1}\n", &["p"], "x", Dynamic::UNIT).unwrap_err().kind, Kind::BadData);
    assert_eq!(toml_set(text, &[], "web", 1_i64.into()).unwrap_err().kind, Kind::BadData);
    assert_eq!(toml_set("a = \n", &[], "b", 1_i64.into()).unwrap_err().kind, Kind::BadData);
    // A comment inside a string is none.
    assert_eq!(toml_set("t = '''\n#b = 1\n'''\n", &[], "b", 1_i64.into()).unwrap_err().kind, Kind::BadData);
}

#[test]
fn a_block_has_one_pair_of_marks() {
    let block = |text: &str, new: Option<&str>| {
        let edit = BlockEdit { begin: "# BEGIN x".into(), end: "# END x".into(), text: new, after: None, before: None };
        lines::replace_block(text.as_bytes(), &edit).map(|edited| String::from_utf8(edited.bytes).unwrap())
    };
    assert_eq!(block("a", Some("1\n2\n")).unwrap(), "a\n# BEGIN x\n1\n2\n# END x");
    assert_eq!(block("a\n  # BEGIN x\nold\nold\n# END x\nb\n", Some("")).unwrap(), "a\n  # BEGIN x\n# END x\nb\n");
    assert_eq!(block("a\r\n# BEGIN x\r\n1\r\n# END x\r\n", Some("1\n")).unwrap(), "a\r\n# BEGIN x\r\n1\r\n# END x\r\n");
    for broken in ["# BEGIN x\n", "# END x\n# BEGIN x\n", "# BEGIN x\n# BEGIN x\n# END x\n"] {
        assert_eq!(block(broken, Some("1")).unwrap_err().kind, Kind::BadData);
        assert_eq!(block(broken, None).unwrap_err().kind, Kind::BadData);
    }
    assert_eq!(block("", Some("1\n # END x\n2")).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn a_link_stays_and_what_it_leads_to_keeps_its_mode_but_not_setuid() {
    let folder = Folder::new(&[("real", "a=1\n")]);
    fs::set_permissions(folder.root.join("real"), fs::Permissions::from_mode(0o4750)).unwrap();
    symlink("real", folder.root.join("link")).unwrap();
    let set = options([("backup", true.into_script())]);
    let done = Rig::new(ALL).call("set_key", [folder.path("link"), "a".into_script(), 2_i64.into(), set]).unwrap().cast::<Map>();
    assert_eq!(folder.text("real"), "a=2\n");
    assert!(fs::symlink_metadata(folder.root.join("link")).unwrap().is_symlink());
    assert_eq!(fs::metadata(folder.root.join("real")).unwrap().mode() & 0o7777, 0o750);
    let backup = done["backup"].clone().into_string().unwrap();
    assert!(backup.starts_with(folder.root.join("real.").to_str().unwrap()) && backup.ends_with('~'), "{backup}");
    assert_eq!(fs::read_to_string(&backup).unwrap(), "a=1\n");
    assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o7777, 0o750);
}

#[test]
fn nothing_is_written_when_nothing_changes_or_it_is_a_dry_run() {
    let folder = Folder::new(&[("f", "a=1\n")]);
    let before = fs::metadata(folder.root.join("f")).unwrap();
    let both = [("backup", true.into_script()), ("dry_run", true.into_script())];
    let done =
        Rig::new(ALL).call("set_key", [folder.path("f"), "a".into_script(), 1_i64.into(), options([("backup", true.into_script())])]);
    assert_eq!(done.unwrap().cast::<Map>()["changed"].as_bool(), Ok(false));
    let reader = Rig::new("permit(principal, action in file_system::Action::\"view\", resource);");
    let done = reader.call("set_key", [folder.path("f"), "a".into_script(), 2_i64.into(), options(both)]).unwrap().cast::<Map>();
    assert_eq!(done["changed"].as_bool(), Ok(true));
    assert!(done["diff"].clone().into_string().unwrap().contains("-a=1\n+a=2\n"));
    let after = fs::metadata(folder.root.join("f")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec(), before.ctime_nsec()), (after.ino(), after.mtime_nsec(), after.ctime_nsec()));
    assert_eq!(folder.names(), ["f"]);
}

#[test]
fn a_file_that_was_changed_meanwhile_is_left_alone() {
    let folder = Folder::new(&[("f", "a=1\n")]);
    let rig = Rig::new(ALL);
    let call = Call::new(&rig.host, super::super::by_name("set_key").unwrap(), None);
    let path = AbsPath::new(folder.root.join("f").to_str().unwrap().as_bytes()).unwrap();
    let how = How { create: false, mode: None, backup: true, check: None, dry_run: false, max_bytes: 1000, secret: false };
    // Somebody else writes between the reading and the writing: as many bytes, in the same moment.
    let error = change(&call, &path, &how, |_| {
        fs::write(folder.root.join("f"), "a=9\n").unwrap();
        Ok(Edited { bytes: b"a=2\n".to_vec(), line: None })
    });
    assert_eq!(error.unwrap_err().kind, Kind::Changed);
    assert_eq!((folder.text("f").as_str(), folder.names()), ("a=9\n", vec!["f".to_owned()]));
    // Or puts another file in its place.
    let error = change(&call, &path, &how, |_| {
        fs::write(folder.root.join("g"), "a=1\n").unwrap();
        fs::rename(folder.root.join("g"), folder.root.join("f")).unwrap();
        Ok(Edited { bytes: b"a=2\n".to_vec(), line: None })
    });
    assert_eq!(error.unwrap_err().kind, Kind::Changed);
    assert_eq!((folder.text("f").as_str(), folder.names()), ("a=1\n", vec!["f".to_owned()]));
}

#[test]
fn a_file_with_several_names_is_written_in_place_only_while_it_holds_what_was_read() {
    let folder = Folder::new(&[("f", "a=1\n")]);
    fs::hard_link(folder.root.join("f"), folder.root.join("g")).unwrap();
    let rig = Rig::new(ALL);
    let done = rig.call("set_key", [folder.path("f"), "a".into_script(), 2_i64.into()]).unwrap().cast::<Map>();
    assert_eq!((done["atomic"].as_bool(), folder.text("g").as_str()), (Ok(false), "a=2\n"));
    let call = Call::new(&rig.host, super::super::by_name("set_key").unwrap(), None);
    let path = AbsPath::new(folder.root.join("f").to_str().unwrap().as_bytes()).unwrap();
    let how = How { create: false, mode: None, backup: false, check: None, dry_run: false, max_bytes: 1000, secret: false };
    let error = change(&call, &path, &how, |_| {
        fs::write(folder.root.join("g"), "a=9\n").unwrap();
        Ok(Edited { bytes: b"a=3\n".to_vec(), line: None })
    });
    assert_eq!((error.unwrap_err().kind, folder.text("f").as_str()), (Kind::Changed, "a=9\n"));
}

#[test]
fn without_the_right_to_make_a_backup_nothing_is_written() {
    let folder = Folder::new(&[("f", "a=1\n")]);
    let policy = r#"permit(principal, action, resource) unless { action == file_system::Action::"create" };"#;
    let set = options([("backup", true.into_script())]);
    let error = Rig::new(policy).call("set_key", [folder.path("f"), "a".into_script(), 2_i64.into(), set]).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert_eq!((folder.text("f").as_str(), folder.names()), ("a=1\n", vec!["f".to_owned()]));
}

#[test]
fn a_missing_file_and_a_forbidden_one_look_alike() {
    let folder = Folder::new(&[("there", "a=1\n")]);
    for create in [false, true] {
        let rig = Rig::new(r#"permit(principal, action, resource == file_system::File::"/nowhere");"#);
        let call = |name: &str| {
            rig.call("set_key", [folder.path(name), "a".into_script(), 2_i64.into(), options([("create", create.into_script())])])
                .unwrap_err()
        };
        let (there, missing) = (call("there"), call("missing"));
        assert_eq!((there.kind, missing.kind), (Kind::Denied, Kind::Denied));
        assert_eq!(there.message.replace("there", "missing"), missing.message);
    }
    let error = Rig::new(ALL).call("set_key", [folder.path("missing"), "a".into_script(), 2_i64.into()]).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
}

#[test]
fn a_file_larger_than_the_limit_is_refused() {
    let folder = Folder::new(&[("f", "a=1\nb=2\n")]);
    let set = options([("max_bytes", 5_i64.into())]);
    let error = Rig::new(ALL).call("set_key", [folder.path("f"), "a".into_script(), 2_i64.into(), set]).unwrap_err();
    assert_eq!(error.kind, Kind::TooLarge);
}

#[test]
fn the_format_follows_from_the_path() {
    let form = |path: &str, section| form_of(&AbsPath::new(path.as_bytes()).unwrap(), section);
    for (path, expected) in [
        ("/etc/ssh/sshd_config", Form::Ssh),
        ("/etc/ssh/sshd_config.d/10-x.conf", Form::Ssh),
        ("/etc/default/grub", Form::Env),
        ("/srv/app/.env", Form::Env),
        ("/etc/systemd/system/a.service", Form::Unit),
        ("/etc/systemd/system/a.service.d/override.conf", Form::Unit),
        ("/etc/php/php.ini", Form::Ini),
        ("/etc/sysctl.conf", Form::Conf),
        ("/etc/postgresql.conf", Form::Conf),
    ] {
        assert_eq!(form(path, false).unwrap(), Some(expected), "{path}");
    }
    assert_eq!(form("/etc/rex.toml", false).unwrap(), None);
    assert_eq!(form("/etc/x.conf", true).unwrap(), Some(Form::Ini));
    assert_eq!(form("/etc/x.yaml", false).unwrap_err().kind, Kind::BadArgument);
}

#[test]
fn who_may_see_only_redacted_text_writes_none_of_it_back() {
    let folder = Folder::new(&[("f", "secret=1\n")]);
    let policy = r#"permit(principal, action in [file_system::Action::"open", file_system::Action::"redacted_read", file_system::Action::"write"], resource);"#;
    let error = Rig::new(policy).call("set_key", [folder.path("f"), "a".into_script(), 2_i64.into()]).unwrap_err();
    assert_eq!((error.kind, folder.text("f").as_str()), (Kind::Denied, "secret=1\n"));
}

#[test]
fn options_that_would_have_no_effect_are_refused() {
    let folder = Folder::new(&[("f", "a=1\n"), ("f.toml", "a=1\n")]);
    let rig = Rig::new(ALL);
    let set = |file: &str, set: Dynamic| rig.call("set_key", [folder.path(file), "a".into_script(), 2_i64.into(), set]).unwrap_err().kind;
    assert_eq!(set("f", options([("mode", 0o600_i64.into())])), Kind::BadArgument);
    assert_eq!(set("f", options([("section", "x".into_script()), ("format", "conf".into_script())])), Kind::BadArgument);
    assert_eq!(set("f.toml", options([("quote", "double".into_script())])), Kind::BadArgument);
    let line = |set: Dynamic| rig.call("edit_line", [folder.path("f"), set]).unwrap_err().kind;
    for set in [
        options([("pattern", "a".into_script())]),
        options([("state", "absent".into_script())]),
        options([("state", "gone".into_script()), ("line", "a".into_script())]),
        options([("line", "a\nb".into_script())]),
        options([("line", "a".into_script()), ("all", true.into_script())]),
        options([("pattern", "(".into_script()), ("line", "a".into_script())]),
        options([("state", "absent".into_script()), ("line", "a".into_script()), ("create", true.into_script())]),
    ] {
        assert_eq!(line(set), Kind::BadArgument);
    }
    assert_eq!(folder.text("f"), "a=1\n");
}

#[test]
fn a_key_with_the_name_of_a_section_is_refused_or_understood() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new("permit(principal, action, resource);");
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let set = |path: &std::path::Path, key: &str| rig.call("set_key", [path.to_str().unwrap().into(), key.into(), Dynamic::from_int(30)]);
    let ini = at("a.ini", "x.y = 1\n[database]\npool_size = 5\n[opcache]\nopcache.enable = 0\n");
    let error = set(&ini, "database.pool_size").unwrap_err();
    assert_eq!(error.kind, Kind::BadArgument);
    assert_eq!(error.hint.as_deref(), Some("set_key(path, \"pool_size\", …, #{section: \"database\"})"));
    let error = set(&ini, "opcache.enable").unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("set_key(path, \"opcache.enable\", …, #{section: \"opcache\"})"));
    let _ = set(&ini, "x.y").unwrap();
    assert!(std::fs::read_to_string(&ini).unwrap().starts_with("x.y = 30\n"));
    let toml = at("a.toml", "\"a.b\" = 1\n[server]\nport = 1\n[a]\nb = 2\n");
    let _ = set(&toml, "server.port").unwrap();
    let _ = set(&toml, "a.b").unwrap();
    assert_eq!(std::fs::read_to_string(&toml).unwrap(), "\"a.b\" = 30\n[server]\nport = 30\n[a]\nb = 2\n");
}
