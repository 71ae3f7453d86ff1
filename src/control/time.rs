//! Times and durations as clients write and read them.

use serde::{Deserialize, Deserializer};

pub(super) use crate::timestamp::{Timestamp, format_ms};

use crate::config::{DURATION_ACCEPTED, duration_ms};

/// The longest duration: ten years, more or less.
const DURATION_MAX_MS: i64 = 3_660 * 86_400_000;

/// A duration that a client wrote, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duration(pub(super) i64);

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = duration_ms(&text).filter(|ms| *ms <= DURATION_MAX_MS);
        known.map(Self).ok_or_else(|| serde::de::Error::custom(format!("expected {DURATION_ACCEPTED}, at most \"3660d\"")))
    }
}

/// A duration in the largest unit that counts it, more than once where the unit is above seconds: a day is "24h" as the configuration has it.
pub(super) fn format_duration(ms: i64) -> String {
    let units = [("d", 86_400_000, 2), ("h", 3_600_000, 2), ("m", 60_000, 2), ("s", 1_000, 1)];
    let unit = units.into_iter().find(|(_, unit_ms, least)| ms % unit_ms == 0 && ms / unit_ms >= *least);
    match unit {
        Some((unit, unit_ms, _)) => format!("{}{unit}", ms / unit_ms),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::{DURATION_MAX_MS, Duration, format_duration};

    #[test]
    fn a_duration_is_written_as_it_is_usually_read() {
        for text in ["0s", "1ms", "250ms", "1500ms", "1s", "30s", "60s", "15m", "60m", "24h", "36h", "2d", "30d", "3660d"] {
            let Duration(ms) = serde_json::from_value(text.into()).unwrap();
            assert_eq!(format_duration(ms), text);
        }
        assert_eq!(format_duration(86_400_000), "24h");
        assert_eq!(format_duration(DURATION_MAX_MS + 1), format!("{}ms", DURATION_MAX_MS + 1));
    }

    #[test]
    fn a_duration_has_a_unit_and_an_end() {
        for text in ["", "1", "s", "-1s", "1.5s", "3661d", "1w", "9223372036854775807ms"] {
            assert!(serde_json::from_value::<Duration>(text.into()).is_err(), "{text}");
        }
    }
}
