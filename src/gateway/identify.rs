//! Who calls what: route, credential, customer and request id, in the contract's order.

use std::borrow::Cow;

use uuid::Uuid;

use super::headers::{declared_length, request_headers_bytes};
use super::{Headers, REQUEST_HEAD_BYTES_MAX};
use crate::caller;
use crate::config::{Config, MissingRequestId, Product};
use crate::ids::{AccountKey, CustomerId, RequestId};
use crate::problem::{Code, Problem};

/// What a call's headers say before any of its body is read.
#[derive(Debug)]
pub struct Head {
    /// The method as it was sent.
    pub method: String,
    /// The path as it was sent, without the query.
    pub path: String,
    /// What follows the `?`, where there is one.
    pub query: Option<String>,
    /// The headers, with lower-case names.
    pub headers: Headers,
}

impl Head {
    /// Splits a request target into path and query.
    #[must_use]
    pub fn new(method: String, path_and_query: &str, headers: Headers) -> Self {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (path_and_query.to_owned(), None),
        };
        Self { method, path, query, headers }
    }

    /// The values of a header.
    pub fn values<'head>(&'head self, name: &'head str) -> impl Iterator<Item = &'head [u8]> {
        self.headers.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_slice())
    }

    /// The declared length of the body, where it is declared once and as a number.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        declared_length(&self.headers).flatten()
    }

    /// Whether it is more than the runtime is sure to carry on to a backend.
    fn is_too_large(&self) -> bool {
        let target = self.path.len() + self.query.as_ref().map_or(0, String::len);
        target + request_headers_bytes(&self.headers) > REQUEST_HEAD_BYTES_MAX
    }

    /// The path and query as they were sent.
    #[must_use]
    pub fn target(&self) -> String {
        self.query.as_ref().map_or_else(|| self.path.clone(), |query| format!("{}?{query}", self.path))
    }
}

/// A call that may ask for its hold.
#[derive(Debug)]
pub struct Identified<'config> {
    /// What is called.
    pub product: &'config Product,
    /// Whose packages pay.
    pub account: AccountKey,
    /// The call's id, the caller's or a new one.
    pub request_id: RequestId,
    /// Path and query for the backend.
    pub backend_target: String,
}

/// A refusal, with the request id as far as it is known.
#[derive(Debug)]
pub struct Refused {
    /// What the caller is told.
    pub problem: Problem,
    /// The call's id.
    pub request_id: Option<RequestId>,
    /// What the operator may want to know, for the log.
    pub log: Option<String>,
}

impl Refused {
    fn new(code: Code, detail: &str) -> Self {
        Self { problem: Problem::new(code, detail), request_id: None, log: None }
    }
}

/// Checks what a call's headers say.
///
/// # Errors
/// The first refusal in the contract's order: path, route and method, credential, customer id, request id; then the size of it all.
pub fn identify<'config>(config: &'config Config, head: &Head, now_ms: i64) -> Result<Identified<'config>, Refused> {
    // A header that cannot be read back as one id is not echoed either.
    let known_id = single_id(head, "x-request-id").ok().flatten();
    identify_in_order(config, head, now_ms).map_err(|refused| Refused { request_id: known_id, ..refused })
}

fn identify_in_order<'config>(config: &'config Config, head: &Head, now_ms: i64) -> Result<Identified<'config>, Refused> {
    if has_dot_segment(&head.path) {
        return Err(Refused::new(Code::PathInvalid, "A path must not contain dot segments, encoded or not."));
    }
    let Some((product, below)) = config.route(&head.path) else {
        return Err(Refused::new(Code::NoRoute, "No product is sold at this path."));
    };
    // A reply to it that succeeds has no body and ends no message (RFC 9110, 9.3.6).
    if head.method == "CONNECT" {
        return Err(Refused::new(Code::MethodNotAllowed, "No product is a tunnel."));
    }
    authenticate(product, head, now_ms)?;
    let customer_id = match single_value(head, "x-customer-id").map(|value| value.map(CustomerId::new)) {
        Ok(Some(Ok(id))) => id,
        Ok(None) => return Err(Refused::new(Code::CustomerIdMissing, "Send the customer's id as X-Customer-Id.")),
        Ok(Some(Err(_))) | Err(NotSingle) => {
            let detail = "X-Customer-Id must be sent once, as 1 to 128 visible ASCII characters.";
            return Err(Refused::new(Code::CustomerIdInvalid, detail));
        }
    };
    let request_id = match single_id(head, "x-request-id") {
        Ok(Some(id)) => id,
        Ok(None) => generated_id(config)?,
        Err(NotSingle) => {
            let detail = "X-Request-Id must be sent once, as 1 to 128 visible ASCII characters.";
            return Err(Refused::new(Code::RequestIdInvalid, detail));
        }
    };
    if head.is_too_large() {
        return Err(Refused::new(Code::HeadersTooLarge, "Path, query and headers must not exceed 60 KiB together."));
    }
    let account = AccountKey { customer_id, product_id: product.id.clone() };
    Ok(Identified { product, account, request_id, backend_target: backend_target(product, below, head.query.as_deref()) })
}

