//! Headers that a message names as meant for this connection alone (RFC 9110, section 7.6.1).

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName};

/// Who is charged and for what, and where a body ends: no peer can take these out of a message by naming them.
const KEPT: [HeaderName; 3] = [HeaderName::from_static("x-request-id"), HeaderName::from_static("x-customer-id"), CONTENT_LENGTH];

/// Removes every header that `Connection` names; the standard ones that need no naming are removed elsewhere.
pub(crate) fn remove_named(headers: &mut HeaderMap) {
    let values = headers.get_all(CONNECTION).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let named: Vec<HeaderName> = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    for name in named.iter().filter(|name| !KEPT.contains(name)) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn left(connection: &[&'static str], names: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in connection {
            headers.append(CONNECTION, HeaderValue::from_static(value));
        }
        for name in names {
            headers.append(*name, HeaderValue::from_static("1"));
        }
        remove_named(&mut headers);
        names.iter().filter(|name| headers.contains_key(**name)).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn named_headers_are_removed() {
        assert_eq!(left(&["X-Hop ,, keep-alive", "x-other"], &["x-hop", "x-other", "x-end"]), ["x-end"]);
        assert_eq!(left(&["not a name"], &["x-end"]), ["x-end"]);
    }

    #[test]
    fn ids_and_the_length_are_kept() {
        let kept = ["x-request-id", "x-customer-id", "content-length"];
        assert_eq!(left(&["X-Request-Id, x-customer-id, content-length"], &kept), kept);
    }
}
