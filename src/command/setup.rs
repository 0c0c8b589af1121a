//! `rex setup`: the plan is shown, the owner asked, the deed told.

use super::{say, show};
use crate::error::{Error, Exit, Kind, Result};
use crate::os::process::Environment;
use crate::setup::{self, Applied, Flavour, Journal, Prepared, Step, Wanted, Words, lockout, texts};
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;

/// Lines of a new file that the plan shows.
const SHOWN: usize = 70;

fn flavour(word: &str) -> std::result::Result<Flavour, String> {
    Flavour::ALL.iter().copied().find(|flavour| flavour.word() == word).ok_or_else(|| {
        let words: Vec<&str> = Flavour::ALL.iter().map(|flavour| flavour.word()).collect();
        format!("it is one of {}", words.join(", "))
    })
}

#[derive(Args)]
pub struct SetupArgs {
    /// The way in: forced-command, least-privilege, subsystem, certificate, key, root, login-shell or serve (`--list-flavours`).
    #[arg(long, value_name = "WAY", default_value = "forced-command", value_parser = flavour)]
    flavour: Flavour,
    /// The account of the host. It is made where it is not there. [default: agent]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Who it is for policies and records. [default: the account]
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// A group of that principal; may be given more than once. [default: those that the policies speak of]
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// A public key that may log in: a file, or the key itself; may be given more than once.
    #[arg(long, value_name = "FILE|KEY")]
    key: Vec<String>,
    /// The public key of an authority of certificates; may be given more than once.
    #[arg(long, value_name = "FILE|KEY")]
    authority: Vec<String>,
    /// A principal of certificates that may use the account; may be given more than once. [default: the principal]
    #[arg(long, value_name = "NAME")]
    certificate_principal: Vec<String>,
    /// A policy: one that comes with rex (`--list-policies`), or a file; may be given more than once. [default: oncall-read-only]
    #[arg(long, value_name = "NAME|FILE")]
    policy: Vec<String>,
    /// With `--flavour root`: root logs in for forced commands and nothing else, whoever it is.
    #[arg(long)]
    forced_commands_only: bool,
    /// Leave `user_readenv=1` in /etc/pam.d/sshd.
    #[arg(long)]
    keep_pam: bool,
    /// Have PAM keep sshd's account of each login where no session can forge it, and go by that (docs/operations.md, `record`).
    #[arg(long)]
    record: bool,
    /// Show the plan and the differences; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking.
    #[arg(long, short)]
    yes: bool,
    /// The plan as JSON.
    #[arg(long)]
    json: bool,
    /// Show new files whole, however long.
    #[arg(long, short)]
    verbose: bool,
    /// Also when the account that is at work here could do nothing but ask rex from then on.
    #[arg(long)]
    even_me: bool,
    /// Take back all that setup did to this host.
    #[arg(long)]
    remove: bool,
    /// List the policies that come with rex.
    #[arg(long)]
    list_policies: bool,
    /// List the ways in.
    #[arg(long)]
    list_flavours: bool,
}

/// Exit 0: done, or nothing to do; 2 for a wrong command line or another user than root; 69 where the host lacks something; 75 when another setup is at
/// work; 78 when the host does not fit, or it failed and was taken back; 130 when the owner said no.
#[must_use]
pub fn run(args: SetupArgs, environment: &Environment) -> u8 {
    match try_run(args, environment) {
        Ok(code) => code,
        // A device that is busy has an errno; another setup has none.
        Err(error) if error.kind == Kind::Busy && error.errno.is_none() => {
            let _ = super::local::failed(&error);
            Exit::Transient as u8
        }
        Err(error) => {
            let code = super::local::failed(&error);
            // What a step of the host failed with is no fault of a script.
            if code == Exit::ScriptFailed as u8 { Exit::ConfigInvalid as u8 } else { code }
        }
    }
}

fn try_run(args: SetupArgs, environment: &Environment) -> Result<u8> {
    if args.list_policies {
        let rows = texts::POLICIES.iter().map(|policy| format!("{}\n    {}\n", policy.name, policy.about()));
        return Ok(show(&rows.collect::<String>()));
    }
    if args.list_flavours {
        return Ok(show(&Flavour::ALL.iter().map(|flavour| format!("{:<16} {}\n", flavour.word(), flavour.doc())).collect::<String>()));
    }
    setup::needs_root()?;
    let applied = setup::applied()?;
    if args.remove {
        return remove(&args, &applied);
    }
    if let Some(run) = Journal::interrupted(&applied) {
        say(&format!(
            "the setup of {} was interrupted at: {}",
            run.at,
            run.steps.last().map_or_else(|| "its beginning".to_owned(), Step::describe)
        ));
        if args.dry_run || args.json {
            return Err(Error::new(Kind::Config, "a setup was interrupted")
                .with_hint("`rex setup --remove` takes back what it did; so does `rex setup`, before anything else"));
        }
        ask(&args, "Take back what it did, and go on?")?;
        setup::clean_up(&mut |line| say(line))?;
    }
    let prepared = prepare(&args, environment)?;
    if args.json {
        show(&format!("{:#}\n", plan_json(&args, &prepared)));
    } else {
        show(&plan_text(&args, &prepared));
    }
    if prepared.plan.steps.is_empty() || args.dry_run {
        return Ok(Exit::Ok as u8);
    }
    ask(&args, "Do this?")?;
    setup::apply(&prepared, &mut |line| {
        if args.json {
            say(line)
        } else {
            let _ = show(&format!("{line}\n"));
        }
    })?;
    if !args.json {
        show(&format!(
            "\nThis host is ready. `rex setup --remove` takes all of it back; `rex policy check` looks at the policies.\n{}",
            prepared.next_words()
        ));
    }
    Ok(Exit::Ok as u8)
}