fn authenticate(product: &Product, head: &Head, now_ms: i64) -> Result<(), Refused> {
    let Some(header) = product.caller.header() else { return Ok(()) };
    let values: Vec<&[u8]> = head.values(header).collect();
    caller::authenticate(&product.caller, &values, now_ms).map_err(|reason| Refused {
        log: Some(format!("caller of {} not authenticated: {reason}", product.id)),
        ..Refused::new(Code::CallerUnauthenticated, "Send the credential that this product asks for.")
    })
}

fn generated_id(config: &Config) -> Result<RequestId, Refused> {
    match config.gateway.missing_request_id {
        MissingRequestId::Reject => Err(Refused::new(Code::RequestIdMissing, "Send a request id as X-Request-Id.")),
        MissingRequestId::Generate => {
            let mut buffer = Uuid::encode_buffer();
            RequestId::new(Uuid::now_v7().as_hyphenated().encode_lower(&mut buffer))
                .map_err(|_| Refused::new(Code::Internal, "The gateway could not make a request id."))
        }
    }
}

/// A header that was sent more than once, or is no text.
struct NotSingle;

fn single_value<'head>(head: &'head Head, name: &'head str) -> Result<Option<&'head str>, NotSingle> {
    let mut values = head.values(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => std::str::from_utf8(value).map(Some).map_err(|_| NotSingle),
        (Some(_), Some(_)) => Err(NotSingle),
    }
}

fn single_id(head: &Head, name: &str) -> Result<Option<RequestId>, NotSingle> {
    single_value(head, name)?.map(RequestId::new).transpose().map_err(|_| NotSingle)
}

/// True where a segment is `.` or `..` once it is decoded: a backend could leave the route by it. A backslash and an encoded slash count as slashes, and
/// what follows a semicolon does not count, as it is with some backends.
fn has_dot_segment(path: &str) -> bool {
    if !path.contains(['.', '%']) {
        return false;
    }
    let decoded: Cow<'_, str> = if path.contains('%') { decoded_separators(path).into() } else { path.into() };
    let name = |segment: &str| segment.split_once(';').map_or(segment.to_owned(), |(name, _)| name.to_owned());
    decoded.split(['/', '\\']).map(name).any(|segment| segment == "." || segment == "..")
}

fn decoded_separators(path: &str) -> String {
    [("%2e", "."), ("%2f", "/"), ("%5c", "\\"), ("%3b", ";")]
        .iter()
        .fold(path.to_ascii_lowercase(), |path, (encoded, plain)| path.replace(encoded, plain))
}

fn backend_target(product: &Product, below: &str, query: Option<&str>) -> String {
    let prefix = &product.backend.path_prefix;
    let mut target = String::with_capacity(prefix.len() + below.len() + query.map_or(0, |query| query.len() + 1) + 1);
    target.push_str(prefix);
    target.push_str(below);
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::has_dot_segment;

    #[test]
    fn dot_segments_are_found_however_they_are_encoded() {
        for path in [
            "/a/../b",
            "/a/./b",
            "/..",
            "/a/%2e%2e/b",
            "/a/%2E./b",
            "/a/.%2e",
            "/a\\..\\b",
            "/a%5c..%5Cb",
            "/%2e",
            "/a/..%2fb",
            "/a%2f..",
            "/..;/a",
            "/..%3bx/a",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in ["/", "/a.b/c", "/...", "/a/..b", "/%2e%2ea", "/a%2fb", "/%252e%252e/", "/a;..", "/a..;b"] {
            assert!(!has_dot_segment(path), "{path}");
        }
    }
}
