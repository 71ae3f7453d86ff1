//! Routes and backends, the two addresses of a product; and where webhooks and orders go.

use super::hook::HookUrl;
use super::types::{Backend, Route};

/// What a route looks like, for refusals.
pub(super) const ROUTE_ACCEPTED: &str = "a path such as \"/translate\": whole segments of letters, digits and -._~!$&'()*+,;=:@, none of them empty, \".\" or \"..\", \
     at most 256 characters, and not \"/_tollgate\"";

/// What a backend looks like, for refusals.
pub(super) const BACKEND_ACCEPTED: &str =
    "a URL such as \"https://api.example.com/v1\": http or https, without user name, query and fragment, at most 1024 characters";

/// What the URL of a webhook or of the order hook looks like, for refusals.
pub(super) const HOOK_ACCEPTED: &str =
    "a URL such as \"https://example.com/hooks\": http or https, without user name and fragment, at most 1024 characters";

/// The longest route and the longest URL, in characters.
const ROUTE_LENGTH_MAX: usize = 256;
const URL_LENGTH_MAX: usize = 1024;

/// The first segment that belongs to the gateway itself.
const RESERVED_SEGMENT: &str = "_tollgate";

/// Reads a route. Nothing in it is percent-encoded, so that a path has one spelling only.
pub(super) fn route(text: &str) -> Option<Route> {
    let below = text.strip_prefix('/').filter(|_| text.len() <= ROUTE_LENGTH_MAX)?;
    let is_segment =
        |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(is_path_byte);
    let fits = below.is_empty() || (below.split('/').all(is_segment) && below.split('/').next() != Some(RESERVED_SEGMENT));
    fits.then(|| Route::checked(text))
}

/// Reads a backend's URL.
pub(super) fn backend(text: &str) -> Option<Backend> {
    let (https, rest) = scheme(text)?;
    let (authority, path) = rest.find('/').map_or((rest, ""), |start| rest.split_at(start));
    let path_prefix = path.strip_suffix('/').unwrap_or(path);
    (is_authority(authority) && is_path_prefix(path_prefix)).then(|| Backend {
        https,
        authority: authority.to_ascii_lowercase(),
        path_prefix: path_prefix.to_owned(),
    })
}

/// Reads the URL of a webhook or of the order hook. Its path and query are sent as they are written.
pub(super) fn hook(text: &str) -> Option<HookUrl> {
    let (https, rest) = scheme(text)?;
    let (authority, target) = rest.find(['/', '?']).map_or((rest, ""), |start| rest.split_at(start));
    let is_target_byte = |byte: u8| is_path_byte(byte) || b"/?%".contains(&byte);
    if !is_authority(authority) || !target.bytes().all(is_target_byte) {
        return None;
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some(HookUrl::new(https, authority.to_ascii_lowercase(), format!("{slash}{target}")))
}

/// Whether a URL is one of HTTP over TLS, and what follows the scheme.
fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://").filter(|_| text.len() <= URL_LENGTH_MAX)?;
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some((false, rest)),
        "https" => Some((true, rest)),
        _ => None,
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

fn is_path_prefix(path: &str) -> bool {
    let Some(below) = path.strip_prefix('/') else { return path.is_empty() };
    below.split('/').all(|segment| {
        // Dots that come encoded are dots to whoever decodes them.
        let decoded = segment.replace("%2e", ".").replace("%2E", ".");
        !segment.is_empty() && decoded != "." && decoded != ".." && is_percent_encoded(segment)
    })
}

/// Whether a segment is made of path characters and whole percent-encoded bytes.
fn is_percent_encoded(segment: &str) -> bool {
    let mut parts = segment.split('%');
    let plain = parts.next().is_none_or(|first| first.bytes().all(is_path_byte));
    plain && parts.all(|part| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2 && part.bytes().all(is_path_byte))
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (None, port),
            _ => return false,
        },
        None => text.find(':').map_or((Some(text), ""), |colon| {
            let (host, port) = text.split_at(colon);
            (Some(host), port)
        }),
    };
    host.is_none_or(is_host) && is_port(port)
}

fn is_host(host: &str) -> bool {
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (1..=253).contains(&host.len()) && host.bytes().all(is_host_byte) && !host.starts_with('.') && !host.contains("..")
}

/// Nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    let is_number =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    text.is_empty() || text.strip_prefix(':').is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::{backend, hook, route};

    #[test]
    fn a_route_is_whole_plain_segments() {
        for text in ["/", "/translate", "/v1/translate", "/a.b/c~d", "/_tollgates", "/a/_tollgate"] {
            assert_eq!(route(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "a",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/a/..",
            "/a/../b",
            "/_tollgate",
            "/_tollgate/x",
            "/a?b",
            "/a#b",
            "/a b",
            "/%61",
            "/é",
        ] {
            assert_eq!(route(text), None, "{text:?}");
        }
        assert_eq!(route(&format!("/{}", "a".repeat(256))), None);
    }

    #[test]
    fn a_backend_is_split_into_what_a_request_needs() {
        for (text, https, authority, path_prefix) in [
            ("http://127.0.0.1:9000/v1", false, "127.0.0.1:9000", "/v1"),
            ("http://127.0.0.1:9000", false, "127.0.0.1:9000", ""),
            ("HTTPS://Api.Example.com/", true, "api.example.com", ""),
            ("https://[::1]:8443/a/b%20c/", true, "[::1]:8443", "/a/b%20c"),
            ("http://localhost", false, "localhost", ""),
        ] {
            let backend = backend(text).unwrap();
            assert_eq!(
                (backend.https, backend.authority.as_str(), backend.path_prefix.as_str()),
                (https, authority, path_prefix),
                "{text}"
            );
        }
    }

    #[test]
    fn a_backend_is_a_plain_http_url() {
        for text in [
            "",
            "127.0.0.1:9000",
            "ftp://h",
            "http://",
            "http:///v1",
            "http://:80",
            "http://h:",
            "http://h:0",
            "http://h:65536",
            "http://h:+80",
            "http://h:8:8",
            "http://u:p@h/",
            "http://u@h",
            "http://h/a?b",
            "http://h?b",
            "http://h/a#b",
            "http://h#b",
            "http://h/../a",
            "http://h/%2e%2E/a",
            "http://h/a//b",
            "http://h/%zz",
            "http://h/%2",
            "http://h/a b",
            "http://h\r\n/a",
            "http://[::1/",
            "http://[h]/",
            "http://é/",
        ] {
            assert_eq!(backend(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_hook_keeps_its_path_and_query_as_they_are_written() {
        for (text, whole) in [
            ("http://127.0.0.1:9900/hooks", "http://127.0.0.1:9900/hooks"),
            ("HTTPS://Hooks.Example.com", "https://hooks.example.com/"),
            ("https://h?tenant=a%20b", "https://h/?tenant=a%20b"),
            ("https://[::1]:8443/A//b/../c/?x=/y?z", "https://[::1]:8443/A//b/../c/?x=/y?z"),
        ] {
            assert_eq!(hook(text).unwrap().as_str(), whole);
        }
        for text in
            ["", "h/a", "ftp://h/", "http:///a", "http://u:p@h/", "http://h/#a", "http://h/a b", "http://h/é", "http://h/\r\nx"]
        {
            assert_eq!(hook(text), None, "{text:?}");
        }
    }
}
