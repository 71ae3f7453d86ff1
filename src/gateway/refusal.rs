//! What a customer is told who cannot pay, or whose request id cannot be used.

use super::Headers;
use crate::config::Product;
use crate::ids::ProductId;
use crate::ledger::{Balance, Refusal};
use crate::problem::{Code, Problem};

/// The quota of a reply (draft-ietf-httpapi-ratelimit-headers-10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    product_id: ProductId,
    granted: i64,
    available: i64,
}

impl RateLimit {
    /// Of a balance, in whole units rounded down. None where the customer's use is not limited.
    #[must_use]
    pub fn new(product_id: &ProductId, balance: &Balance) -> Option<Self> {
        (!balance.is_unmetered).then(|| Self {
            product_id: product_id.clone(),
            granted: balance.granted.whole_units(),
            available: balance.available.whole_units(),
        })
    }

    /// The two header fields.
    #[must_use]
    pub fn headers(&self) -> Headers {
        // A structured field's string (RFC 9651): quotes and backslashes are escaped.
        let name = self.product_id.as_str().replace('\\', "\\\\").replace('"', "\\\"");
        vec![
            ("ratelimit-policy".to_owned(), format!("\"{name}\";q={}", self.granted).into_bytes()),
            ("ratelimit".to_owned(), format!("\"{name}\";r={}", self.available).into_bytes()),
        ]
    }
}

/// The problem of a refused admission.
#[must_use]
pub fn refusal_problem(refusal: &Refusal, product: &Product) -> Problem {
    match refusal {
        Refusal::Exhausted { needed, available } => {
            Problem::new(Code::PackageExhausted, "The customer's packages of this product are used up. Buy another one.")
                .with_status(product.exhausted_status)
                .with_member("needed", needed)
                .with_member("available", available)
                .with_member("product_id", &product.id)
        }
        Refusal::Expired => Problem::new(Code::PackageExpired, "Every package of this product has expired. Buy another one.")
            .with_status(product.exhausted_status),
        Refusal::Frozen => Problem::new(Code::PackageFrozen, "What is left of this product is frozen."),
        Refusal::NoPackage => Problem::new(Code::NoPackage, "The customer has no package of this product that has started."),
        Refusal::InFlight => {
            Problem::new(Code::RequestInFlight, "A call with this request id has not ended yet.").with_retry_after_s(1)
        }
        Refusal::Replayed => Problem::new(Code::RequestReplayed, "This request id was charged and forwarded again already."),
        Refusal::Reused => {
            Problem::new(Code::RequestIdReused, "This request id belongs to a request with another method, path, query or body.")
        }
        // Admissions are refused for the reasons above only.
        Refusal::NotFound | Refusal::Conflict(_) | Refusal::Invalid(_) => Problem::new(Code::Internal, "The gateway failed."),
    }
}
