//! Why a caller was not let through.

use std::fmt;

use crate::problem::{Code, Problem};

/// Why a caller was not let through. The caller causes every one of them; trying again helps with another credential only, except where said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No credential, or an empty one.
    Absent,
    /// The header came more than once.
    Repeated,
    /// Longer than any credential.
    TooLong,
    /// Not the expected text: no shared secret.
    SecretWrong,
    /// Not a JWT of one JSON object each for header and payload, or with members of the wrong type.
    TokenMalformed,
    /// Not signed with HS256, whatever else it claims.
    AlgorithmRefused,
    /// A `sign_type` other than `SIGN`.
    SignTypeRefused,
    /// An extension is critical, and none is known here.
    ExtensionCritical,
    /// No key is called what `api_key` says.
    KeyUnknown,
    /// Not signed with the key it names.
    SignatureWrong,
    /// Neither `exp` nor `timestamp` says until when it is good.
    TimeMissing,
    /// It was good once. A caller whose clock is slow causes it too.
    Expired,
    /// It is from the future. A caller whose clock is fast causes it too, and the same token may be good later.
    NotYetValid,
}

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "no credential",
            Self::Repeated => "more than one credential",
            Self::TooLong => "the credential is too long",
            Self::SecretWrong => "not the shared secret",
            Self::TokenMalformed => "not a well-formed token",
            Self::AlgorithmRefused => "the token's alg is not HS256",
            Self::SignTypeRefused => "the token's sign_type is not SIGN",
            Self::ExtensionCritical => "the token has a critical extension",
            Self::KeyUnknown => "the token's api_key is not known",
            Self::SignatureWrong => "the token's signature is wrong",
            Self::TimeMissing => "the token has neither exp nor timestamp",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is from the future",
        })
    }
}

impl std::error::Error for Unauthenticated {}

impl From<Unauthenticated> for Problem {
    /// One problem for every reason: which part was wrong helps only those who guess.
    fn from(_: Unauthenticated) -> Self {
        Self::new(Code::CallerUnauthenticated, "Send one credential that this product accepts and that is valid now.")
    }
}
