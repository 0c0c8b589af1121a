//! Whatever is in rex.toml and principals.toml: nothing panics, and every error is one of configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexsh::config::Config;
use rexsh::error::Kind;
use rexsh::identity::Principals;
use std::path::Path;

fuzz_target!(|text: &str| {
    if let Err(error) = Config::parse(text, Path::new("/etc/rex/rex.toml")) {
        assert_eq!(error.kind, Kind::Config);
    }
    if let Err(error) = Principals::parse(text, "principals.toml") {
        assert_eq!(error.kind, Kind::Config);
    }
});
