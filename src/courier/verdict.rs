//! What an answer to an event means for its delivery.

use super::schedule::retry_after_ms;
use super::{Reply, Unreached};

/// What becomes of a delivery after a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It arrived.
    Delivered,
    /// The receiver is gone, and wants nothing more.
    Gone,
    /// It did not arrive.
    Failed(Failure),
}

/// A try that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What was wrong, for people.
    pub(super) error: String,
    /// How long the receiver asks to be left alone.
    pub(super) retry_after_ms: Option<i64>,
}

impl Failure {
    /// A failure of which there is nothing more to say.
    pub(super) fn of(error: impl Into<String>) -> Self {
        Self { error: error.into(), retry_after_ms: None }
    }

    /// An answer that is no arrival. Redirects are one too: whoever answers them may not be whom the merchant named.
    pub(super) fn of_reply(reply: &Reply, now_ms: i64) -> Self {
        let retry_after_ms = reply.retry_after.as_deref().and_then(|value| retry_after_ms(value, now_ms));
        Self { error: format!("status {}", reply.status), retry_after_ms }
    }
}

impl From<&Unreached> for Failure {
    fn from(unreached: &Unreached) -> Self {
        Self::of(unreached.to_string())
    }
}

/// The meaning of an answer to an event.
pub(super) fn of_event(replied: &Result<Reply, Unreached>, now_ms: i64) -> Verdict {
    match replied {
        Ok(reply) if (200..300).contains(&reply.status) => Verdict::Delivered,
        Ok(reply) if reply.status == 410 => Verdict::Gone,
        Ok(reply) => Verdict::Failed(Failure::of_reply(reply, now_ms)),
        Err(unreached) => Verdict::Failed(unreached.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Verdict, of_event};
    use crate::courier::{Reply, Unreached};

    fn reply(status: u16, retry_after: Option<&str>) -> Result<Reply, Unreached> {
        Ok(Reply { status, retry_after: retry_after.map(str::to_owned), body: None })
    }

    #[test]
    fn only_2xx_is_an_arrival_and_only_410_ends_all_posting() {
        for status in [200, 201, 204, 299] {
            assert_eq!(of_event(&reply(status, None), 0), Verdict::Delivered, "{status}");
        }
        for status in [101, 301, 302, 307, 308, 400, 401, 404, 409, 429, 500, 503] {
            assert_eq!(of_event(&reply(status, None), 0), Verdict::Failed(Failure::of(format!("status {status}"))), "{status}");
        }
        assert_eq!(of_event(&reply(410, Some("5")), 0), Verdict::Gone);
        assert_eq!(of_event(&Err(Unreached::TimedOut), 0), Verdict::Failed(Failure::of("no answer in time")));
    }

    #[test]
    fn a_failure_says_how_long_the_receiver_wants_to_be_left_alone() {
        let failure = Failure { error: "status 503".to_owned(), retry_after_ms: Some(7_000) };
        assert_eq!(of_event(&reply(503, Some("7")), 0), Verdict::Failed(failure));
    }
}
