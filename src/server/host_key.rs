//! The server's own key: ed25519, made on the first start, used only while nobody else can read it.

use std::path::Path;

use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use crate::error::{Error, Kind, Result};
use crate::os::secret::{create_secret, read_secret};

/// Bytes of a private key file.
const MAX_FILE: u64 = 64 * 1024;

/// Reads the host key, or makes one where there is none (mode 0600, missing folders 0700).
///
/// # Errors
/// [`Kind::Config`] for a key that others can read or write, a link, or anything but an unencrypted ed25519 key in OpenSSH's format;
/// the system's own error otherwise.
pub fn load_or_create(path: &Path) -> Result<PrivateKey> {
    if let Some(bytes) = read_secret(path, MAX_FILE)? {
        return parse(&bytes, path);
    }
    let mut seed = [0_u8; 32];
    fill(&mut seed)?;
    let pair = Ed25519Keypair::from_seed(&seed);
    seed.fill(0);
    let key = PrivateKey::new(KeypairData::from(pair), "rex serve").map_err(|error| internal(&error))?;
    let text = key.to_openssh(LineEnding::LF).map_err(|error| internal(&error))?;
    create_secret(path, text.as_bytes())?;
    // Read back rather than used as it is: another process may have been quicker, and the folders are judged on the way.
    match read_secret(path, MAX_FILE)? {
        Some(bytes) => parse(&bytes, path),
        None => Err(Error::new(Kind::Config, "the new host key has gone again").with_path(path.display().to_string())),
    }
}

/// `SHA256:…` of the public part.
#[must_use]
pub fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn fill(seed: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(seed.get_mut(filled..).unwrap_or_default(), rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

fn parse(bytes: &[u8], path: &Path) -> Result<PrivateKey> {
    let refused = |what: &str| Error::new(Kind::Config, what).with_path(path.display().to_string());
    let key = PrivateKey::from_openssh(bytes).map_err(|_| refused("this is no private key in the format of ssh-keygen"))?;
    if key.is_encrypted() {
        return Err(refused("the host key is encrypted; nobody is there to type its passphrase"));
    }
    if key.algorithm() != Algorithm::Ed25519 {
        return Err(refused("the host key must be of type ed25519").with_hint("ssh-keygen -t ed25519 -N '' -f FILE"));
    }
    Ok(key)
}

fn internal(error: &ssh_key::Error) -> Error {
    Error::new(Kind::Internal, format!("the host key cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_is_made_once_and_then_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/host_key");
        let first = load_or_create(&path).unwrap();
        let again = load_or_create(&path).unwrap();
        assert_eq!(fingerprint(&first), fingerprint(&again));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let other = load_or_create(&dir.path().join("other")).unwrap();
        assert_ne!(fingerprint(&first), fingerprint(&other));
    }

    #[test]
    fn a_key_that_others_can_read_and_a_file_that_is_no_key_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host_key");
        load_or_create(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(load_or_create(&path).unwrap_err().kind, Kind::Config);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        std::fs::write(&path, "nonsense").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(load_or_create(&path).unwrap_err().kind, Kind::Config);
        assert_eq!(std::fs::read(&path).unwrap(), b"nonsense");
    }
}
