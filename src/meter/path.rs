//! Dotted paths into JSON, as the configuration writes them: `usage.prompt_tokens`.

use std::fmt;

/// The most keys of one path.
const SEGMENTS_MAX: usize = 16;

/// The longest key of a path, in bytes.
pub(super) const SEGMENT_LENGTH_MAX: usize = 128;

/// What a path looks like, for refusals.
pub const PATH_ACCEPTED: &str = "keys joined by dots, such as \"usage.prompt_tokens\": at most 16 of at most 128 bytes, \
                                 without spaces, quotes, brackets and *; arrays on the way need no sign";

/// The keys that lead to a value. Never empty, and no key is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<String>);

impl Path {
    /// Reads a path. `None` for one that could not be meant as such: what looks like another language's is not taken for a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_key = |key: &str| {
            let is_plain =
                |letter: char| !letter.is_control() && !letter.is_whitespace() && !"\"'`[](){}*,\\/?@".contains(letter);
            (1..=SEGMENT_LENGTH_MAX).contains(&key.len()) && key != "$" && key.chars().all(is_plain)
        };
        let keys: Vec<_> = text.split('.').take(SEGMENTS_MAX + 1).collect();
        (keys.len() <= SEGMENTS_MAX && keys.iter().all(|key| is_key(key)))
            .then(|| Self(keys.into_iter().map(str::to_owned).collect()))
    }

    /// A path of this program's own.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| (*key).to_owned()).collect())
    }

    /// This path inside the value of another key.
    pub(super) fn inside(&self, key: &str) -> Self {
        Self(std::iter::once(key.to_owned()).chain(self.0.iter().cloned()).collect())
    }

    /// True for a path that leads into `usage`, which producers also nest.
    pub(super) fn is_in_usage(&self) -> bool {
        matches!(self.0.as_slice(), [first, _, ..] if first == "usage")
    }

    pub(super) fn keys(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_is_keys_joined_by_dots_and_nothing_else() {
        let deepest = ["k"; 16].join(".");
        for text in ["input", "usage.prompt_tokens", "usageMetadata.candidatesTokenCount", "x-usage.a_b", "使用.数", &deepest]
        {
            assert_eq!(Path::parse(text).unwrap().keys().join("."), text);
        }
        let (deep, long) = (["k"; 17].join("."), "k".repeat(129));
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a\n",
            "a[0]",
            "$.usage.a",
            "a.*",
            "a/b",
            "\"a\".b",
            "a.#'",
            "a\\.b",
            &deep,
            &long,
        ] {
            assert_eq!(Path::parse(text), None, "{text:?}");
        }
    }
}
