//! Times as others write and read them: RFC 3339, in milliseconds.

use serde::{Deserialize, Deserializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The last millisecond of the year 9999: later times have no RFC 3339 form.
const LAST_MS: i64 = 253_402_300_799_999;

/// A time that somebody else wrote, in unix milliseconds, from 1970 to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let refused = || serde::de::Error::custom("expected an RFC 3339 time from 1970 to 9999 such as \"2026-01-31T00:00:00Z\"");
        parse_ms(&text).map(Self).ok_or_else(refused)
    }
}

/// Unix milliseconds of a time, rounded down.
fn parse_ms(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let ms = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
    (0..=LAST_MS).contains(&ms).then_some(ms)
}

/// A time in UTC with its milliseconds. Times beyond what clients can write are shown as the nearest that they can.
pub(crate) fn format_ms(unix_ms: i64) -> String {
    let unix_ms = unix_ms.clamp(0, LAST_MS);
    let time = OffsetDateTime::from_unix_timestamp(unix_ms / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", unix_ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::{LAST_MS, format_ms, parse_ms};

    #[test]
    fn a_time_is_read_in_any_offset_and_written_in_utc() {
        for (text, ms, written) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000Z"),
            ("2026-01-31T23:59:59.1239Z", 1_769_903_999_123, "2026-01-31T23:59:59.123Z"),
            ("2024-02-29T12:00:00+02:00", 1_709_200_800_000, "2024-02-29T10:00:00.000Z"),
            ("2024-02-29T12:00:00-00:00", 1_709_208_000_000, "2024-02-29T12:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
            assert_eq!(format_ms(ms), written);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00",
            "2026-01-01",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+24:00",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
            "12026-01-01T00:00:00Z",
            "1767225600",
            " 2026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_ms(text), None, "{text:?}");
        }
    }
}
