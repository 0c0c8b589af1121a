//! The options of `rex audit`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Without a subcommand: `show`, or `verify` with --verify.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    #[command(flatten)]
    pub show: ShowArgs,
    /// Check the chains of digests instead of showing records.
    #[arg(long)]
    pub verify: bool,
}

#[derive(Subcommand)]
pub enum AuditCommand {
    /// Show records.
    Show(ShowArgs),
    /// Check that no record was changed, removed or put in; exit code 1 when one was.
    Verify(VerifyArgs),
    /// Show records as they are written, across rotations, until interrupted.
    Follow(FollowArgs),
    /// Count runs, principals, actions, denials, resources, durations.
    Stats(StatsArgs),
    /// Tell what one run did, step by step.
    Replay(ReplayArgs),
    /// Print the script of a run, where rex.toml has scripts kept.
    Script(ScriptArgs),
}

/// Where records are read from.
#[derive(Args, Clone, Default)]
pub struct Sources {
    /// Files of records, also packed with gzip or zstd, or text logs that quote records; without any, the file of rex.toml.
    pub files: Vec<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also the files that rotation has put away beside these, the oldest first.
    #[arg(long)]
    pub rotated: bool,
    /// The system's journal instead of files.
    #[arg(long, conflicts_with_all = ["files", "rotated"])]
    pub journal: bool,
}

/// The kinds of records.
const EVENTS: [&str; 10] =
    ["run_start", "script", "decision", "walk_summary", "effect", "run_end", "refused", "policy_change", "note", "anchor"];

/// Which records.
#[derive(Args, Clone, Default)]
pub struct Wanted {
    /// The id of a run, or how it begins.
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Runs of callers in this group.
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// An action in Cedar notation, or its last word, e.g. `read`.
    #[arg(long)]
    pub action: Option<String>,
    /// How the resource begins, e.g. `/etc/`.
    #[arg(long, value_name = "PREFIX")]
    pub resource: Option<String>,
    #[arg(long, value_enum)]
    pub decision: Option<Decided>,
    /// Records of this kind.
    #[arg(long, value_parser = EVENTS)]
    pub event: Option<String>,
    /// The reference of a denial, as its caller was told it (`d-…`).
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// At this time or later: RFC 3339 (2026-01-31T14:00:00Z), a day (2026-01-31), or so long ago (90s, 15m, 1h, 2d; -1h is the same).
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Decided {
    Allow,
    Deny,
}

impl Decided {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The form of records.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Format {
    #[default]
    Human,
    Json,
    /// Elastic Common Schema.
    Ecs,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
}

#[derive(Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub wanted: Wanted,
    /// One JSON document a line, whatever the form but human.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
    /// As --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// The run of --run as a timeline, as `replay`.
    #[arg(long, conflicts_with_all = ["format", "json"])]
    pub timeline: bool,
}

impl ShowArgs {
    pub fn to_verify(&self) -> VerifyArgs {
        VerifyArgs { sources: self.sources.clone(), anchors: None, json: self.json }
    }
}

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub sources: Sources,
    /// Compare with what the system's log got to know: `journal`, or a text file of syslog.
    #[arg(long, value_name = "journal|FILE")]
    pub anchors: Option<PathBuf>,
    /// The verdict as a JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct FollowArgs {
    /// The file of records; without it, that of rex.toml.
    pub file: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub wanted: Wanted,
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
    /// As --format json.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Begin with the records that are there already; --since does so too.
    #[arg(long)]
    pub all: bool,
}

#[derive(Args)]
pub struct StatsArgs {
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub wanted: Wanted,
    /// Rows of each table.
    #[arg(long, value_name = "N", default_value = "10")]
    pub top: usize,
    /// As a JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct ReplayArgs {
    /// The id of the run, or how it begins.
    pub run: String,
    #[command(flatten)]
    pub sources: Sources,
}

#[derive(Args)]
pub struct ScriptArgs {
    /// The id of the run, or how it begins.
    pub run: String,
    #[command(flatten)]
    pub sources: Sources,
}
