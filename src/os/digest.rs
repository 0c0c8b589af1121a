//! SHA-256, for digests of scripts.

use sha2::{Digest, Sha256};

#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// In hex.
#[must_use]
pub fn hex_sha256(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
