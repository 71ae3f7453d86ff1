//! The body of a reply on its way to the caller.
//!
//! A reply whose instance failed before ending it must reach the caller as cut, not as whole: the
//! stream of a dead instance just ends, so its end is checked here. What was sent before an error is flushed first.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::instances::Placement;

pub(crate) struct Reply {
    /// `None` where there is no body.
    body: Option<(WasiBody, Placement)>,
    /// Found while data may still be unflushed; told at the next poll.
    error: Option<Error>,
}

impl Reply {
    pub(crate) fn of_guest(body: WasiBody, placement: Placement) -> Self {
        Self { body: Some((body, placement)), error: None }
    }

    pub(crate) fn empty() -> Self {
        Self { body: None, error: None }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some((body, placement)) = &mut self.body else {
            return Poll::Ready(None);
        };
        let error = match Pin::new(body).poll_frame(context) {
            Poll::Ready(Some(Err(error))) => error,
            Poll::Ready(None) if placement.get().is_some_and(|failed| failed.load(Ordering::Acquire)) => {
                Error::InternalError(None)
            }
            other => return other,
        };
        // hyper flushes when a body has nothing ready, but not when it fails.
        self.error = Some(error);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
