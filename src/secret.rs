//! Texts that only their owner may see: tokens, signing keys, passwords.
//!
//! A [`Secret`] never prints what it holds, and comparing with it takes the same time wherever the difference is. The border: holding and comparing; where a
//! secret comes from is the configuration's business.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A secret text with its digest, computed once so that a comparison hashes only what came in.
#[derive(Clone)]
pub struct Secret {
    text: String,
    digest: [u8; 32],
}

impl Secret {
    /// Takes a text as a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let digest = Sha256::digest(text.as_bytes()).into();
        Self { text, digest }
    }

    /// The secret's text, to be sent to whom it is for or used as a key, and never to be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Whether `candidate` is this secret. Digests are compared, so that the time tells neither where the two differ nor how long the secret is.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        bool::from(self.digest.ct_eq(&digest))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_matches_itself_and_nothing_else() {
        let secret = Secret::new("correct horse");
        assert!(secret.matches(b"correct horse"));
        for other in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!secret.matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn a_secret_prints_nothing_of_what_it_holds() {
        let printed = format!("{:?} {:#?}", Secret::new("hunter2"), vec![Secret::new("hunter2")]);
        assert_eq!(printed, "Secret(..) [\n    Secret(..),\n]");
    }
}
