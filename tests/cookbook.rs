//! Every script of docs/cookbook.md, run through the binary on a host made for it, prints what the page says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::Rex;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

/// The folders of the host that the page speaks of; here they are below the host's folder to play in.
const FOLDERS: [&str; 3] = ["/var/", "/etc/", "/srv/"];

const POLICY: &str = r#"
permit(principal, action, resource);
forbid(principal, action, resource == file_system::File::"{data}/etc/shadow");
"#;

/// One recipe of the page.
struct Recipe {
    title: String,
    script: String,
    /// What it prints, where that does not depend on the host.
    prints: Option<String>,
}

/// The fenced blocks below each heading: `rhai` the script, `text` what it prints.
fn recipes() -> Vec<Recipe> {
    let page = include_str!("../docs/cookbook.md");
    let block = |part: &str, language: &str| {
        let start = part.find(&format!("```{language}\n"))? + language.len() + 4;
        let end = start + part[start..].find("\n```")? + 1;
        Some(part[start..end].to_owned())
    };
    page.split("\n## ")
        .skip(1)
        .map(|part| Recipe {
            title: part.lines().next().unwrap().to_owned(),
            script: block(part, "rhai").unwrap_or_else(|| panic!("no script: {part}")),
            prints: block(part, "text"),
        })
        .collect()
}

const DAY: u64 = 24 * 3600;