fn prepare(args: &SetupArgs, environment: &Environment) -> Result<Prepared> {
    let words = Words {
        account: args.account.clone(),
        principal: args.principal.clone(),
        groups: args.group.clone(),
        keys: args.key.clone(),
        authorities: args.authority.clone(),
        certificate_principals: args.certificate_principal.clone(),
        policies: args.policy.clone(),
        forced_commands_only: args.forced_commands_only,
        keep_pam: args.keep_pam,
        record: args.record,
    };
    setup::prepare(Wanted::of(args.flavour, words)?, lockout::operators(environment), args.even_me)
}

fn remove(args: &SetupArgs, applied: &[Applied]) -> Result<u8> {
    if applied.is_empty() {
        return Ok(show("nothing to do: setup did nothing to this host that is not taken back\n"));
    }
    let steps: Vec<&Step> = applied.iter().flat_map(|run| &run.steps).collect();
    if args.json {
        let rows: Vec<String> = steps.iter().rev().map(|step| step.describe()).collect();
        show(&format!("{:#}\n", json!({"schema": "rex.setup-removal/1", "takes_back": rows})));
    } else {
        let rows: String = steps.iter().rev().map(|step| format!("  {}\n", step.describe())).collect();
        show(&format!("Taken back, in this order:\n{rows}"));
    }
    if args.dry_run {
        return Ok(Exit::Ok as u8);
    }
    ask(args, "Take this back?")?;
    setup::remove(&mut |line| {
        if args.json {
            say(line)
        } else {
            let _ = show(&format!("{line}\n"));
        }
    })?;
    Ok(Exit::Ok as u8)
}

/// # Errors
/// [`Kind::Cancelled`] for a no; [`Kind::Usage`] where nobody can be asked.
fn ask(args: &SetupArgs, question: &str) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    if !crate::output::is_tty(rustix::stdio::stdin()) {
        return Err(Error::new(Kind::Usage, "nobody can be asked here; nothing has changed")
            .with_hint("--yes does it without asking, --dry-run shows the plan"));
    }
    show(&format!("\n{question} [y/N] "));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Error::new(Kind::Cancelled, "nothing has changed"))
    }
}

fn plan_text(args: &SetupArgs, prepared: &Prepared) -> String {
    let plan = &prepared.plan;
    let mut text = String::new();
    if plan.steps.is_empty() {
        text.push_str("nothing to do: this host is as it should be\n");
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "{:>2}. {}", number + 1, step.describe());
        let Some(diff) = step.diff() else { continue };
        let lines = diff.lines().count();
        let is_new = matches!(step, Step::File { before: None, .. });
        let is_dull = matches!(step, Step::File { path, .. } if path.to_string_lossy().ends_with(".test.toml") || path.starts_with("/etc/tmpfiles.d"));
        if is_new && (lines > SHOWN || is_dull) && !args.verbose {
            let _ = writeln!(text, "      {} lines; --verbose shows them", lines - 3);
        } else {
            diff.lines().for_each(|line| {
                let _ = writeln!(text, "      {line}");
            });
        }
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {note}");
    }
    text
}

fn plan_json(args: &SetupArgs, prepared: &Prepared) -> serde_json::Value {
    let steps: Vec<serde_json::Value> = prepared
        .plan
        .steps
        .iter()
        .map(|step| {
            let mut row = serde_json::to_value(step).unwrap_or_default();
            if let Some(row) = row.as_object_mut() {
                // What was there before is in the difference.
                row.remove("before");
                row.insert("description".to_owned(), step.describe().into());
                row.insert("diff".to_owned(), step.diff().into());
                if let Some(mode) = row.get("mode").and_then(serde_json::Value::as_u64) {
                    row.insert("mode".to_owned(), format!("{mode:04o}").into());
                }
            }
            row
        })
        .collect();
    json!({
        "schema": "rex.setup/1",
        "flavour": args.flavour.word(),
        "steps": steps,
        "notes": prepared.plan.notes,
        "held_to_rex": prepared.plan.held,
    })
}
