//! What rex itself needs of the kernel before any script is known: files of the host's owner, credentials, names, a clean start.

pub mod cache;
pub mod denials;
pub mod descriptors;
pub mod digest;
pub mod facts;
pub mod history;
pub mod inetd;
pub mod install;
pub mod login;
pub mod packed;
pub mod places;
pub mod private;
pub mod program;
pub mod process;
pub mod replace;
pub mod rights;
pub mod runs;
pub mod script;
pub mod secret;
pub mod shared;
pub mod swap;
pub mod terminal;
pub mod trusted;
