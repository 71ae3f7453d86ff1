//! What of a call's headers goes on, in each direction (contract section 2).

use super::identify::{Head, Identified};
use super::refusal::RateLimit;
use super::{Headers, Outcome};

/// Headers of one connection (RFC 9110, 7.6.1), which go neither way.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that Spin adds to what a component receives.
const SPIN: [&str; 7] = [
    "spin-base-path",
    "spin-client-addr",
    "spin-component-route",
    "spin-full-url",
    "spin-matched-route",
    "spin-path-info",
    "spin-raw-component-route",
];

/// The size of a request's headers, without those that Spin adds.
pub(super) fn request_headers_bytes(headers: &Headers) -> usize {
    headers.iter().filter(|(name, _)| !SPIN.contains(&name.as_str())).map(header_bytes).sum()
}

/// The size of a header.
pub(super) fn header_bytes((name, value): &(String, Vec<u8>)) -> usize {
    name.len() + value.len()
}

/// The declared length of a body, where one is declared. None where it is declared twice, or is no number.
pub(super) fn declared_length(headers: &Headers) -> Option<Option<u64>> {
    let mut values = headers.iter().filter(|(name, _)| name == "content-length");
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some((_, digits)), None) if digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok()?.parse().ok().map(Some)
        }
        _ => None,
    }
}

/// What `Connection` nominates for one connection alone, in lower case: nothing where the runtime takes it off before an edge sees it, as Spin does.
fn nominated(headers: &Headers) -> Vec<String> {
    let values = headers.iter().filter(|(name, _)| name == "connection");
    let text = values.map(|(_, value)| String::from_utf8_lossy(value).to_ascii_lowercase()).collect::<Vec<_>>().join(",");
    text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// What the backend gets: the caller's end-to-end headers without the credential, the ids as they were understood, and the product's own headers. Of a
/// usage-metered product the body is whole, and of `metered_body_bytes` as it is forwarded; its reply is asked for as the meter reads it.
#[must_use]
pub fn backend_headers(head: &Head, identified: &Identified<'_>, metered_body_bytes: Option<usize>) -> Headers {
    let product = identified.product;
    let credential = product.caller.header();
    let is_replaced = |name: &str| product.backend_headers.iter().any(|(other, _)| other == name);
    let nominated = nominated(&head.headers);
    let is_set_by_meter = |name: &str| metered_body_bytes.is_some() && matches!(name, "accept-encoding" | "content-length");
    let goes_on = |name: &str| {
        !HOP_BY_HOP.contains(&name)
            && !SPIN.contains(&name)
            && !matches!(name, "host" | "expect" | "x-request-id" | "x-customer-id")
            && !is_set_by_meter(name)
            && credential != Some(name)
            && !nominated.iter().any(|other| other == name)
            && !is_replaced(name)
    };
    let mut headers: Headers = head.headers.iter().filter(|(name, _)| goes_on(name)).cloned().collect();
    headers.push(("x-request-id".to_owned(), identified.request_id.as_str().into()));
    headers.push(("x-customer-id".to_owned(), identified.account.customer_id.as_str().into()));
    if let Some(length) = metered_body_bytes {
        headers.push(("accept-encoding".to_owned(), b"identity".to_vec()));
        if length > 0 || head.content_length().is_some() {
            headers.push(("content-length".to_owned(), length.to_string().into_bytes()));
        }
    }
    // A reply to TRACE says what was sent (RFC 9110, 9.3.8), and these are secrets. Not every backend minds how it is written.
    let are_sent = !head.method.eq_ignore_ascii_case("TRACE");
    for (name, value) in product.backend_headers.iter().filter(|_| are_sent) {
        headers.push((name.clone(), value.expose().into()));
    }
    headers
}

/// Takes away what is said of a body that the caller gets otherwise than the backend sent it: its length, and what identifies or proves its bytes
/// (RFC 9110, 8.8.3; RFC 9530).
pub fn forget_bytes(from_backend: &mut Headers) {
    const OF_BYTES: [&str; 6] = ["content-digest", "content-length", "content-md5", "digest", "etag", "repr-digest"];
    from_backend.retain(|(name, _)| !OF_BYTES.contains(&name.as_str()));
}

/// What the caller gets: the backend's end-to-end headers, with the gateway's in place of the backend's own. `outcome` where the charge is known with
/// the headers.
#[must_use]
pub fn reply_headers(
    from_backend: Headers,
    identified: &Identified<'_>,
    outcome: Option<Outcome>,
    rate_limit: Option<RateLimit>,
) -> Headers {
    let nominated = nominated(&from_backend);
    let goes_on = |name: &str| {
        !HOP_BY_HOP.contains(&name)
            && !nominated.iter().any(|other| other == name)
            && !matches!(name, "x-request-id" | "ratelimit" | "ratelimit-policy")
            && !name.starts_with("tollgate-")
    };
    let mut headers = from_backend;
    headers.retain(|(name, _)| goes_on(name));
    headers.push(("x-request-id".to_owned(), identified.request_id.as_str().into()));
    if let Some(outcome) = outcome {
        headers.push(("tollgate-charge".to_owned(), outcome.charge().to_string().into_bytes()));
    }
    if outcome == Some(Outcome::Replayed) {
        headers.push(("tollgate-replay".to_owned(), b"true".to_vec()));
    }
    if let Some(rate_limit) = rate_limit {
        headers.extend(rate_limit.headers());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::backend_headers;
    use crate::config;
    use crate::gateway::{Head, identify};

    #[test]
    fn a_backends_secrets_are_not_sent_with_a_request_whose_reply_tells_them() {
        let text = "[gateway]\nadmin_token = { secret = \"t\" }\n[[product]]\nid = \"p\"\nroute = \"/p\"\nbackend = \"http://127.0.0.1:1\"\n\
                    caller = { kind = \"none\" }\nbackend_headers = { authorization = { secret = \"t\" } }";
        let config = config::check(text, &|_| Some("secret-of-the-backend".to_owned())).unwrap();
        for (method, sent) in [("GET", 1), ("TRACE", 0), ("trace", 0)] {
            let headers = [("x-customer-id", "c"), ("authorization", "the caller's own")];
            let headers = headers.map(|(name, value)| (name.to_owned(), value.into())).to_vec();
            let head = Head::new(method.to_owned(), "/p/x", headers);
            let identified = identify(&config, &head, 0).unwrap();
            let headers = backend_headers(&head, &identified, None);
            assert_eq!(headers.iter().filter(|(name, _)| name == "authorization").count(), sent, "{method}");
        }
    }
}
