//! Header names and values that a configuration may use.

/// The longest header value, in bytes.
pub(super) const VALUE_LENGTH_MAX: usize = 8 * 1024;

/// The longest header name, in bytes.
const NAME_LENGTH_MAX: usize = 128;

/// What a header name looks like, for refusals.
pub(super) const NAME_ACCEPTED: &str =
    "a header name, other than those of the connection, the message's framing and the call's own ids";

/// Headers that belong to the connection or the message's framing, or carry the call's own ids: the gateway alone decides on them.
const RESERVED: [&str; 16] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "x-customer-id",
    "x-customer-name",
    "x-request-id",
];

/// The name in lower case, if it may be configured.
pub(super) fn configurable_name(name: &str) -> Option<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let fits = (1..=NAME_LENGTH_MAX).contains(&name.len()) && name.bytes().all(is_token);
    let name = name.to_ascii_lowercase();
    (fits && !RESERVED.contains(&name.as_str())).then_some(name)
}

/// Whether a text can stand in a header and arrive as it was.
pub(super) fn is_value(text: &str) -> bool {
    let blank = [' ', '\t'];
    let printable = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    !text.is_empty()
        && text.len() <= VALUE_LENGTH_MAX
        && !text.starts_with(blank)
        && !text.ends_with(blank)
        && text.bytes().all(printable)
}

#[cfg(test)]
mod tests {
    use super::{configurable_name, is_value};

    #[test]
    fn header_names_are_tokens_in_lower_case_that_the_gateway_leaves_to_the_merchant() {
        assert_eq!(configurable_name("X-Api-Key").as_deref(), Some("x-api-key"));
        for name in [
            "",
            "a b",
            "a:",
            "é",
            "Host",
            "Content-Length",
            "TE",
            "Transfer-Encoding",
            "X-Request-Id",
            "x-customer-id",
            &"a".repeat(129),
        ] {
            assert_eq!(configurable_name(name), None, "{name:?}");
        }
    }

    #[test]
    fn header_values_have_no_control_characters_and_no_blank_ends() {
        for value in ["Bearer abc", "a\tb", "ü"] {
            assert!(is_value(value), "{value:?}");
        }
        for value in ["", " a", "a ", "a\t", "a\r\nb: c", "a\0", "\u{7f}"] {
            assert!(!is_value(value), "{value:?}");
        }
    }
}
