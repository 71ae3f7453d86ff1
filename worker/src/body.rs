//! Bodies on the move: read whole where a call needs them before admission, else moved chunk by chunk without being copied.

use js_sys::{Reflect, Uint8Array};
use tollgate::problem::{Code, Problem};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, ReadableStreamDefaultReader, WritableStream, WritableStreamDefaultWriter};

use crate::clock::within;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(extends = js_sys::Object)]
    type IdentityTransformStream;

    #[wasm_bindgen(constructor, catch)]
    fn new() -> Result<IdentityTransformStream, JsValue>;

    #[wasm_bindgen(extends = js_sys::Object)]
    type FixedLengthStream;

    #[wasm_bindgen(constructor, catch)]
    fn new(length: f64) -> Result<FixedLengthStream, JsValue>;
}

/// Why a body could not be taken over. The caller causes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is larger than the product allows.
    TooLarge,
    /// It paused for too long.
    Idle,
    /// It broke off.
    Cut,
}

impl BodyError {
    pub(crate) fn problem(self) -> Problem {
        match self {
            Self::TooLarge => Problem::new(Code::BodyTooLarge, "The request body is larger than is accepted here."),
            Self::Idle => Problem::new(Code::RequestTimeout, "The request body paused for too long."),
            Self::Cut => Problem::new(Code::Invalid, "The request body broke off."),
        }
    }
}

/// A body that is arriving.
pub(crate) struct Incoming(ReadableStreamDefaultReader);

impl Incoming {
    pub(crate) fn of(stream: &ReadableStream) -> Self {
        Self(stream.get_reader().unchecked_into())
    }

    /// The next chunk; none at the end of a whole body.
    pub(crate) async fn next(&self, idle_timeout_ms: i64) -> Result<Option<Uint8Array>, BodyError> {
        let read = within(JsFuture::from(self.0.read()), idle_timeout_ms).await.ok_or(BodyError::Idle)?;
        let read = read.map_err(|_| BodyError::Cut)?;
        let is_done = Reflect::get(&read, &"done".into()).is_ok_and(|done| done.is_truthy());
        let value = Reflect::get(&read, &"value".into()).map_err(|_| BodyError::Cut)?;
        Ok((!is_done).then(|| value.unchecked_into()))
    }

    /// Has the sender stop.
    pub(crate) fn cancel(&self) {
        ignore(self.0.cancel());
    }
}

/// Lets a promise end without anyone looking.
fn ignore(promise: js_sys::Promise) {
    wasm_bindgen_futures::spawn_local(async move {
        let _ = JsFuture::from(promise).await;
    });
}

/// Reads a body to its end.
pub(crate) async fn read_within(stream: &ReadableStream, length_max: u64, idle_timeout_ms: i64) -> Result<Vec<u8>, BodyError> {
    let incoming = Incoming::of(stream);
    let mut body = Vec::new();
    while let Some(chunk) = incoming.next(idle_timeout_ms).await? {
        if body.len() as u64 + u64::from(chunk.length()) > length_max {
            incoming.cancel();
            return Err(BodyError::TooLarge);
        }
        body.extend(chunk.to_vec());
    }
    Ok(body)
}

/// Reads a body to its end, with no more patience for each pause than a minute.
pub(crate) async fn read_whole(stream: &ReadableStream, length_max: u64) -> Result<Vec<u8>, BodyError> {
    read_within(stream, length_max, 60_000).await
}

/// A body that is leaving: its way in, and what the runtime reads.
pub(crate) struct Outgoing(WritableStreamDefaultWriter);

impl Outgoing {
    /// Of a length that is declared, or as long as it gets.
    pub(crate) fn new(length: Option<u64>) -> Result<(Self, ReadableStream), JsValue> {
        #[expect(clippy::cast_precision_loss, reason = "no body is that long")]
        let stream: JsValue = match length {
            Some(length) => FixedLengthStream::new(length as f64)?.into(),
            None => IdentityTransformStream::new()?.into(),
        };
        let readable: ReadableStream = Reflect::get(&stream, &"readable".into())?.unchecked_into();
        let writable: WritableStream = Reflect::get(&stream, &"writable".into())?.unchecked_into();
        Ok((Self(writable.get_writer()?), readable))
    }

