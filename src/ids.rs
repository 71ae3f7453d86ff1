//! The names of things: customers, products, packages, calls, corrections, orders, events.
//!
//! Every id is 1 to 128 visible ASCII characters and not `.` or `..` (contract, preamble), checked once when it enters. One type a kind, so that a customer
//! is never looked up by a package's id. Nothing here knows where an id comes from.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// The longest id, in characters.
pub const ID_LENGTH_MAX: usize = 128;

/// A text that is no id: empty, too long, not visible ASCII, `.` or `..`. The sender causes it; the same text fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected 1 to 128 visible ASCII characters, other than \".\" and \"..\"")
    }
}

impl std::error::Error for InvalidId {}

fn check(text: &str) -> Result<(), InvalidId> {
    let length_fits = (1..=ID_LENGTH_MAX).contains(&text.len());
    if length_fits && text != "." && text != ".." && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(InvalidId)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and takes it as an id.
            ///
            /// # Errors
            /// [`InvalidId`] where it is none.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// Who pays: the value of `X-Customer-Id`.
    CustomerId
);
id!(
    /// What is sold: an API product of the configuration.
    ProductId
);
id!(
    /// One prepaid quantity of a product, sold to a customer.
    PackageId
);
id!(
    /// One call: the value of `X-Request-Id`, unique for a customer and product.
    RequestId
);
id!(
    /// One correction by a person: a refund of a call or an adjustment of a package. Repeating it changes nothing.
    CorrectionId
);

id!(
    /// One order of the next package, as the merchant's order hook knows it.
    RepurchaseId
);
id!(
    /// One event, as webhooks name it in `webhook-id`.
    EventId
);

impl RepurchaseId {
    /// The name of an account's order. It differs between orders, accounts and ledgers, and comes out the same however often it is asked for.
    #[must_use]
    pub fn of(key: &AccountKey, number: u32, requested_at_ms: i64) -> Self {
        Self(Arc::from(format!("rep_{}", key.digest("order", u64::from(number), requested_at_ms))))
    }
}

impl EventId {
    /// The name of an account's event. It differs between events, accounts and ledgers, and comes out the same however often it is asked for.
    #[must_use]
    pub fn of(key: &AccountKey, number: u64, at_ms: i64) -> Self {
        Self(Arc::from(format!("evt_{}", key.digest("event", number, at_ms))))
    }
}

/// Whose balance: a customer's packages of one product share one account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountKey {
    /// Who pays.
    pub customer_id: CustomerId,
    /// What is sold.
    pub product_id: ProductId,
}

impl AccountKey {
    /// 32 hexadecimal digits for one thing of an account. The time tells ledgers apart that were started anew.
    fn digest(&self, kind: &str, number: u64, at_ms: i64) -> String {
        let mut digest = Sha256::new();
        // No id has a space, so that no two different things give the same text.
        digest.update(format!("{kind} {} {} {number} {at_ms}", self.customer_id, self.product_id));
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The longest id of a marketplace's order, in characters.
pub const ORDER_ID_LENGTH_MAX: usize = 256;

/// Whether a text that people or marketplaces wrote has 1 to `length_max` characters. Of control characters it may have line ends and tabs.
#[must_use]
pub fn is_written_text(text: &str, length_max: usize) -> bool {
    let is_fine = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    !text.is_empty() && text.chars().all(is_fine) && text.chars().nth(length_max).is_none()
}

#[cfg(test)]
mod tests {
    use super::CustomerId;

    #[test]
    fn an_id_is_1_to_128_visible_ascii_characters() {
        for good in ["a", "cust_7", "!~", "...", "a/b", &"x".repeat(128)] {
            assert!(CustomerId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a b", "tab\t", "é", "\u{7f}", &"x".repeat(129)] {
            assert!(CustomerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
