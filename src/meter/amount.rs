//! Exact decimals: what a reply says was used, what a unit of it weighs, and their sum rounded up once.
//!
//! An [`Amount`] keeps 24 decimals, more than any double from 0.0000001 up is printed with; what is finer is rounded up to the 24th. A [`Factor`] keeps 9.
//! Their products are added without loss, so that only the whole sum is rounded.

use std::fmt;

use crate::quantity::Quantity;

/// The longest number that is read, in bytes. No printer of numbers writes one that long for a quantity that could be charged.
pub(super) const NUMBER_LENGTH_MAX: usize = 128;

/// The decimal digits of one limb of a fraction.
const LIMB_DIGITS: usize = 8;

/// One above the largest value of a limb.
const LIMB: u32 = 10_u32.pow(8);

/// The most digits before the point.
const WHOLE_DIGITS_MAX: i32 = 18;

/// One above the largest whole part that is read.
const WHOLE_LIMIT: u64 = 10_u64.pow(18);

/// A non-negative decimal below 10^18 with 24 decimals, as a body reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount {
    whole: u64,
    /// The decimals, eight to a limb, the first ones first.
    limbs: [u32; 3],
}

impl Amount {
    /// Above everything that is charged: what a sum that grew too large is worth.
    const TOO_LARGE: Self = Self { whole: u64::MAX, limbs: [0; 3] };

    /// A whole number.
    pub(super) const fn of(whole: u64) -> Self {
        Self { whole, limbs: [0; 3] }
    }

    /// Reads a number as JSON writes it. `None` for anything else, below zero, from 10^18 up, or too long.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > NUMBER_LENGTH_MAX {
            return None;
        }
        let (is_negative, text) = text.strip_prefix(b"-").map_or((false, text), |size| (true, size));
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (text.get(..at)?, read_exponent(text.get(at + 1..)?)?),
            None => (text, 0),
        };
        let (whole, decimals) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(at) => (mantissa.get(..at)?, mantissa.get(at + 1..).filter(|decimals| !decimals.is_empty())?),
            None => (mantissa, &b""[..]),
        };
        if whole.is_empty() || !whole.iter().chain(decimals).all(u8::is_ascii_digit) {
            return None;
        }
        let amount = Self::place(whole, decimals, exponent)?;
        (!is_negative || amount == Self::default()).then_some(amount)
    }

    /// Puts each digit where the exponent moves it.
    fn place(whole: &[u8], decimals: &[u8], exponent: i32) -> Option<Self> {
        let mut amount = Self::default();
        let mut is_inexact = false;
        // How far left of the point the digit's right edge is.
        let mut place = exponent.checked_add(i32::try_from(whole.len()).ok()?)?;
        for digit in whole.iter().chain(decimals).map(|byte| byte - b'0') {
            place -= 1;
            if digit == 0 {
                continue;
            }
            if place >= WHOLE_DIGITS_MAX {
                return None;
            }
            if let Ok(power) = u32::try_from(place) {
                amount.whole += u64::from(digit) * 10_u64.pow(power);
                continue;
            }
            let decimal = usize::try_from(-(place + 1)).ok()?;
            match amount.limbs.get_mut(decimal / LIMB_DIGITS) {
                Some(limb) => *limb += u32::from(digit) * 10_u32.pow((LIMB_DIGITS - 1 - decimal % LIMB_DIGITS) as u32),
                None => is_inexact = true,
            }
        }
        Some(if is_inexact { amount.plus(Self { whole: 0, limbs: [0, 0, 1] }) } else { amount })
    }

    /// The sum. One that grows too large stays so.
    pub(super) fn plus(self, other: Self) -> Self {
        let [first, second, third] = self.limbs;
        let [other_first, other_second, other_third] = other.limbs;
        let (third, carry) = split_limb(third + other_third);
        let (second, carry) = split_limb(second + other_second + carry);
        let (first, carry) = split_limb(first + other_first + carry);
        let whole = self.whole.checked_add(other.whole).and_then(|whole| whole.checked_add(u64::from(carry)));
        whole.map_or(Self::TOO_LARGE, |whole| Self { whole, limbs: [first, second, third] })
    }

    /// True where so many, scaled, are more than anyone can be charged.
    pub(super) fn is_absurd(self, scale: Factor) -> bool {
        let limit = u128::from(Quantity::MAX.whole_units().unsigned_abs()) * u128::from(Factor::ONE.0);
        self.whole >= WHOLE_LIMIT || u128::from(self.whole) * u128::from(scale.0) > limit
    }

    /// The number itself, where it is a whole one.
    pub(super) fn whole_number(self) -> Option<u64> {
        (self.limbs == [0; 3]).then_some(self.whole)
    }
}

