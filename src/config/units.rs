//! Durations and sizes as people write them: `"30s"`, `"1 MiB"`.

/// What a duration looks like, for refusals.
pub(crate) const DURATION_ACCEPTED: &str = "a duration such as \"250ms\", \"30s\", \"15m\", \"24h\" or \"30d\"";

/// What a size looks like, for refusals.
pub(super) const SIZE_ACCEPTED: &str = "a size such as \"1 MiB\" or \"64 KiB\", or a number of bytes";

/// Milliseconds of a unit of time.
const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Bytes of a unit of size. Only powers of two: `MB` means two things.
const SIZE_UNITS: [(&str, u64); 6] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// A duration in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Option<i64> {
    let (number, unit) = split(text)?;
    i64::try_from(scaled(number, unit, &DURATION_UNITS)?).ok()
}

/// A size in bytes. One space may stand before the unit.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    scaled(number, unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit), &SIZE_UNITS)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

fn scaled(number: u64, unit: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::{duration_ms, size_bytes};

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, ms) in
            [("250ms", 250), ("30s", 30_000), ("15m", 900_000), ("24h", 86_400_000), ("30d", 2_592_000_000), ("0s", 0)]
        {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "1w",
            "99999999999999999999s",
            "9223372036854775807d",
        ] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_a_whole_number_and_a_binary_unit_or_none() {
        for (text, bytes) in
            [("1 MiB", 1_048_576), ("64 KiB", 65_536), ("20MiB", 20_971_520), ("512", 512), ("512 B", 512), ("1 GiB", 1 << 30)]
        {
            assert_eq!(size_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1 MB", "1 mib", "1  MiB", "1.5 MiB", "-1", "1 ", "18446744073709551615 TiB"] {
            assert_eq!(size_bytes(text), None, "{text}");
        }
    }
}
