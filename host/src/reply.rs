//! The body of a reply on its way to the caller.
//!
//! A reply whose instance failed before ending it must reach the caller as cut, not as whole: the
//! stream of a dead instance just ends, so its end is checked here. What was sent before an error is flushed first.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::instances::Placement;

pub(crate) struct Reply {
    body: WasiBody,
    placement: Placement,
    /// Found while data may still be unflushed; told at the next poll.
    error: Option<Error>,
}

impl Reply {
    pub(crate) fn of_guest(body: WasiBody, placement: Placement) -> Self {
        Self { body, placement, error: None }
    }

    /// Of the runner itself.
    pub(crate) fn of_runner(text: String) -> Self {
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        Self::of_guest(body, Placement::default())
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let error = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Err(error))) => error,
            Poll::Ready(None) if self.placement.get().is_some_and(|failed| failed.load(Ordering::Acquire)) => {
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
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
