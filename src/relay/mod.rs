//! Bodies on the move between caller and backend: read whole, passed on while they are counted or read, drained, and ended (contract sections 2 and 3).
//!
//! What always holds: nothing is kept of a body that passes but the chunk in hand; every wait has an end; a body that broke off is never ended as if it
//! were whole. The border: sockets and timers are an edge's, behind [`Incoming`], [`Outgoing`] and [`Timer`]; what bytes mean is known in `meter`, what
//! they cost in `gateway`.

mod reply;
mod request;
mod wait;

use std::pin::pin;

use futures::FutureExt;
use futures::future::{Either, select};

use crate::step_aside::step_aside;

pub use reply::{Limits, Passed, ReplyRelay};
pub use request::{BodyError, look_ahead, read_whole, upload};
pub use wait::{ForwardError, while_arriving};

/// Time, as an edge has it.
pub trait Timer {
    /// Milliseconds on a clock that a person does not set back, since whenever.
    fn elapsed_ms() -> i64;

    /// Waits.
    fn sleep_ms(duration_ms: i64) -> impl Future<Output = ()>;
}

/// What comes next of a body.
#[derive(Debug)]
pub enum Next<T> {
    /// These bytes.
    Chunk(Vec<u8>),
    /// Its end as whole, with the fields that its sender put after it.
    End(Option<T>),
    /// Its sender cut or reset it.
    BrokenOff,
}

/// A body that is arriving. Who drops it before its end wants no more of it.
pub trait Incoming {
    /// The fields after a body, as the edge has them.
    type Trailers;

    /// What comes next, however long it takes. A chunk may take the place of this buffer, which is empty.
    fn next(&mut self, buffer: Vec<u8>) -> impl Future<Output = Next<Self::Trailers>>;
}

/// A body that is leaving.
pub trait Outgoing {
    /// The fields after a body, as the edge has them.
    type Trailers;

    /// Hands a chunk over and gives its buffer back, emptied; none where nobody reads any further.
    fn write(&mut self, chunk: Vec<u8>) -> impl Future<Output = Option<Vec<u8>>>;

    /// Whether the reader is known to have left, as far as the edge can tell without writing.
    fn has_reader_left(&mut self) -> impl Future<Output = bool>;

    /// Ends the body as whole.
    fn finish(self, trailers: Option<Self::Trailers>) -> impl Future<Output = ()>;

    /// Ends the body so that nobody can take it for whole.
    fn abort(self) -> impl Future<Output = ()>;
}

/// How often a timer that rang gives what was waited for a last look. Where a component stood still for longer than the timer, for the ledger's lock say, it is
/// told of one thing after the other, and maybe of the timer first.
const LAST_LOOKS: usize = 4;

/// Waits for something, but not longer than this. The timer is set only where it is not ready at once.
pub async fn within<C: Timer, T>(future: impl Future<Output = T>, timeout_ms: i64) -> Option<T> {
    let mut future = pin!(future);
    if let Some(value) = future.as_mut().now_or_never() {
        return Some(value);
    }
    if let Either::Left((value, _)) = select(future.as_mut(), pin!(C::sleep_ms(timeout_ms))).await {
        return Some(value);
    }
    for _ in 0..LAST_LOOKS {
        step_aside().await;
        if let Some(value) = future.as_mut().now_or_never() {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::{Timer, within};
    use crate::book::tests::block_on;

    /// Rings at once.
    pub(crate) struct Rung;

    impl Timer for Rung {
        fn elapsed_ms() -> i64 {
            0
        }

        async fn sleep_ms(_: i64) {}
    }

    #[test]
    fn what_had_arrived_before_the_timer_was_looked_at_is_in_time() {
        let ready_at_look = |look: u32| {
            let mut looks = 0;
            let arriving = poll_fn(move |_| {
                looks += 1;
                if looks == look { Poll::Ready(looks) } else { Poll::Pending }
            });
            block_on(within::<Rung, _>(arriving, 10))
        };
        assert_eq!([1, 2, 3, 5].map(ready_at_look), [1, 2, 3, 5].map(Some));
        assert_eq!(ready_at_look(100), None);
    }
}
