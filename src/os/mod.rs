//! What rex itself needs of the kernel before any script is known: files of the host's owner, credentials, names, a clean start.

pub mod descriptors;
pub mod secret;
pub mod trusted;
