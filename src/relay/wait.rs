//! The wait for a backend's reply, while the request's body may still be on its way.

use std::pin::pin;

use futures::channel::oneshot;
use futures::future::{Either, select};

use super::{BodyError, Timer, within};
use crate::problem::{Code, Problem};

/// How long the upload's own verdict is waited for after the backend's request has failed.
const UPLOAD_VERDICT_MS: i64 = 100;

/// Why there is no reply that a caller can be given. `R` is an error as the edge's runtime has it.
#[derive(Debug)]
pub enum ForwardError<R> {
    /// The backend was not reached, broke off before its headers were complete, did not answer in time, or answered what cannot be passed on. May be retried.
    Backend(Problem),
    /// The caller's body was at fault, and the backend's request was cut.
    Body(BodyError),
    /// The runtime refused the request. The log has it; no retry helps.
    Runtime(R),
}

impl<R> ForwardError<R> {
    /// There was no reply.
    #[must_use]
    pub fn unreachable() -> Self {
        Self::Backend(Problem::new(Code::BackendUnreachable, "The backend could not be reached. Nothing was charged."))
    }

    /// There was one that cannot be passed on.
    #[must_use]
    pub fn unsendable() -> Self {
        let detail = "The backend's reply cannot be passed on. Nothing was charged.";
        Self::Backend(Problem::new(Code::BackendUnreachable, detail))
    }

    /// There was no reply in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::Backend(Problem::new(Code::BackendTimeout, "The backend did not answer in time. Nothing was charged."))
    }
}

impl<R> From<R> for ForwardError<R> {
    fn from(error: R) -> Self {
        Self::Runtime(error)
    }
}

/// Waits for the reply to a request whose body is still being moved: without an end while it is, and for this long after it was.
///
/// # Errors
/// As the reply's, or where the body is at fault: its request was cut for it, so that the backend's own error says nothing.
pub async fn while_arriving<C: Timer, T, R>(
    reply: impl Future<Output = Result<T, ForwardError<R>>>,
    uploaded: oneshot::Receiver<Result<(), BodyError>>,
    timeout_ms: i64,
) -> Result<T, ForwardError<R>> {
    match select(pin!(reply), uploaded).await {
        Either::Left((Err(ForwardError::Backend(problem)), uploaded)) => {
            match within::<C, _>(uploaded, UPLOAD_VERDICT_MS).await {
                Some(Ok(Err(error))) => Err(ForwardError::Body(error)),
                _ => Err(ForwardError::Backend(problem)),
            }
        }
        Either::Left((reply, _)) => reply,
        Either::Right((Ok(Err(error)), _)) => Err(ForwardError::Body(error)),
        Either::Right((_, reply)) => within::<C, _>(reply, timeout_ms).await.unwrap_or_else(|| Err(ForwardError::timed_out())),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use futures::channel::oneshot;

    use super::{ForwardError, while_arriving};
    use crate::book::tests::block_on;
    use crate::problem::{Code, Problem};
    use crate::relay::BodyError;
    use crate::relay::tests::Rung;

    type Replied = Result<u32, ForwardError<()>>;

    /// What the wait for a reply that is there at this look ends with, its body's end told before.
    fn waited(uploaded: Result<(), BodyError>, look: u32, reply: fn(u32) -> Replied) -> Result<u32, Option<Code>> {
        let (verdict, upload) = oneshot::channel();
        verdict.send(uploaded).unwrap();
        let mut looks = 0;
        let arriving = poll_fn(move |_| {
            looks += 1;
            if looks == look { Poll::Ready(reply(look)) } else { Poll::Pending }
        });
        block_on(while_arriving::<Rung, _, ()>(arriving, upload, 10)).map_err(|error| match error {
            ForwardError::Backend(problem) => Some(problem.code),
            ForwardError::Body(error) => Some(error.problem().code),
            ForwardError::Runtime(()) => None,
        })
    }

    #[test]
    fn a_reply_that_was_there_before_the_timer_was_looked_at_is_in_time() {
        assert_eq!(waited(Ok(()), 1, Ok), Ok(1));
        assert_eq!(waited(Ok(()), 4, Ok), Ok(4));
        assert_eq!(waited(Ok(()), 100, Ok), Err(Some(Code::BackendTimeout)));
    }

    #[test]
    fn a_request_that_was_cut_for_its_bodys_sake_fails_for_it() {
        let unreachable = |_| Err(ForwardError::Backend(Problem::new(Code::BackendUnreachable, "")));
        assert_eq!(waited(Err(BodyError::TooLarge), 1, unreachable), Err(Some(Code::BodyTooLarge)));
        assert_eq!(waited(Err(BodyError::TooLarge), 100, Ok), Err(Some(Code::BodyTooLarge)));
        assert_eq!(waited(Ok(()), 1, unreachable), Err(Some(Code::BackendUnreachable)));
    }
}
