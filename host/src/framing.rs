//! What of a message's framing belongs to one hop, so that a guest does not see it: transfer codings (RFC 9112, sections 6 and 7), and tunnels. What it says
//! must not be lost on the way.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use tollgate::problem::{Code, Problem};

/// How the body of a message is coded for its hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// Not at all.
    None,
    /// In chunks, and in nothing else.
    Chunked,
    /// In something that only the next hop could undo.
    Other,
}

fn coding(headers: &HeaderMap) -> Coding {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Coding::None,
        (Some(value), None) if value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
        _ => Coding::Other,
    }
}

/// Why a request would not arrive at a backend as it was sent, where it would not.
pub(crate) fn refusal(method: &Method, headers: &HeaderMap) -> Option<Problem> {
    if *method == Method::CONNECT {
        return Some(Problem::new(Code::MethodNotAllowed, "No product is a tunnel."));
    }
    match coding(headers) {
        // Of a body of unknown length hyper's client sends none with these.
        Coding::Chunked if matches!(*method, Method::GET | Method::HEAD) => {
            Some(Problem::new(Code::Invalid, "The body of a GET or HEAD request needs a Content-Length.").with_status(411))
        }
        Coding::Other => {
            Some(Problem::new(Code::Invalid, "A body can be chunked, and have no other transfer coding.").with_status(501))
        }
        Coding::None | Coding::Chunked => None,
    }
}

/// Makes of a reply's headers what its body is: chunks are as long as they are, whatever else is declared. False where the body cannot be passed on.
pub(crate) fn normalise_reply(headers: &mut HeaderMap) -> bool {
    match coding(headers) {
        Coding::None => true,
        Coding::Chunked => {
            headers.remove(CONTENT_LENGTH);
            true
        }
        Coding::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(codings: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        headers
    }

    #[test]
    fn a_body_that_would_change_on_the_way_is_refused() {
        let status = |method, codings: &[&'static str]| refusal(&method, &headers(codings)).map(|problem| problem.status);
        assert_eq!(status(Method::GET, &[]), None);
        assert_eq!(status(Method::POST, &["Chunked "]), None);
        assert_eq!(status(Method::GET, &["chunked"]), Some(411));
        assert_eq!(status(Method::HEAD, &["chunked"]), Some(411));
        assert_eq!(status(Method::CONNECT, &[]), Some(405));
        for codings in [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity"], &["chunked, chunked"]] {
            assert_eq!(status(Method::POST, codings), Some(501), "{codings:?}");
        }
    }

    #[test]
    fn chunks_leave_no_declared_length() {
        for (codings, is_sent, is_declared) in
            [(&[][..], true, true), (&["chunked"], true, false), (&["gzip, chunked"], false, true)]
        {
            let mut headers = headers(codings);
            assert_eq!(
                (normalise_reply(&mut headers), headers.contains_key(CONTENT_LENGTH)),
                (is_sent, is_declared),
                "{codings:?}"
            );
        }
    }
}
