//! `rex serve`, from the settings of rex.toml.

use crate::error::{Error, Kind, Result};
use crate::os::trusted::Owner;
use crate::server::{Limits, ServeSettings, serve};
use crate::terms::OwnersFiles;
use core::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Serves until told to stop; gives the exit code.
#[must_use]
pub fn run(config: Option<&Path>, listen: &[SocketAddr]) -> u8 {
    match settings(config, listen).and_then(serve) {
        Ok(()) => 0,
        Err(error) => super::local::failed(&error),
    }
}

fn settings(path: Option<&Path>, listen: &[SocketAddr]) -> Result<ServeSettings> {
    let path = path.unwrap_or(Path::new(crate::terms::CONFIG));
    let path = std::path::absolute(path).map_err(|error| Error::new(Kind::Usage, format!("--config: {error}")))?;
    let files = OwnersFiles::new(Some(&path), Owner::RootOrSelf);
    let config = files.config()?;
    let addresses = if listen.is_empty() {
        let parse =
            |text: &String| text.parse().map_err(|_| Error::new(Kind::Config, format!("serve.listen: `{text}` is no address and port")));
        config.serve.listen.iter().map(parse).collect::<Result<Vec<SocketAddr>>>()?
    } else {
        listen.to_vec()
    };
    let beside = |name: &str| -> PathBuf { config.beside(name) };
    Ok(ServeSettings {
        listen: addresses,
        host_key: beside(&config.serve.host_key),
        authorized_keys: beside(&config.serve.authorized_keys),
        config: path,
        limits: Limits {
            max_connections: config.serve.max_connections as usize,
            max_sessions: config.serve.max_sessions as usize,
            login_grace: config.serve.login_grace,
            idle_timeout: config.serve.idle_timeout,
            ..Limits::default()
        },
        session_program: None,
    })
}
