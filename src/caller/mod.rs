//! Who is calling: the credential of one call against the policy of its product.
//!
//! What always holds: a credential that is not wholly right is refused, what is secret is compared in constant time, and no secret and no token leaves
//! this room. The border: the values of one header and the time in, yes or a typed no out; finding the header and answering the caller is the gateway's.

mod error;
mod policy;
mod token;

pub use error::Unauthenticated;
pub use policy::{AgentsKey, CallerPolicy};

/// The longest credential, in bytes.
pub const CREDENTIAL_LENGTH_MAX: usize = 8 * 1024;

/// Whether the caller may call. `values` are all the values of the policy's header, in the order they came; `now_ms` is the Unix time.
///
/// # Errors
/// Why not, for the log. The caller reads the same [`crate::problem::Problem`] for all of it.
pub fn authenticate<V: AsRef<[u8]>>(policy: &CallerPolicy, values: &[V], now_ms: i64) -> Result<(), Unauthenticated> {
    match policy {
        CallerPolicy::None => Ok(()),
        CallerPolicy::SharedSecret { secret, .. } => {
            if secret.matches(only_value(values)?) {
                Ok(())
            } else {
                Err(Unauthenticated::SecretWrong)
            }
        }
        CallerPolicy::AgentsJwt { keys, .. } => token::check(keys, without_scheme(only_value(values)?), now_ms),
    }
}

/// The one value: of two, nobody could say which one another reader of the call goes by.
fn only_value<V: AsRef<[u8]>>(values: &[V]) -> Result<&[u8], Unauthenticated> {
    let value = match values {
        [] => return Err(Unauthenticated::Absent),
        [value] => value.as_ref().trim_ascii(),
        _ => return Err(Unauthenticated::Repeated),
    };
    match value.len() {
        0 => Err(Unauthenticated::Absent),
        1..=CREDENTIAL_LENGTH_MAX => Ok(value),
        _ => Err(Unauthenticated::TooLong),
    }
}

/// A token without the `Bearer ` that may precede it.
fn without_scheme(value: &[u8]) -> &[u8] {
    match value.split_at_checked(b"Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token.trim_ascii_start(),
        _ => value,
    }
}

#[cfg(test)]
mod tests;
