//! The script API: one file per topic; the folder listing is its contents page.

pub mod convert;
pub mod data;
pub mod datetime;
pub mod dir;
pub mod file_read;
pub mod file_stat;
pub mod function;
pub mod say;
pub mod service;
pub mod time;
pub mod value;

use function::Function;

/// Every topic: its name, what it is about, and its functions.
pub const TOPICS: &[(&str, &str, &[Function])] = &[
    ("file_read", "Looking into files", file_read::FUNCTIONS),
    ("file_stat", "What files are", file_stat::FUNCTIONS),
    ("dir", "Directories", dir::FUNCTIONS),
    ("service", "Services", service::FUNCTIONS),
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
