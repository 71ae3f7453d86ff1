//! The body of a backend's reply.
//!
//! Reading it drives the connection it arrives on. At its end the connection goes back to the pool;
//! dropped earlier, the connection is closed. A reply that was cut short ends in an error, never in a clean end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use wasmtime_wasi_http::Error;

use super::connection::{Connection, Target};
use super::exchange::Exchange;
use super::pool::Pool;

pub(crate) struct ReplyBody {
    incoming: Incoming,
    /// `None` where a task drives the connection, and once it has ended or was given back.
    source: Option<(Connection, Arc<Pool>, Target)>,
    between_bytes_timeout: Duration,
    /// Set while a chunk is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    _exchange: Exchange,
}

impl ReplyBody {
    pub(crate) fn new(
        incoming: Incoming,
        source: Option<(Connection, Arc<Pool>, Target)>,
        between_bytes_timeout: Duration,
        exchange: Exchange,
    ) -> Self {
        let mut body = Self { incoming, source, between_bytes_timeout, deadline: None, _exchange: exchange };
        body.release_at_end();
        body
    }

    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let Some((connection, ..)) = &mut self.source else {
            return Poll::Pending;
        };
        if connection.poll_drive(context).is_ready() {
            self.source = None;
        }
        Pin::new(&mut self.incoming).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Error::from)))
    }

    fn release_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        if let Some((mut connection, pool, target)) = self.source.take()
            && connection.is_idle()
        {
            pool.put(&target, connection);
        }
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timeout = self.between_bytes_timeout;
        self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(context)
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.poll_incoming(context) {
            Poll::Pending => self.poll_deadline(context).map(|()| Some(Err(Error::ConnectionReadTimeout))),
            Poll::Ready(frame) => {
                self.deadline = None;
                match &frame {
                    Some(Ok(_)) => self.release_at_end(),
                    Some(Err(_)) => self.source = None,
                    None => self.release(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
