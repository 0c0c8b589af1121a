//! The script API: one file per topic; the folder listing is its contents page.

pub mod convert;
pub mod data;
pub mod datetime;
pub mod dir;
pub mod file_read;
pub mod file_stat;
pub mod file_write;
pub mod function;
pub mod handle;
pub mod machine;
pub mod manual;
pub mod processes;
pub mod say;
pub mod search;
pub mod text_stats;
pub mod time;
pub mod value;

use function::Function;

/// Every topic: its name, what it is about, and its functions.
pub const TOPICS: &[(&str, &str, &[Function])] = &[
    ("file_read", "Looking into files", file_read::FUNCTIONS),
    ("file_write", "Writing files", file_write::FUNCTIONS),
    ("handle", "Open files", handle::FUNCTIONS),
    ("file_stat", "What files are", file_stat::FUNCTIONS),
    ("dir", "Directories", dir::FUNCTIONS),
    ("search", "Searching in files", search::FUNCTIONS),
    ("text_stats", "Beginnings, ends and counts of files", text_stats::FUNCTIONS),
    ("processes", "Processes", processes::FUNCTIONS),
    ("machine", "The machine", machine::FUNCTIONS),
    ("data", "Data", data::FUNCTIONS),
    ("time", "Time", time::FUNCTIONS),
    ("say", "Saying things", say::FUNCTIONS),
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
