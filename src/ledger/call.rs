//! One call as the ledger sees it: its claim on a request id, its hold, and how it ended.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ids::RequestId;
use crate::quantity::Quantity;

/// What a request was, so that another request under the same id is noticed: a digest of method, path, query and, where it is known before
/// admission, the body (contract section 3, once per request id).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of a request. `path_and_query` as it arrived; `body` where it was read before admission.
    #[must_use]
    pub fn of(method: &str, path_and_query: &str, body: Option<&[u8]>) -> Self {
        let mut digest = Sha256::new();
        // Lengths first, so that no two different requests give the same bytes.
        digest.update((method.len() as u64).to_le_bytes());
        digest.update(method);
        digest.update((path_and_query.len() as u64).to_le_bytes());
        digest.update(path_and_query);
        if let Some(body) = body {
            digest.update([1]);
            digest.update(Sha256::digest(body));
        }
        let full: [u8; 32] = digest.finalize().into();
        let mut short = [0; 16];
        short.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        Self(short)
    }

    /// As 32 hexadecimal digits, as stores keep it.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.0))
    }

    /// From 32 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| plain)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Its hold reserves; it may be on its way.
    Held,
    /// It was charged.
    Settled,
    /// It was not charged; its request id is as new.
    Released,
}

/// How much of which package a call holds or was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// The package's number in the account.
    pub package_number: u32,
    /// How much of it.
    pub quantity: Quantity,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, unique in the account.
    pub request_id: RequestId,
    /// What was requested.
    pub fingerprint: Fingerprint,
    /// How often this id was admitted after having been released, from 1. A settle names its attempt, so that one that was given up on cannot
    /// end its successor.
    pub attempt: u32,
    /// How far it is.
    pub state: CallState,
    /// What it reserved when it was admitted.
    pub hold: Quantity,
    /// What it reserves (held), was charged (settled), or had reserved when it was lost (released) of which package.
    pub legs: Vec<Leg>,
    /// What it was charged of packages. Refunds do not change it.
    pub charge: Quantity,
    /// What was given back by people.
    pub refunded: Quantity,
    /// What it cost beyond every package.
    pub overrun: Quantity,
    /// Its lease ended unrenewed.
    pub lost: bool,
    /// It was ended by its own settle, after which no other settle changes it.
    pub is_final: bool,
    /// Its reply said no usage and it was charged its hold.
    pub usage_missing: bool,
    /// How often it was forwarded again without charge.
    pub replays: u32,
    /// The HTTP status the backend answered with, once known.
    pub status: Option<u16>,
    /// Unix milliseconds of this attempt's admission.
    pub created_at_ms: i64,
    /// Unix milliseconds of its end.
    pub settled_at_ms: Option<i64>,
    /// Unix milliseconds at which its hold is lost unless renewed.
    pub lease_ends_ms: i64,
    /// The entry of this attempt's hold: calls are listed in its order.
    pub hold_seq: u64,
    /// Names the claim that was admitted last, of this attempt or of a replay.
    pub idempotency_key: Option<u64>,
}
