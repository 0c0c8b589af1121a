//! The reader against journal files that systemd-journald and systemd-journal-remote wrote, and against damaged ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
