//! What a product demands of a caller, with everything computed once that does not depend on the call.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// How a product knows its caller. Header names are lower case.
#[derive(Debug)]
pub enum CallerPolicy {
    /// The marketplace's agents gateway signs a JWT with one of these keys.
    AgentsJwt {
        /// The header that carries the token.
        header: String,
        /// The keys, told apart by their access key.
        keys: Vec<AgentsKey>,
    },
    /// The caller sends a text that only it and the merchant know.
    SharedSecret {
        /// The header that carries it.
        header: String,
        /// The text.
        secret: Secret,
    },
    /// Everyone is let through: loopback and tests.
    None,
}

impl CallerPolicy {
    /// The header that carries the credential, in lower case: read here, and never forwarded.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::AgentsJwt { header, .. } | Self::SharedSecret { header, .. } => Some(header),
            Self::None => None,
        }
    }
}

/// A key that signs tokens: its public name, and the state of HMAC-SHA256 after the secret key was read.
pub struct AgentsKey {
    access_key: String,
    mac: Hmac<Sha256>,
}

impl AgentsKey {
    /// Prepares a key.
    #[must_use]
    pub fn new(access_key: impl Into<String>, secret_key: &Secret) -> Self {
        Self { access_key: access_key.into(), mac: keyed(secret_key.expose().as_bytes()) }
    }

    /// The key's public name, as `api_key` names it.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Whether `signature` is this key's HMAC-SHA256 of `signed`, in constant time.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let mut mac = self.mac.clone();
        mac.update(signed);
        mac.verify_slice(signature).is_ok()
    }
}

fn keyed(secret_key: &[u8]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length, so that the length error cannot occur")]
    Hmac::new_from_slice(secret_key).expect("a key of any length")
}

impl fmt::Debug for AgentsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentsKey").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}
