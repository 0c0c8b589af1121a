//! The script API: one file per topic; the folder listing is its contents page.

pub mod accounts;
pub mod attributes;
pub mod compare;
pub mod binary;
pub mod archive;
pub mod compress;
pub mod convert;
pub mod copy;
pub mod cron;
pub mod containers;
pub mod control;
pub mod data;
pub mod debug;
pub mod datetime;
pub mod digest;
pub mod dir;
pub mod disks;
pub mod dns;
#[cfg(feature = "raw-syscall-door")]
pub mod door;
pub mod environment;
pub mod exec;
pub mod edit;
pub mod fields;
pub mod extract;
pub mod file_read;
pub mod file_stat;
pub mod file_write;
pub mod follow;
pub mod formats;
pub mod function;
pub mod gzip_text;
pub mod host;
pub mod interfaces;
pub mod journal;
pub mod journal_follow;
pub mod kernel;
pub mod launch;
pub mod lines;
pub mod logs;
pub mod machine;
pub mod manual;
pub mod mount;
pub mod namespaces;
pub mod net_sockets;
pub mod open_files;
pub mod packages;
pub mod paths;
pub mod order;
pub mod ports;
pub mod power;
pub mod probes;
pub mod process;
pub mod processes;
#[cfg(test)]
pub(crate) mod rig;
pub mod handle;
pub mod http;
pub mod reach;
pub mod say;
pub mod signals;
pub mod search;
pub mod text_stats;
pub mod xattrs;
pub mod service;
pub mod source;
pub mod sysctl;
pub mod sysctl_load;
pub mod time;
pub mod top;
pub mod tree_change;
pub mod unit_files;
pub mod units;
pub mod usage;
pub mod tls;
pub mod transform;
pub mod regexes;
pub mod urls;
pub mod words;
pub mod value;
pub mod walker;

use crate::policy::{Ask, Noun};
use function::Function;

/// Every topic: its name, what it is about, and its functions.
pub const TOPICS: &[(&str, &str, &[Function])] = &[
    ("file_read", "Looking into files", file_read::FUNCTIONS),
    ("file_write", "Writing files", file_write::FUNCTIONS),
    ("edit", "Changing configuration files", edit::FUNCTIONS),
    ("tree_change", "Making, moving and removing", tree_change::FUNCTIONS),
    ("copy", "Copying", copy::FUNCTIONS),
    ("attributes", "Modes, owners and times", attributes::FUNCTIONS),
    ("xattrs", "Extended attributes and access lists", xattrs::FUNCTIONS),
    ("handle", "Open files", handle::FUNCTIONS),
    ("file_stat", "What files are", file_stat::FUNCTIONS),
    ("dir", "Directories", dir::FUNCTIONS),
    ("paths", "Paths", paths::FUNCTIONS),
    ("usage", "What takes the room", usage::FUNCTIONS),
    ("search", "Searching in files", search::FUNCTIONS),
    ("text_stats", "Beginnings, ends and counts of files", text_stats::FUNCTIONS),
    ("exec", "Running programs", exec::FUNCTIONS),
    ("transform", "Changing text", transform::FUNCTIONS),
    ("fields", "Fields and lines of text", fields::FUNCTIONS),
    ("order", "Sorting lines", order::FUNCTIONS),
    ("compare", "Comparing and laying out text", compare::FUNCTIONS),
    ("follow", "Following files that grow", follow::FUNCTIONS),
    ("binary", "Programs and core dumps", binary::FUNCTIONS),
    ("compress", "Packing and unpacking files", compress::FUNCTIONS),
    ("gzip_text", "Reading gzip files", gzip_text::FUNCTIONS),
    ("archive", "Making and listing archives", archive::FUNCTIONS),
    ("extract", "Extracting archives", extract::FUNCTIONS),
    ("processes", "Processes", processes::FUNCTIONS),
    ("process", "One process", process::FUNCTIONS),
    ("top", "What uses most", top::FUNCTIONS),
    ("open_files", "Who has what open", open_files::FUNCTIONS),
    ("environment", "Environments", environment::FUNCTIONS),
    ("debug", "What programs are in the middle of", debug::FUNCTIONS),
    ("namespaces", "Namespaces", namespaces::FUNCTIONS),
    ("signals", "Signals to processes", signals::FUNCTIONS),
    ("machine", "The machine", machine::FUNCTIONS),
    ("host", "More about the machine", host::FUNCTIONS),
    ("kernel", "What the kernel says", kernel::FUNCTIONS),
    ("disks", "Disks", disks::FUNCTIONS),
    ("mount", "Taking filesystems away", mount::FUNCTIONS),
    ("sysctl", "Settings of the kernel", sysctl::FUNCTIONS),
    ("sysctl_load", "Settings from files", sysctl_load::FUNCTIONS),
    ("cron", "What cron starts", cron::FUNCTIONS),
    ("power", "Reboot and shutdown", power::FUNCTIONS),
    ("accounts", "Accounts and logins", accounts::FUNCTIONS),
    ("net_sockets", "Sockets", net_sockets::FUNCTIONS),
    ("http", "HTTP", http::FUNCTIONS),
    ("ports", "What answers on the network", ports::FUNCTIONS),
    ("dns", "Looking names up", dns::FUNCTIONS),
    ("interfaces", "Interfaces, addresses and routes", interfaces::FUNCTIONS),
    ("tls", "Certificates", tls::FUNCTIONS),
    ("service", "Services", service::FUNCTIONS),
    ("unit_files", "Files of services", unit_files::FUNCTIONS),
    ("units", "Timers, dependencies, the start of the machine", units::FUNCTIONS),
    ("journal", "Logs", journal::FUNCTIONS),
    ("journal_follow", "Logs that grow", journal_follow::FUNCTIONS),
    ("packages", "Packages", packages::FUNCTIONS),
    ("containers", "Containers", containers::FUNCTIONS),
    ("probes", "Checks that the owner declares", probes::FUNCTIONS),
    ("data", "Data", data::FUNCTIONS),
    ("formats", "Formats of configuration and tables", formats::FUNCTIONS),
    ("logs", "Lines of logs", logs::FUNCTIONS),
    ("control", "Going on", control::FUNCTIONS),
    ("digest", "Checksums and encodings", digest::FUNCTIONS),
    ("regexes", "Regular expressions", regexes::FUNCTIONS),
    ("words", "Templates, sizes, durations, random words", words::FUNCTIONS),
    ("urls", "URLs and IP addresses", urls::FUNCTIONS),
    ("time", "Time", time::FUNCTIONS),
    ("say", "Saying things", say::FUNCTIONS),
    #[cfg(feature = "raw-syscall-door")]
    ("door", "The attacker's door", door::FUNCTIONS),
];

/// Every function, in the order of the topics.
pub fn all() -> impl Iterator<Item = &'static Function> {
    TOPICS.iter().flat_map(|(_, _, functions)| functions.iter())
}

/// The function of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

/// Every verb that functions ask for, with its noun: what the schema and the policy reference are made from.
#[must_use]
pub fn vocabulary() -> (Vec<Ask>, Vec<Noun>) {
    let mut asks: Vec<Ask> = Vec::new();
    for ask in all().flat_map(|function| function.asks) {
        if !asks.iter().any(|known| (known.namespace, known.name) == (ask.namespace, ask.name)) {
            asks.push(*ask);
        }
    }
    let mut nouns: Vec<Noun> = Vec::new();
    for noun in asks.iter().flat_map(|ask| ask.nouns) {
        if !nouns.iter().any(|known| known.name == noun.name) {
            nouns.push(*noun);
        }
    }
    (asks, nouns)
}