fn split_limb(value: u32) -> (u32, u32) {
    (value % LIMB, value / LIMB)
}

fn read_exponent(text: &[u8]) -> Option<i32> {
    let (is_negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Beyond this every digit is absurd or nothing, wherever the point stands.
    let size = digits.iter().fold(0_i32, |size, digit| (size * 10 + i32::from(digit - b'0')).min(100_000));
    Some(if is_negative { -size } else { size })
}

/// What a configured factor looks like, for refusals.
pub const FACTOR_ACCEPTED: &str = "a decimal number such as \"3\" or \"0.001\", at most 1000000 and with at most 9 decimals";

/// A configured weight or scale, in 1/1000000000: at most a million, never negative.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(u64);

impl Factor {
    /// One.
    pub const ONE: Self = Self(10_u64.pow(Self::DECIMALS));

    const DECIMALS: u32 = 9;

    /// Reads digits with at most nine decimals: no sign, no exponent, no spaces. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = match text.split_once('.') {
            Some((whole, decimals)) => (whole, Some(decimals).filter(|decimals| !decimals.is_empty())?),
            None => (text, ""),
        };
        let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 7 || decimals.len() > Self::DECIMALS as usize {
            return None;
        }
        if !digits_only(whole) || !digits_only(decimals) {
            return None;
        }
        let parts: u64 = format!("{whole}{decimals:0<9}").parse().ok()?;
        Some(Self(parts)).filter(|factor| *factor <= Self(Self::ONE.0 * 1_000_000))
    }

    /// True for nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The same number as an amount.
    pub(super) fn amount(self) -> Amount {
        let (whole, parts) = (self.0 / Self::ONE.0, (self.0 % Self::ONE.0) as u32);
        Amount { whole, limbs: [parts / 10, parts % 10 * (LIMB / 10), 0] }
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0 / Self::ONE.0, self.0 % Self::ONE.0)
    }
}

/// A sum of amounts times factors, without loss.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    /// In 10^-18, 10^-26, 10^-34 and 10^-42, added up apart and carried at the end.
    parts: [u128; 4],
    is_too_large: bool,
}

/// Charged parts are 10^-4.
const PARTS_PER_CHARGED_PART: u128 = 10_u128.pow(14);

impl Sum {
    /// Nothing.
    pub(super) const fn new() -> Self {
        Self { parts: [0; 4], is_too_large: false }
    }

    /// Adds `amount` times both factors.
    pub(super) fn add(&mut self, amount: Amount, weight: Factor, scale: Factor) {
        self.add_product(amount, u128::from(weight.0) * u128::from(scale.0));
    }

    /// Adds `amount` times `weight`, so many times. A million times is the most that is exact.
    pub(super) fn add_times(&mut self, amount: Amount, weight: Factor, times: u64) {
        self.add_product(amount, u128::from(weight.0) * u128::from(Factor::ONE.0) * u128::from(times));
    }

    /// The factor is in 10^-18.
    fn add_product(&mut self, amount: Amount, factor: u128) {
        let [first, second, third] = amount.limbs.map(u128::from);
        let addends = [u128::from(amount.whole), first, second, third];
        for (part, addend) in self.parts.iter_mut().zip(addends) {
            match addend.checked_mul(factor).and_then(|product| part.checked_add(product)) {
                Some(sum) => *part = sum,
                None => self.is_too_large = true,
            }
        }
    }

    /// The sum in charged parts, rounded up. `None` above everything that can be charged.
    pub(super) fn rounded_up(self) -> Option<Quantity> {
        let limb = u128::from(LIMB);
        let mut carry = 0_u128;
        let mut has_rest = false;
        let [whole, first, second, third] = self.parts;
        for part in [third, second, first] {
            let total = part.checked_add(carry)?;
            has_rest |= total % limb != 0;
            carry = total / limb;
        }
        let total = whole.checked_add(carry)?;
        has_rest |= total % PARTS_PER_CHARGED_PART != 0;
        let parts = i64::try_from(total / PARTS_PER_CHARGED_PART).ok()?.checked_add(i64::from(has_rest))?;
        Quantity::from_parts(parts).filter(|_| !self.is_too_large)
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Factor, Sum};

