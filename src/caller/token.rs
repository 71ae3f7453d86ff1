//! The agents gateway's token: a JWT signed with HS256.
//!
//! What always holds: the algorithm is fixed here and never taken from the token, and nothing the token says is believed before its signature was found
//! right, except which key to check it with.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, Visitor};

use super::error::Unauthenticated;
use super::policy::AgentsKey;

/// How far the caller's clock may be from this one, each way.
const CLOCK_SKEW_MS: i64 = 60_000;

/// How long a token without `exp` is good from its `timestamp` on.
const LIFETIME_MS: i64 = 5 * 60_000;

/// From here on an `exp` counts milliseconds: as seconds it would be the year 5138, and as milliseconds what is below is before March 1973.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// The length of an HMAC-SHA256.
const SIGNATURE_LENGTH: usize = 32;

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, default)]
    alg: Cow<'a, str>,
    /// The marketplace always sets it; a JWT library used without it still signs the same way.
    #[serde(borrow, default = "sign")]
    sign_type: Cow<'a, str>,
    crit: Option<IgnoredAny>,
}

const fn sign<'a>() -> Cow<'a, str> {
    Cow::Borrowed("SIGN")
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    api_key: Cow<'a, str>,
    timestamp: Option<Instant>,
    exp: Option<Instant>,
    iat: Option<Instant>,
    nbf: Option<Instant>,
}

/// Checks a token against the keys of a product.
pub(super) fn check(keys: &[AgentsKey], token: &[u8], now_ms: i64) -> Result<(), Unauthenticated> {
    let token = std::str::from_utf8(token).map_err(|_| Unauthenticated::TokenMalformed)?;
    let (signed, signature) = token.rsplit_once('.').ok_or(Unauthenticated::TokenMalformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Unauthenticated::TokenMalformed)?;

    let mut buffer = Vec::with_capacity(token.len());
    let header: Header<'_> = parse(header, &mut buffer)?;
    if header.alg != "HS256" {
        return Err(Unauthenticated::AlgorithmRefused);
    }
    if header.sign_type != "SIGN" {
        return Err(Unauthenticated::SignTypeRefused);
    }
    if header.crit.is_some() {
        return Err(Unauthenticated::ExtensionCritical);
    }

    let payload: Payload<'_> = parse(payload, &mut buffer)?;
    let key = keys.iter().find(|key| key.access_key() == payload.api_key).ok_or(Unauthenticated::KeyUnknown)?;
    if !key.verifies(signed.as_bytes(), &decoded_signature(signature)?) {
        return Err(Unauthenticated::SignatureWrong);
    }
    check_times(&payload, now_ms)
}

fn check_times(payload: &Payload<'_>, now_ms: i64) -> Result<(), Unauthenticated> {
    let timestamp_ms = payload.timestamp.as_ref().map(|timestamp| timestamp.0);
    let expires_at_ms = match (&payload.exp, timestamp_ms) {
        (Some(exp), _) => exp.numeric_date_ms(),
        (None, Some(timestamp_ms)) => timestamp_ms.saturating_add(LIFETIME_MS),
        (None, None) => return Err(Unauthenticated::TimeMissing),
    };
    if now_ms >= expires_at_ms.saturating_add(CLOCK_SKEW_MS) {
        return Err(Unauthenticated::Expired);
    }
    let starts =
        [timestamp_ms, payload.iat.as_ref().map(Instant::numeric_date_ms), payload.nbf.as_ref().map(Instant::numeric_date_ms)];
    if starts.into_iter().flatten().any(|start_ms| start_ms > now_ms.saturating_add(CLOCK_SKEW_MS)) {
        return Err(Unauthenticated::NotYetValid);
    }
    Ok(())
}

/// Decodes one part of the token into `buffer` and reads it as a JSON object. A member that is read and comes twice is an error.
fn parse<'b, T: Deserialize<'b>>(part: &str, buffer: &'b mut Vec<u8>) -> Result<T, Unauthenticated> {
    buffer.clear();
    URL_SAFE_NO_PAD.decode_vec(part, buffer).map_err(|_| Unauthenticated::TokenMalformed)?;
    // An array would be read as the members in the order they are declared.
    if buffer.trim_ascii_start().first() != Some(&b'{') {
        return Err(Unauthenticated::TokenMalformed);
    }
    serde_json::from_slice(buffer).map_err(|_| Unauthenticated::TokenMalformed)
}

fn decoded_signature(text: &str) -> Result<[u8; SIGNATURE_LENGTH], Unauthenticated> {
    // The decoder wants room for whole groups of four characters.
    let mut bytes = [0; SIGNATURE_LENGTH + 1];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| Unauthenticated::TokenMalformed)?;
    bytes.get(..length).and_then(|bytes| bytes.try_into().ok()).ok_or(Unauthenticated::TokenMalformed)
}

/// A number that stands for a time, without its fraction.
struct Instant(i64);

impl Instant {
    /// As a JWT's date: seconds, or milliseconds where seconds cannot be meant.
    const fn numeric_date_ms(&self) -> i64 {
        if self.0 >= MILLISECONDS_FROM { self.0 } else { self.0.saturating_mul(1_000) }
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Instant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Instant, E> {
                Ok(Instant(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Instant, E> {
                Ok(Instant(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Instant, E> {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the fraction is not needed, and the conversion stops at the ends of the range"
                )]
                Ok(Instant(number as i64))
            }
        }

        deserializer.deserialize_any(Number)
    }
}