    /// False where nobody reads any further, or not in time.
    pub(crate) async fn write(&self, chunk: &JsValue, timeout_ms: i64) -> bool {
        within(JsFuture::from(self.0.write_with_chunk(chunk)), timeout_ms).await.is_some_and(|written| written.is_ok())
    }

    /// Ends the body as whole.
    pub(crate) async fn finish(self) {
        // A reader that has left needs no end.
        let _ = JsFuture::from(self.0.close()).await;
    }

    /// Ends the body so that nobody can take it for whole.
    pub(crate) fn abort(self) {
        ignore(self.0.abort_with_reason(&js_sys::Error::new("the body broke off").into()));
    }
}

/// Moves a request's body to the backend, counting it.
pub(crate) async fn upload(
    from: &Incoming,
    to: Outgoing,
    first: Option<Uint8Array>,
    length_max: u64,
    idle_timeout_ms: i64,
) -> Result<(), BodyError> {
    let mut total: u64 = 0;
    let mut chunk = first;
    loop {
        if let Some(chunk) = chunk.take() {
            total += u64::from(chunk.length());
            if total > length_max {
                to.abort();
                from.cancel();
                return Err(BodyError::TooLarge);
            }
            // A backend that reads no further may have answered already, and its answer counts.
            if !to.write(&chunk, idle_timeout_ms).await {
                to.abort();
                return Ok(());
            }
        }
        match from.next(idle_timeout_ms).await {
            Ok(Some(next)) => chunk = Some(next),
            Ok(None) => {
                to.finish().await;
                return Ok(());
            }
            Err(error) => {
                to.abort();
                return Err(error);
            }
        }
    }
}

/// A reply's body, moved to the caller but for its end.
pub(crate) struct Moved {
    from: Incoming,
    /// The chunk that completes a declared length, which waits.
    last: Result<Option<Uint8Array>, BrokenOff>,
}

/// Moves a reply's body to the caller, all but its end: of a body of known length the last chunk, of another the end of the message.
pub(crate) async fn download(from: Incoming, to: Outgoing, length: Option<u64>, idle_timeout_ms: i64) -> (Moved, Outgoing) {
    let last = move_all_but_last(&from, &to, length, idle_timeout_ms).await;
    if last.is_err() {
        from.cancel();
    }
    (Moved { from, last }, to)
}

impl Moved {
    /// Ends the body: as whole only where it is, and the call is settled.
    pub(crate) async fn finish(self, to: Outgoing, is_settled: bool, idle_timeout_ms: i64) {
        match self.last {
            Ok(None) if is_settled => to.finish().await,
            Ok(Some(chunk)) if is_settled && to.write(&chunk, idle_timeout_ms).await => {
                match self.from.next(idle_timeout_ms).await {
                    Ok(_) => to.finish().await,
                    Err(_) => to.abort(),
                }
            }
            _ => to.abort(),
        }
    }
}

/// A body whose rest nobody will have: the backend broke off or paused for too long, or the caller left or reads no further.
struct BrokenOff;

/// Moves chunks on until the one that completes the declared length, which is returned, or until the end.
async fn move_all_but_last(
    from: &Incoming,
    to: &Outgoing,
    length: Option<u64>,
    idle_timeout_ms: i64,
) -> Result<Option<Uint8Array>, BrokenOff> {
    let mut moved: u64 = 0;
    while let Some(chunk) = from.next(idle_timeout_ms).await.map_err(|_| BrokenOff)? {
        moved += u64::from(chunk.length());
        if length.is_some_and(|length| moved >= length) {
            return Ok(Some(chunk));
        }
        if !to.write(&chunk, idle_timeout_ms).await {
            return Err(BrokenOff);
        }
    }
    if length.is_some_and(|length| moved < length) { Err(BrokenOff) } else { Ok(None) }
}