    fn charged(amounts: &[(&str, &str, &str)]) -> Option<String> {
        let mut sum = Sum::new();
        for (amount, weight, scale) in amounts {
            sum.add(Amount::parse(amount.as_bytes()).unwrap(), Factor::parse(weight).unwrap(), Factor::parse(scale).unwrap());
        }
        sum.rounded_up().map(|quantity| quantity.to_string())
    }

    #[test]
    fn every_way_to_write_a_number_is_the_same_number() {
        for (text, same) in [
            ("1e3", "1000"),
            ("1E+3", "1000"),
            ("12.50", "12.5"),
            ("1250e-2", "12.5"),
            ("0.00125e4", "12.5"),
            ("0015", "15"),
            ("-0", "0"),
            ("-0.0e9", "0"),
            ("0e999999999999", "0"),
            ("1.0", "1"),
            ("100000000000000000000e-5", "1000000000000000"),
        ] {
            assert_eq!(Amount::parse(text.as_bytes()).unwrap(), Amount::parse(same.as_bytes()).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_negative_or_absurd_is_no_amount() {
        let long = "0".repeat(129);
        for text in [
            "",
            "-",
            "-1",
            "-0.1",
            "+1",
            ".5",
            "1.",
            "1.e3",
            "1e",
            "1e+",
            "1e1.5",
            "NaN",
            "Infinity",
            "-Infinity",
            " 1",
            "1 ",
            "1_0",
            "0x10",
            "1,5",
            "1e18",
            "1e400",
            "1000000000000000000",
            "true",
            "\u{663}",
            &long,
            "1e99999999999999999999",
            "--1",
            "1-1",
        ] {
            assert_eq!(Amount::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_sum_is_exact_and_rounded_up_once() {
        for (amounts, expected) in [
            (&[][..], "0"),
            (&[("16", "1", "1"), ("300", "3", "1")][..], "916"),
            (&[("0.1", "1", "1"), ("0.2", "1", "1")][..], "0.3"),
            (&[("1", "0.00004", "1"), ("1", "0.00006", "1")][..], "0.0001"),
            (&[("1", "0.00005", "1"), ("1", "0.00006", "1")][..], "0.0002"),
            (&[("3720", "1", "0.001")][..], "3.72"),
            (&[("0.000033333333333333333333", "3", "1")][..], "0.0001"),
            (&[("0.000000000000000000000001", "1", "1")][..], "0.0001"),
            (&[("5e-324", "1", "1")][..], "0.0001"),
            (&[("0.30000000000000004", "1", "1")][..], "0.3001"),
            (&[("0.999999999999999999999999", "1", "1"), ("1e-24", "1", "1")][..], "1"),
            (&[("900000000000", "1", "1")][..], "900000000000"),
            (&[("7", "0", "1")][..], "0"),
        ] {
            assert_eq!(charged(amounts).as_deref(), Some(expected), "{amounts:?}");
        }
    }

    #[test]
    fn a_sum_above_the_maximum_is_none() {
        assert_eq!(charged(&[("900000000000.0001", "1", "1")]), None);
        assert_eq!(charged(&[("900000000000", "1", "1"), ("1e-24", "1", "1")]), None);
        assert_eq!(charged(&[("999999999999999999", "1000000", "1000000")]), None);
        assert_eq!(charged(&[("900000000000000000", "1000000", "0.000000001")]), None);
    }

    #[test]
    fn amounts_that_grow_too_large_stay_absurd() {
        let most = Amount::parse(b"999999999999999999").unwrap();
        let sum = (0..100).fold(most, |sum, _| sum.plus(most));
        assert!(sum.is_absurd(Factor::ONE) && most.is_absurd(Factor::ONE));
        assert!(!Amount::parse(b"900000000000").unwrap().is_absurd(Factor::ONE));
        assert!(Amount::parse(b"900000000001").unwrap().is_absurd(Factor::ONE));
        assert!(!Amount::parse(b"900000000000000").unwrap().is_absurd(Factor::parse("0.001").unwrap()));
        assert_eq!(Amount::parse(b"0.99999999999999999999999").unwrap().plus(Amount::parse(b"1e-23").unwrap()), Amount::of(1));
    }

    #[test]
    fn only_plain_decimals_are_factors() {
        for text in ["0", "1", "0.25", "3", "1000000", "0.000000001", "12.125000000"] {
            assert!(Factor::parse(text).is_some(), "{text}");
        }
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", " 1", "1000000.000000001", "0.0000000001", "10000000", "\u{663}"] {
            assert_eq!(Factor::parse(text), None, "{text}");
        }
        assert_eq!(format!("{:?}", Factor::parse("0.25").unwrap()), "0.250000000");
    }
}
