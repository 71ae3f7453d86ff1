//! The wait for a backend's reply, while the request's body may still be on its way.

use std::pin::pin;

use futures::channel::oneshot;
use futures::future::{Either, select};

use super::{BodyError, Timer, within};
use crate::gateway::UnsendableReply;
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
    pub fn unsendable(reason: UnsendableReply) -> Self {
        Self::Backend(reason.problem())
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
        Either::Right((_, reply)) => match select(reply, pin!(C::sleep_ms(timeout_ms))).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => Err(ForwardError::timed_out()),
        },
    }
}