fn aged(host: &Rex, path: &str, seconds: u64) {
    let file = File::open(host.data().join(path)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

fn mode(host: &Rex, path: &str, bits: u32) {
    fs::set_permissions(host.data().join(path), Permissions::from_mode(bits)).unwrap();
}

fn gzip(host: &Rex, path: &str, text: &str) {
    let mut packed = flate2::write::GzEncoder::new(File::create(host.data().join(path)).unwrap(), flate2::Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap();
}

/// When something was so many seconds ago, as logs write it.
fn ago(seconds: i64) -> String {
    let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A host with an application, its configuration and its logs.
fn host() -> Rex {
    let log: String = [
        (7200, "ERROR disk full"),
        (1800, "ERROR connection refused"),
        (1200, "ERROR disk full"),
        (600, "INFO ok"),
        (300, "ERROR connection refused"),
    ]
    .iter()
    .map(|(seconds, text)| format!("{} {text}\n", ago(*seconds)))
    .collect();
    let access: String = (1..=20)
        .map(|n| {
            let status = match n {
                3 | 9 => 404,
                12 => 502,
                _ => 200,
            };
            format!("10.0.0.{n} - - [24/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" {status} 512 {}.{}\n", n / 10, n % 10)
        })
        .collect();
    let digest = |text: &str| Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sums = format!("{}  1/main\n{}  2/main\n{}  2/extra\n", digest("one\n"), digest("two\n"), digest("as it was\n"));
    let host = Rex::new()
        .policy(POLICY)
        .file("var/log/app/app.log", &log)
        .file("var/log/app/app.log.3", "old\nolder\n")
        .file("var/log/app/debug.log", &"d".repeat(3_000_000))
        .file("var/log/nginx/access.log", &access)
        .file("var/log/nginx/access.log.1", &"a".repeat(1_500_000))
        .file("var/log/nginx/error.log", "1 error timeout\n2 error upstream\n")
        .file("etc/hosts", "127.0.0.1 localhost\n10.0.0.5 db.internal\n")
        .file("etc/shadow", "root:*\n")
        .file(
            "etc/ssh/sshd_config",
            "Port 22\n# logins\n#PasswordAuthentication yes\n\nMatch User backup\n    PasswordAuthentication yes\n",
        )
        .file("etc/app/app.ini", "; the app\n[web]\nport = 8080\n")
        .file("etc/app/app.ini.dist", "; the app\n[web]\nport = 80\n")
        .file("etc/app/app.env", "LOG_LEVEL=info\nPORT=8080\n")
        .file("etc/app/app.toml", "[web]\nport = 8080 # behind the proxy\n")
        .file("etc/app/app.json", "{\"tls\": {\"enabled\": true, \"min_version\": \"1.2\"}}\n")
        .file("etc/app/app.yaml", "replicas: 3\n")
        .file("etc/app/tls.key", "key\n")
        .file("etc/app/api.key", "key\n")
        .file("etc/app/app.env.new", "PORT=8080\nWORKERS=4\nLOG_LEVEL=debug\n")
        .file("srv/app/bin/tool", "#!/bin/sh\n")
        .file("srv/app/cache/open", "x")
        .file("srv/app/core.1234", "core")
        .file("srv/app/releases/1/main", "one\n")
        .file("srv/app/releases/2/main", "two\n")
        .file("srv/app/releases/2/extra", "changed\n")
        .file("srv/app/releases/SHA256SUMS", &sums)
        .file("srv/app/uploads/a.bin", "same bytes")
        .file("srv/app/uploads/b.bin", "same bytes")
        .file("srv/app/uploads/c.bin", "same size!")
        .file("srv/app/uploads/orders.csv", "id,country,amount\n1,DE,30\n2,FR,25\n3,DE,40\n")
        .file("srv/tmp/a.tmp", "a")
        .file("srv/tmp/b.tmp", "b")
        .file("srv/tmp/new.tmp", "c")
        .file("srv/tmp/keep.txt", "k")
        .link("srv/app/current", "releases/2")
        .link("srv/app/previous", "releases/0");
    gzip(&host, "var/log/app/app.log.1.gz", "T INFO start\nT INFO order 4711 placed\n");
    gzip(&host, "var/log/app/app.log.2.gz", "T WARN order 4711 late\n");
    for path in ["var/log/app/app.log.3", "srv/tmp/a.tmp", "srv/tmp/b.tmp", "srv/tmp/keep.txt"] {
        aged(&host, path, 10 * DAY);
    }
    for entry in fs::read_dir(host.data().join("etc/app")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "app.env.new" {
            aged(&host, &format!("etc/app/{name}"), 2 * DAY);
        }
    }
    mode(&host, "etc/app/api.key", 0o600);
    mode(&host, "etc/app/tls.key", 0o640);
    mode(&host, "srv/app/bin/tool", 0o4755);
    mode(&host, "srv/app/cache/open", 0o666);
    host
}

/// The script with the folders of the page put below this one. In one pass: the host's own folder may be below one of them.
fn moved(script: &str, data: &str) -> String {
    let paths = FOLDERS.map(regex::escape).join("|");
    regex::Regex::new(&format!("\"({paths})")).unwrap().replace_all(script, format!("\"{data}$1")).into_owned()
}

/// What a recipe printed, as the page would show it; what went wrong instead.
fn printed(recipe: &Recipe) -> Result<String, String> {
    let host = host();
    let data = host.data().to_str().unwrap().to_owned();
    let script = moved(&recipe.script, &data);
    let (config, policy) = (host.config_file(), host.policy_file());
    let run = host
        .finish(host.command(&["run", "-", "--config", config.to_str().unwrap(), "--policy", policy.to_str().unwrap()]), script.as_bytes());
    if run.code != 0 {
        return Err(format!("exit code {}\n{}{}", run.code, run.stdout, run.stderr));
    }
    Ok(run.stdout.replace(&data, ""))
}

#[test]
fn every_recipe_prints_what_the_page_says() {
    let recipes = recipes();
    assert!(recipes.len() >= 30, "{} recipes", recipes.len());
    let wrong: Vec<String> = recipes
        .iter()
        .filter_map(|recipe| {
            let problem = match (printed(recipe), &recipe.prints) {
                (Ok(stdout), Some(expected)) if stdout.trim_end() == expected.trim_end() => return None,
                (Ok(stdout), None) if !stdout.trim().is_empty() => return None,
                (Ok(stdout), None) => format!("prints nothing: {stdout:?}"),
                (Ok(stdout), Some(expected)) => format!("prints\n{stdout}and the page says\n{expected}"),
                (Err(error), _) => error,
            };
            Some(format!("== {}\n{problem}", recipe.title))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_recipe_does_anything_where_nothing_is_permitted() {
    for recipe in recipes() {
        let host =
            host().policy("permit(principal, action == file_system::Action::\"read\", resource == file_system::File::\"/nowhere\");");
        let data = host.data().to_str().unwrap().to_owned();
        let script = moved(&recipe.script, &data);
        let before = listing(&host);
        let run = host.run(&script);
        assert!(run.denials() > 0, "{}: {run:#?}", recipe.title);
        assert_eq!(listing(&host), before, "{}", recipe.title);
    }
}

/// Every path below the folder with its contents, to see that nothing changed.
fn listing(host: &Rex) -> Vec<(String, Vec<u8>)> {
    fn visit(folder: &std::path::Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let contents = if path.is_file() { Sha256::digest(fs::read(&path).unwrap()).to_vec() } else { Vec::new() };
            found.push((path.display().to_string(), contents));
            if path.is_dir() && !path.is_symlink() {
                visit(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    visit(&host.data(), &mut found);
    found.sort();
    found
}
