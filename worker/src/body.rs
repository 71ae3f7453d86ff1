//! Bodies as Workers have them: web streams.

use std::cell::Cell;
use std::convert::Infallible;

use js_sys::{Reflect, Uint8Array};
use tollgate::relay;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{ReadableStream, ReadableStreamDefaultReader, WritableStream, WritableStreamDefaultWriter};

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

/// A body that is arriving.
pub(crate) struct Incoming {
    reader: ReadableStreamDefaultReader,
    is_over: Cell<bool>,
}

impl Incoming {
    pub(crate) fn of(stream: &ReadableStream) -> Self {
        Self { reader: stream.get_reader().unchecked_into(), is_over: Cell::new(false) }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_over.get() {
            ignore(self.reader.cancel());
        }
    }
}

impl relay::Incoming for Incoming {
    type Trailers = Infallible;

    async fn next(&mut self, mut buffer: Vec<u8>) -> relay::Next<Infallible> {
        let read = JsFuture::from(self.reader.read()).await;
        let read =
            read.and_then(|read| Ok((Reflect::get(&read, &"done".into())?.is_truthy(), Reflect::get(&read, &"value".into())?)));
        match read {
            Ok((false, value)) => {
                let chunk: Uint8Array = value.unchecked_into();
                buffer.resize(chunk.length() as usize, 0);
                chunk.copy_to(&mut buffer);
                relay::Next::Chunk(buffer)
            }
            Ok((true, _)) => {
                self.is_over.set(true);
                relay::Next::End(None)
            }
            Err(_) => {
                self.is_over.set(true);
                relay::Next::BrokenOff
            }
        }
    }
}

/// Lets a promise end without anyone looking.
pub(crate) fn ignore(promise: js_sys::Promise) {
    wasm_bindgen_futures::spawn_local(async move {
        let _ = JsFuture::from(promise).await;
    });
}

/// A body that is leaving: its way in.
pub(crate) struct Outgoing(WritableStreamDefaultWriter);

impl Outgoing {
    /// Of a length that is declared, or as long as it gets; with what the runtime reads.
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
}

impl relay::Outgoing for Outgoing {
    type Trailers = Infallible;

    async fn write(&mut self, mut chunk: Vec<u8>) -> Option<Vec<u8>> {
        let written = JsFuture::from(self.0.write_with_chunk(&Uint8Array::from(chunk.as_slice()))).await;
        chunk.clear();
        written.is_ok().then_some(chunk)
    }

    async fn has_reader_left(&mut self) -> bool {
        // Only a write tells.
        false
    }

    async fn finish(self, _trailers: Option<Infallible>) {
        // A reader that has left needs no end.
        let _ = JsFuture::from(self.0.close()).await;
    }

    async fn abort(self) {
        ignore(self.0.abort_with_reason(&js_sys::Error::new("the body broke off").into()));
    }
}
