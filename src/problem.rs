//! What a refused caller reads: RFC 9457 problem documents.
//!
//! [`Code`] is the closed list of reasons that leave the process (contract sections 2 and 5). A problem says what the caller did and can do; it never carries
//! an inner error's text. The border: building the document. Who refuses, and why, is decided elsewhere.

use std::fmt::Display;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Why something was refused, as the member `code` and the end of `type` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is a code of the contract's table, and its title says it in words")]
pub enum Code {
    CustomerIdMissing,
    CustomerIdInvalid,
    RequestIdMissing,
    RequestIdInvalid,
    PathInvalid,
    CallerUnauthenticated,
    PackageExhausted,
    PackageExpired,
    PackageFrozen,
    NoPackage,
    NoRoute,
    RequestInFlight,
    RequestReplayed,
    BodyTooLarge,
    HeadersTooLarge,
    RequestIdReused,
    BackendUnreachable,
    BackendTimeout,
    LedgerUnavailable,
    Overloaded,
    ConfigInvalid,
    Internal,
    NotFound,
    Invalid,
    Conflict,
    Unauthorized,
    MethodNotAllowed,
    RequestTimeout,
}

impl Code {
    /// The code's text, its HTTP status (a product may choose another for exhausted and expired packages) and its title.
    #[must_use]
    pub const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::CustomerIdMissing => ("customer_id_missing", 400, "X-Customer-Id is missing"),
            Self::CustomerIdInvalid => ("customer_id_invalid", 400, "X-Customer-Id is not an id"),
            Self::RequestIdMissing => ("request_id_missing", 400, "X-Request-Id is missing"),
            Self::RequestIdInvalid => ("request_id_invalid", 400, "X-Request-Id is not an id"),
            Self::PathInvalid => ("path_invalid", 400, "The path cannot be forwarded"),
            Self::CallerUnauthenticated => ("caller_unauthenticated", 401, "The caller's credential was not accepted"),
            Self::PackageExhausted => ("package_exhausted", 402, "The package is used up"),
            Self::PackageExpired => ("package_expired", 402, "Every package has expired"),
            Self::PackageFrozen => ("package_frozen", 403, "The package is frozen"),
            Self::NoPackage => ("no_package", 403, "There is no package to pay from"),
            Self::NoRoute => ("no_route", 404, "No product is sold at this path"),
            Self::RequestInFlight => ("request_in_flight", 409, "A call with this request id is running"),
            Self::RequestReplayed => ("request_replayed", 409, "This request id was already answered"),
            Self::BodyTooLarge => ("body_too_large", 413, "The request body is too large"),
            Self::HeadersTooLarge => ("headers_too_large", 431, "The request's headers are too large"),
            Self::RequestIdReused => ("request_id_reused", 422, "This request id belongs to another request"),
            Self::BackendUnreachable => ("backend_unreachable", 502, "The backend could not be reached"),
            Self::BackendTimeout => ("backend_timeout", 504, "The backend did not answer in time"),
            Self::LedgerUnavailable => ("ledger_unavailable", 503, "The ledger cannot be written now"),
            Self::Overloaded => ("overloaded", 503, "The gateway has as many calls as it can take"),
            Self::ConfigInvalid => ("config_invalid", 503, "The gateway is not configured"),
            Self::Internal => ("internal", 500, "The gateway failed"),
            Self::NotFound => ("not_found", 404, "There is no such thing"),
            Self::Invalid => ("invalid", 400, "The request is not valid"),
            Self::Conflict => ("conflict", 409, "The request conflicts with what is there"),
            Self::Unauthorized => ("unauthorized", 401, "A valid bearer token is needed"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "This method is not available here"),
            Self::RequestTimeout => ("request_timeout", 408, "The request body did not arrive in time"),
        }
    }

    /// The code's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }
}

/// One refusal, ready to be sent as `application/problem+json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The reason.
    pub code: Code,
    /// The HTTP status.
    pub status: u16,
    /// What this caller did or can do, in one sentence.
    pub detail: String,
    /// Further members, such as `needed` and `available`.
    pub members: Vec<(&'static str, String)>,
    /// Seconds after which trying again makes sense, for `Retry-After`.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem with its code's own status.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, status: code.row().1, detail: detail.into(), members: Vec::new(), retry_after_s: None }
    }

    /// With another status than its code's own: a product's `exhausted_status`, or a narrower one.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With one more member, a string.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: &impl Display) -> Self {
        self.members.push((name, value.to_string()));
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub fn with_retry_after_s(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The JSON document. `request_id` is `null` where none is known.
    #[must_use]
    pub fn to_json(&self, request_id: Option<&str>) -> String {
        // Strings and a number: nothing of it can fail to serialize.
        serde_json::to_string(&Document { problem: self, request_id }).unwrap_or_default()
    }
}

/// A problem as it is sent.
struct Document<'a> {
    problem: &'a Problem,
    request_id: Option<&'a str>,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Problem { code, status, detail, members, .. } = self.problem;
        let (code, _, title) = code.row();
        let mut document = serializer.serialize_map(None)?;
        document.serialize_entry("type", &format!("urn:tollgate:problem:{code}"))?;
        document.serialize_entry("title", title)?;
        document.serialize_entry("status", status)?;
        document.serialize_entry("detail", detail)?;
        document.serialize_entry("code", code)?;
        document.serialize_entry("request_id", &self.request_id)?;
        for (name, value) in members {
            document.serialize_entry(name, value)?;
        }
        document.end()
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Problem};

    #[test]
    fn a_problem_document_has_the_members_of_the_contract() {
        let problem = Problem::new(Code::PackageExhausted, "Buy another package.").with_status(429).with_member("needed", &"1");
        let document: serde_json::Value = serde_json::from_str(&problem.to_json(Some("r-1"))).unwrap();
        assert_eq!(document["type"], "urn:tollgate:problem:package_exhausted");
        assert_eq!(document["status"], 429);
        assert_eq!(document["code"], "package_exhausted");
        assert_eq!(document["request_id"], "r-1");
        assert_eq!(document["needed"], "1");
        assert!(document["title"].is_string() && document["detail"].is_string());
    }
}
