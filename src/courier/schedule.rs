//! When a post is tried again.

use sha2::{Digest, Sha256};
use time::{Date, Month, Time};

use crate::ids::EventId;

/// How long each try waits after the one before it failed.
const DELAYS_MS: [i64; 7] = [5_000, 30_000, 120_000, 900_000, 3_600_000, 21_600_000, 86_400_000];

/// No order waits longer for its next try: a customer waits for what it buys.
const ORDER_DELAY_MAX_MS: i64 = 120_000;

/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX_MS: i64 = 24 * 3_600_000;

/// How long an event waits after it was tried so often, or `None` where no try is left. What the receiver asks for is a least.
pub(super) fn event_delay_ms(id: &EventId, attempts: u32, retry_after_ms: Option<i64>) -> Option<i64> {
    let place = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let delay_ms = spread_out(*DELAYS_MS.get(place)?, id, attempts);
    Some(delay_ms.max(retry_after_ms.unwrap_or(0)))
}

/// How long an order waits after it was tried so often. Its time-out ends it.
pub(super) fn order_delay_ms(id: &EventId, attempts: u32, retry_after_ms: Option<i64>) -> i64 {
    let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let delay_ms = DELAYS_MS.get(place).copied().unwrap_or(ORDER_DELAY_MAX_MS).min(ORDER_DELAY_MAX_MS);
    spread_out(delay_ms, id, attempts).max(retry_after_ms.unwrap_or(0))
}

/// 80 to 120 % of a delay, so that what failed together does not come back together. By the message's name and not by chance, so that it can be told
/// again.
fn spread_out(delay_ms: i64, id: &EventId, attempts: u32) -> i64 {
    let digest = Sha256::digest(format!("{id} {attempts}"));
    let [first, second, ..] = <[u8; 32]>::from(digest);
    let share = i64::from(u16::from_be_bytes([first, second]));
    let (four_fifths, two_fifths) = (delay_ms / 5 * 4, delay_ms / 5 * 2);
    four_fifths.saturating_add(two_fifths.saturating_mul(share) / i64::from(u16::MAX))
}

/// What a `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3). At most a day; what cannot be read asks for nothing.
pub(super) fn retry_after_ms(value: &str, now_ms: i64) -> Option<i64> {
    let value = value.trim();
    let ms = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse::<i64>().map_or(RETRY_AFTER_MAX_MS, |seconds| seconds.saturating_mul(1000))
    } else {
        http_date_s(value)?.saturating_mul(1000).saturating_sub(now_ms)
    };
    Some(ms.clamp(0, RETRY_AFTER_MAX_MS))
}

/// Unix seconds of a date as HTTP writes it (RFC 9110, 5.6.7); its two obsolete forms are not read.
fn http_date_s(value: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = value.split_once(", ")?;
    let mut parts = date.split(' ');
    let (day, month, year, clock) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next() != Some("GMT") || parts.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month).and_then(|place| u8::try_from(place.saturating_add(1)).ok())?;
    let mut clock = clock.splitn(3, ':').map(|part| part.parse::<u8>().ok());
    let time = Time::from_hms(clock.next()??, clock.next()??, clock.next()??).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, Month::try_from(month).ok()?, day.parse().ok()?).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{DELAYS_MS, event_delay_ms, order_delay_ms, retry_after_ms};
    use crate::ids::EventId;

    fn id(number: u32) -> EventId {
        EventId::new(&format!("evt_{number}")).unwrap()
    }

    #[test]
    fn an_event_waits_by_the_table_give_or_take_a_fifth_and_is_given_up_after_it() {
        for (attempts, table_ms) in (1..).zip([5_000, 30_000, 120_000, 900_000, 3_600_000, 21_600_000, 86_400_000]) {
            let delays: BTreeSet<i64> = (0..200).map(|number| event_delay_ms(&id(number), attempts, None).unwrap()).collect();
            let (first, last) = (*delays.first().unwrap(), *delays.last().unwrap());
            assert!(first >= table_ms / 5 * 4 && last <= table_ms / 5 * 6, "{first} to {last} of {table_ms}");
            assert!(last - first > table_ms / 5, "spread out: {first} to {last} of {table_ms}");
            assert_eq!(event_delay_ms(&id(7), attempts, None), event_delay_ms(&id(7), attempts, None));
        }
        assert_eq!(event_delay_ms(&id(7), 8, None), None);
        assert_eq!(event_delay_ms(&id(7), 8, Some(1)), None, "no receiver can ask for more tries than there are");
    }

    #[test]
    fn an_order_is_tried_again_soon_for_as_long_as_it_takes() {
        for attempts in [3, 4, 8, 100, u32::MAX] {
            let delay_ms = order_delay_ms(&id(1), attempts, None);
            assert!((96_000..=144_000).contains(&delay_ms), "{attempts}: {delay_ms}");
        }
        assert!(order_delay_ms(&id(1), 1, None) <= DELAYS_MS[0] / 5 * 6);
    }

    #[test]
    fn what_a_receiver_asks_for_is_waited_for_at_least() {
        assert_eq!(event_delay_ms(&id(1), 1, Some(60_000)), Some(60_000));
        assert_eq!(order_delay_ms(&id(1), 1, Some(60_000)), 60_000);
        assert_eq!(event_delay_ms(&id(1), 1, Some(1)), event_delay_ms(&id(1), 1, None));
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date_and_a_day_at_most() {
        let now_ms = 784_111_777_000;
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120_000)),
            (" 7 ", Some(7_000)),
            ("86401", Some(86_400_000)),
            ("99999999999999999999", Some(86_400_000)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", Some(86_400_000)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov", None),
            ("Sun, 31 Feb 2094 08:49:37 GMT", None),
            ("Sun, 06 Nov 2094 08:49:61 GMT", None),
            ("Sun, 06 Nov 2094 08:49 GMT", None),
            ("Sun, 06 Nov 2094 08:49:37 CET", None),
        ] {
            assert_eq!(retry_after_ms(value, now_ms), expected, "{value:?}");
        }
    }
}
