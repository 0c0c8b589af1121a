//! rex: policy-gated script execution over the SSH that is already there. The modules, in the order of one run's flow:

// What can go wrong: kinds, classes, exit codes.
pub mod error;
// Limits of a run and the watch that holds them.
pub mod limits;
// What rex itself needs of the kernel: the owner's files, credentials, descriptors.
pub mod os;
// What is asked: argv and the request become an Invocation. Pure.
pub mod invocation;
// Who asks: kernel credentials, sshd's key or certificate, principals.toml.
pub mod identity;
// On what terms: one row per setting.
pub mod config;
// What is remembered: one record per decision and per run, before the act.
pub mod audit;
// What a run says while it runs.
pub mod output;
// What is allowed: load, slice, gate.
pub mod policy;
// The nouns of the policy language: located, pinned, described.
pub mod resource;
// After the gate: what the kernel is made to do.
pub mod sys;
// The script API: one file per topic.
pub mod functions;
// The script runs.
pub mod engine;
// What comes back.
pub mod report;
// The terms of a run, found out in order.
pub mod terms;
// One run on one page.
pub mod run;
// A session at a prompt: another face of the same run.
pub mod repl;
// `rex serve`: the embedded SSH server.
pub mod server;
// What this host is like: its sshd, accounts, PAM, kernel.
pub mod host;
// `rex doctor`: a table of checks over what this host really is.
pub mod doctor;
// `rex setup`: what this host needs for rex, in steps that can be taken back.
pub mod setup;
// The way in: sessions and the owner's commands.
pub mod command;
