//! What this host is like, for the owner's own commands (`rex setup`, `rex doctor`): its sshd, accounts, PAM, kernel. It reads; nothing is changed here.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod kernel;
pub mod keys;
pub mod pam;
pub mod sshd;
pub mod sshd_text;
