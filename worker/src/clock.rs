//! Time, as Workers have it: it stands still between two waits.

use std::time::Duration;

use tollgate::relay::Timer;

/// Unix milliseconds.
pub(crate) fn now_ms() -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "whole milliseconds, far below 2^53")]
    let now_ms = js_sys::Date::now() as i64;
    now_ms
}

/// Waits.
pub(crate) async fn sleep_ms(ms: i64) {
    // The runtime's timers take 31 bits.
    let ms = u64::try_from(ms.clamp(0, 0x7fff_ffff)).unwrap_or(0);
    worker::Delay::from(Duration::from_millis(ms)).await;
}

/// Time, for bodies.
pub(crate) struct Clock;

impl Timer for Clock {
    fn elapsed_ms() -> i64 {
        now_ms()
    }

    fn sleep_ms(duration_ms: i64) -> impl Future<Output = ()> {
        sleep_ms(duration_ms)
    }
}

/// Microseconds since a time in unix milliseconds.
pub(crate) fn elapsed_us(since_ms: i64) -> u64 {
    u64::try_from(now_ms().saturating_sub(since_ms)).unwrap_or(0).saturating_mul(1000)
}
