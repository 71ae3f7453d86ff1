//! Bodies as WASI has them: a stream of bytes and, beside it, the future of how it ended.

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter};
use wasip3::{wit_future, wit_stream};

use super::instance::{monotonic_ns, sleep_ms};
use super::wire::{BodyEnding, accepted};
use crate::relay;

/// How much is read at once.
const CHUNK_BYTES_MAX: usize = 64 * 1024;

/// Time, for bodies.
pub(super) struct Clock;

impl relay::Timer for Clock {
    fn elapsed_ms() -> i64 {
        i64::try_from(monotonic_ns() / 1_000_000).unwrap_or(i64::MAX)
    }

    fn sleep_ms(duration_ms: i64) -> impl Future<Output = ()> {
        sleep_ms(duration_ms)
    }
}

/// A body that is arriving.
pub(super) struct Incoming {
    chunks: StreamReader<u8>,
    /// None once it was read.
    ending: Option<FutureReader<BodyEnding>>,
}

impl Incoming {
    pub(super) fn of_request(request: Request) -> Self {
        let (chunks, ending) = Request::consume_body(request, accepted());
        Self { chunks, ending: Some(ending) }
    }

    pub(super) fn of_reply(reply: Response) -> Self {
        let (chunks, ending) = Response::consume_body(reply, accepted());
        Self { chunks, ending: Some(ending) }
    }
}

impl relay::Incoming for Incoming {
    type Trailers = Fields;

    async fn next(&mut self, mut buffer: Vec<u8>) -> relay::Next<Self::Trailers> {
        buffer.reserve(CHUNK_BYTES_MAX);
        match self.chunks.read(buffer).await {
            (StreamResult::Complete(_), chunk) => return relay::Next::Chunk(chunk),
            (_, chunk) if !chunk.is_empty() => return relay::Next::Chunk(chunk),
            _ => {}
        }
        // The runtime tells how a body ended to whoever has read its end.
        let Some(ending) = self.ending.take() else { return relay::Next::BrokenOff };
        match ending.await {
            Ok(trailers) => relay::Next::End(trailers),
            Err(_) => relay::Next::BrokenOff,
        }
    }
}

/// A body that is leaving.
pub(super) struct Outgoing {
    chunks: StreamWriter<u8>,
    ending: FutureWriter<BodyEnding>,
}

impl Outgoing {
    /// With what the runtime reads. Where nobody ends it, it has ended like this.
    pub(super) fn new(unfinished: fn() -> BodyEnding) -> (Self, StreamReader<u8>, FutureReader<BodyEnding>) {
        let (ending, ending_reader) = wit_future::new::<BodyEnding>(unfinished);
        let (chunks, chunk_reader) = wit_stream::new();
        (Self { chunks, ending }, chunk_reader, ending_reader)
    }

    /// To the caller.
    pub(super) fn of_reply() -> (Self, StreamReader<u8>, FutureReader<BodyEnding>) {
        Self::new(|| Err(ErrorCode::HttpResponseIncomplete))
    }
}

impl relay::Outgoing for Outgoing {
    type Trailers = Fields;

    async fn write(&mut self, chunk: Vec<u8>) -> Option<Vec<u8>> {
        let left = self.chunks.write_all(chunk).await;
        left.is_empty().then_some(left)
    }

    async fn has_reader_left(&mut self) -> bool {
        // A write of nothing says whether anyone would read something.
        matches!(self.chunks.write(Vec::new()).await, (StreamResult::Dropped, _))
    }

    async fn finish(self, trailers: Option<Fields>) {
        drop(self.chunks);
        // A reader that has left needs no end.
        let _ = self.ending.write(Ok(trailers)).await;
    }

    async fn abort(self) {
        // The reason must be there before the end of the chunks is seen.
        let ending = self.ending.write(Err(ErrorCode::HttpResponseIncomplete));
        drop(self.chunks);
        let _ = ending.await;
    }
}
