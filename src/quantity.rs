//! Exact quantities: whole numbers of 1/10000 units.
//!
//! What a package holds, a call costs and a balance says is a [`Quantity`]. It is never negative and never a floating point number; what moves a
//! counter up or down is a [`Delta`]. Both stay below 2^53, so that every JSON reader in the field keeps them exact (contract, preamble).
//! The border: text in, text out, and checked arithmetic; nothing here knows what is being counted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest quantity, and the most one customer may be granted of one product in sum: 900,000,000,000 units.
const MAX_PARTS: i64 = 900_000_000_000 * Quantity::PARTS_PER_UNIT;

/// An exact, non-negative amount of what a product sells, in 1/10000 units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(i64);

/// A signed change of a [`Quantity`], in 1/10000 units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delta(i64);

/// Why a text is no quantity. The sender of the text causes it; the same text fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityError {
    /// Not a plain decimal number: a sign where none may be, an exponent, `NaN`, spaces, no digits.
    Malformed,
    /// More than four digits after the point.
    TooPrecise,
    /// Above 900000000000.
    TooLarge,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "expected a decimal number such as \"12\" or \"0.0125\"",
            Self::TooPrecise => "at most 4 decimals are kept",
            Self::TooLarge => "the largest quantity is 900000000000",
        })
    }
}

impl std::error::Error for QuantityError {}

impl Quantity {
    /// Parts of one unit: quantities have four decimals.
    pub const PARTS_PER_UNIT: i64 = 10_000;
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One unit: what a per-call product charges.
    pub const ONE: Self = Self(Quantity::PARTS_PER_UNIT);
    /// The largest quantity there is.
    pub const MAX: Self = Self(MAX_PARTS);

    /// From 1/10000 units, as stores keep them. `None` when negative or above [`Quantity::MAX`].
    #[must_use]
    pub const fn from_parts(parts: i64) -> Option<Self> {
        if parts >= 0 && parts <= MAX_PARTS { Some(Self(parts)) } else { None }
    }

    /// In 1/10000 units.
    #[must_use]
    pub const fn parts(self) -> i64 {
        self.0
    }

    /// Whole units, rounded down: what the `RateLimit` header fields carry.
    #[must_use]
    pub const fn whole_units(self) -> i64 {
        self.0 / Quantity::PARTS_PER_UNIT
    }

    /// True for nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` above [`Quantity::MAX`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::from_parts(self.0.checked_add(other.0)?)
    }

    /// The difference, or nothing below zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }

    /// The sum, or [`Quantity::MAX`] above it.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self((self.0 + other.0).min(MAX_PARTS))
    }

    /// This much upwards.
    #[must_use]
    pub const fn up(self) -> Delta {
        Delta(self.0)
    }
}

impl Delta {
    /// From 1/10000 units. `None` beyond [`Quantity::MAX`] in either direction.
    #[must_use]
    pub const fn from_parts(parts: i64) -> Option<Self> {
        if parts >= -MAX_PARTS && parts <= MAX_PARTS { Some(Self(parts)) } else { None }
    }

    /// In 1/10000 units.
    #[must_use]
    pub const fn parts(self) -> i64 {
        self.0
    }

    /// True where it moves nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// Reads digits with at most four decimals: no sign, no exponent, no spaces.
fn parse_parts(text: &str) -> Result<i64, QuantityError> {
    let (whole, decimals) = match text.split_once('.') {
        Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
        Some(_) => return Err(QuantityError::Malformed),
        None => (text, ""),
    };
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits_only(whole) || !digits_only(decimals) {
        return Err(QuantityError::Malformed);
    }
    if decimals.len() > 4 {
        return Err(QuantityError::TooPrecise);
    }
    let mut parts: i64 = 0;
    for byte in whole.bytes().chain(decimals.bytes()).chain(std::iter::repeat_n(b'0', 4 - decimals.len())) {
        parts = parts
            .checked_mul(10)
            .and_then(|parts| parts.checked_add(i64::from(byte - b'0')))
            .filter(|parts| *parts <= MAX_PARTS)
            .ok_or(QuantityError::TooLarge)?;
    }
    Ok(parts)
}

fn write_parts(parts: i64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let sign = if parts < 0 { "-" } else { "" };
    let size = parts.unsigned_abs();
    let (whole, decimals) = (size / Quantity::PARTS_PER_UNIT.unsigned_abs(), size % Quantity::PARTS_PER_UNIT.unsigned_abs());
    if decimals == 0 {
        return write!(f, "{sign}{whole}");
    }
    let decimals = format!("{decimals:04}");
    write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse_parts(text).map(Self)
    }
}

impl FromStr for Delta {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        match text.strip_prefix('-') {
            Some(size) => parse_parts(size).map(|parts| Self(-parts)),
            None => parse_parts(text).map(Self),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(self.0, f)
    }
}

impl fmt::Display for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_parts(self.0, f)
    }
}

/// JSON and TOML carry quantities as strings, because a JSON number may become a float on its way.
macro_rules! serde_as_string {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_string!(Quantity);
serde_as_string!(Delta);

#[cfg(test)]
mod tests {
    use super::{Delta, Quantity, QuantityError};

    fn parse(text: &str) -> Result<Quantity, QuantityError> {
        text.parse()
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for text in ["0", "1", "998", "0.0125", "900000000000", "0.1", "12.3456"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("1.5000").unwrap().to_string(), "1.5");
        assert_eq!("-0.5".parse::<Delta>().unwrap().to_string(), "-0.5");
    }

    #[test]
    fn only_plain_decimals_are_quantities() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "NaN", "inf", " 1", "1 ", "1_0", "1,5", "1.2.3", "٣", "0x1"] {
            assert_eq!(parse(text), Err(QuantityError::Malformed), "{text:?}");
        }
        assert_eq!("--1".parse::<Delta>(), Err(QuantityError::Malformed));
    }

    #[test]
    fn more_than_four_decimals_are_refused_and_not_rounded() {
        assert_eq!(parse("0.00001"), Err(QuantityError::TooPrecise));
        assert_eq!(parse("1.00000"), Err(QuantityError::TooPrecise));
    }

    #[test]
    fn nothing_is_above_the_maximum() {
        assert_eq!(parse("900000000000.0001"), Err(QuantityError::TooLarge));
        assert_eq!(parse("99999999999999999999999999999"), Err(QuantityError::TooLarge));
        assert_eq!(Quantity::MAX.checked_add(Quantity::ONE), None);
        assert!(Quantity::MAX.parts() < 1 << 53);
    }
}
