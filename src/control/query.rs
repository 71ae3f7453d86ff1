//! Parameters of paths and queries: percent-decoding, ids, limits, cursors. Strict: what is not known, or comes twice, is refused.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::failure::Failure;
use crate::ids::InvalidId;

/// Items on a page where the client does not say.
const LIMIT_DEFAULT: usize = 100;

/// The most items on a page.
const LIMIT_MAX: usize = 500;

/// A path's parameters as they arrived, in the order of the path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathIds(pub(super) Vec<String>);

impl PathIds {
    /// The parameter at a place, as an id.
    pub(super) fn id<T>(&self, place: usize, name: &str, read: impl Fn(&str) -> Result<T, InvalidId>) -> Result<T, Failure> {
        let encoded = self.0.get(place).ok_or(Failure::Internal("a path has fewer parameters than its action reads"))?;
        let text = decode(encoded).ok_or_else(|| Failure::invalid(format!("{name} in the path: not percent-encoded UTF-8")))?;
        read(&text).map_err(|error| Failure::invalid(format!("{name} in the path: {error}")))
    }

    /// The parameter at a place, as a number from 1.
    pub(super) fn number(&self, place: usize, name: &str) -> Result<usize, Failure> {
        let text = self.0.get(place).ok_or(Failure::Internal("a path has fewer parameters than its action reads"))?;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|_| is_plain);
        number.ok_or_else(|| Failure::invalid(format!("{name} in the path: expected a number from 1")))
    }
}

/// A query as it arrived.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(pub(super) Option<&'a str>);

impl Query<'_> {
    /// Reads the parameters, of which only these are known.
    pub(super) fn read(self, known: &[&'static str]) -> Result<Parameters, Failure> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        for pair in self.0.filter(|query| !query.is_empty()).into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).and_then(|name| known.iter().find(|known| **known == name));
            let Some(name) = name else {
                return Err(Failure::invalid(match known {
                    [] => "The query: this path takes no parameters".to_owned(),
                    _ => format!("The query: unknown parameter; accepted: {}", known.join(", ")),
                }));
            };
            if pairs.iter().any(|(earlier, _)| earlier == name) {
                return Err(Failure::invalid(format!("{name}: given twice")));
            }
            let value = decode(value).ok_or_else(|| Failure::invalid(format!("{name}: not percent-encoded UTF-8")))?;
            pairs.push((name, value));
        }
        Ok(Parameters(pairs))
    }
}

/// The parameters of a query.
pub(super) struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// An id, where it is given.
    pub(super) fn id<T>(&self, name: &str, read: impl Fn(&str) -> Result<T, InvalidId>) -> Result<Option<T>, Failure> {
        let read = |text| read(text).map_err(|error| Failure::invalid(format!("{name}: {error}")));
        self.get(name).map(read).transpose()
    }

    /// One of some words, where it is given.
    pub(super) fn word<'de, T: Deserialize<'de>>(&'de self, name: &str, accepted: &str) -> Result<Option<T>, Failure> {
        let read = |text: &'de str| {
            let word: Result<T, serde::de::value::Error> = T::deserialize(text.into_deserializer());
            word.map_err(|_| Failure::invalid(format!("{name}: expected one of {accepted}")))
        };
        self.get(name).map(read).transpose()
    }

    /// How many items a page has.
    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else { return Ok(LIMIT_DEFAULT) };
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| is_plain && (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| Failure::invalid(format!("limit: expected a number from 1 to {LIMIT_MAX}")))
    }

    /// One of some texts, where it is given.
    pub(super) fn one_of(&self, name: &str, accepted: &[&'static str]) -> Result<Option<&'static str>, Failure> {
        let read = |text| accepted.iter().copied().find(|word| *word == text);
        let refused = || Failure::invalid(format!("{name}: expected one of {}", accepted.join(", ")));
        self.get(name).map(|text| read(text).ok_or_else(refused)).transpose()
    }

    /// The position that a cursor of this list carries, as a number.
    pub(super) fn position<T: FromStr>(&self, list: &str) -> Result<Option<T>, Failure> {
        self.cursor(list, |text| text.parse().ok())
    }

    /// The position that a cursor of this list carries, where one is given.
    pub(super) fn cursor<T>(&self, list: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Failure> {
        let read = |text: &str| {
            let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
            read(decoded.strip_prefix(list)?.strip_prefix(':')?)
        };
        let refused = || Failure::invalid("cursor: expected the next_cursor of a page of the same list");
        self.get("cursor").map(|text| read(text).ok_or_else(refused)).transpose()
    }
}

/// A cursor of a list: opaque to clients, and of no use in another list.
pub(super) fn write_cursor(list: &str, position: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{position}"))
}

/// Percent-decodes. A plus is a plus: it is only in forms that it stands for a space, and no parameter has one.
fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            digit()? << 4 | digit()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::{Parameters, Query, decode, write_cursor};
    use crate::ledger::PackageState;

    fn read(query: &str) -> Option<Parameters> {
        Query(Some(query)).read(&["limit", "cursor", "state"]).ok()
    }

    #[test]
    fn percent_encoding_is_whole_and_utf8() {
        assert_eq!(decode("a%2Fb%c3%A9+").as_deref(), Some("a/bé+"));
        for bad in ["%", "%2", "%zz", "%+1", "%ff", "a%"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(Query(None).read(&[]).is_ok() && read("").is_some() && read("limit=1&state=active").is_some());
        for bad in ["limit=1&limit=1", "Limit=1", "x", "limit=1&", "&", "limit=%zz", "l%69mit=1&limit=2"] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_a_number_from_1_to_500() {
        assert_eq!(read("").unwrap().limit().ok(), Some(100));
        assert_eq!(read("limit=500").unwrap().limit().ok(), Some(500));
        for bad in ["0", "501", "-1", "+5", "1.0", "", "1e2", "99999999999999999999"] {
            assert!(read(&format!("limit={bad}")).unwrap().limit().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_word_is_one_of_its_kind() {
        let state = |query: &str| read(query).unwrap().word::<PackageState>("state", "...").ok();
        assert_eq!(state("state=frozen"), Some(Some(PackageState::Frozen)));
        assert_eq!(state(""), Some(None));
        assert!(state("state=Frozen").is_none() && state("state=").is_none());
    }

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let position = |list: &str, cursor: &str| {
            read(&format!("cursor={cursor}")).unwrap().cursor(list, |text| Some(text.to_owned())).ok().flatten()
        };
        let cursor = write_cursor("packages", "p:1");
        assert_eq!(position("packages", &cursor).as_deref(), Some("p:1"));
        for (list, cursor) in [("customers", cursor.as_str()), ("packages", "!"), ("packages", ""), ("packages", "cGFja2FnZXM")] {
            assert_eq!(position(list, cursor), None, "{list} {cursor}");
        }
    }
}
