//! Content codings: a body that comes compressed, though the backend was asked for none, is decoded for the meter alone. The caller gets it as it came.
//!
//! What always holds: memory is bounded by the coding's window, of at most [`window::WINDOW_BYTES_MAX`], and time by [`DECODED_BYTES_MAX`]. The border:
//! gzip, deflate (zlib), brotli and zstd, one at a time. What comes otherwise is not read, so that the call is charged as one whose reply says no usage.

mod brotli;
mod input;
#[cfg(test)]
mod tests;
mod window;
mod zstd;

use std::fmt;
use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use self::brotli::Brotli;
use self::input::{Input, Stop};
use self::window::Window;
use self::zstd::Zstd;
use super::reply::BodyReader;

/// The most that is decoded: more is a reply that is made to cost time.
const DECODED_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// A body in its coding.
#[cfg_attr(
    target_pointer_width = "64",
    expect(clippy::large_enum_variant, reason = "there is one a call, and nearly every one is the large one")
)]
pub(super) enum CodedBody {
    /// None.
    Plain(BodyReader),
    /// gzip (RFC 1952).
    Gzip(Box<MultiGzDecoder<Decoded>>),
    /// deflate, which is zlib (RFC 9110, 8.4.1.2).
    Zlib(Box<ZlibDecoder<Decoded>>),
    /// brotli (RFC 7932) or zstd (RFC 8878).
    Stepped(Box<Stepped>),
}

/// Where decoded bytes go.
pub(super) struct Decoded {
    reader: BodyReader,
    bytes_left: u64,
}

/// A decoder that takes its input in whole steps.
trait Decoder {
    /// What has come, and what was decoded.
    fn parts(&mut self) -> (&mut Input, &mut Window);

    /// Does the next step, which writes at most half of what a window keeps to be handed on.
    fn step(&mut self, sink: &mut dyn Write) -> Result<(), Stop>;

    /// Decodes all of a chunk that can be. After an error there is nothing more to decode.
    fn feed(&mut self, chunk: &[u8], sink: &mut dyn Write) -> Result<(), Stop> {
        self.parts().0.push(chunk);
        let stop = loop {
            if let Err(stop) = self.step(sink) {
                break stop;
            }
            let (input, window) = self.parts();
            input.commit();
            if window.is_full() {
                window.flush(sink)?;
            }
        };
        let (input, window) = self.parts();
        input.rewind();
        window.flush(sink)?;
        if stop == Stop::Starved { Ok(()) } else { Err(stop) }
    }
}

/// Such a decoder, and where its bytes go.
pub(super) struct Stepped {
    decoder: Box<dyn Decoder>,
    decoded: Decoded,
}

impl Write for Decoded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes_left = self.bytes_left.checked_sub(length).ok_or(io::ErrorKind::FileTooLarge)?;
        self.reader.feed(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CodedBody {
    /// A plain body's reader, behind a coding.
    pub(super) fn coded(self, encoding: Option<&str>) -> Self {
        let encoding = encoding.unwrap_or_default().trim().to_ascii_lowercase();
        let Self::Plain(reader) = self else { return self };
        let decoded = |reader: BodyReader| Decoded { reader: reader.without_gate(), bytes_left: DECODED_BYTES_MAX };
        let stepped = |decoder, decoded| Self::Stepped(Box::new(Stepped { decoder, decoded }));
        match encoding.as_str() {
            "" | "identity" => Self::Plain(reader),
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(decoded(reader)))),
            "deflate" => Self::Zlib(Box::new(ZlibDecoder::new(decoded(reader)))),
            "br" => stepped(Box::new(Brotli::new()), decoded(reader)),
            "zstd" => stepped(Box::new(Zstd::new()), decoded(reader)),
            _ => Self::Plain(reader.opaque()),
        }
    }

    /// Reads a chunk as it came. After an error of its coding nothing more is read.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        // Flushed so that what has come can be read, wherever the body ends.
        let is_refused = match self {
            Self::Plain(reader) => return reader.feed(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()).is_err(),
            Self::Zlib(decoder) => decoder.write_all(chunk).and_then(|()| decoder.flush()).is_err(),
            Self::Stepped(stepped) => {
                let Stepped { decoder, decoded } = &mut **stepped;
                decoded.bytes_left > 0 && decoder.feed(chunk, decoded).is_err()
            }
        };
        if is_refused {
            match self {
                Self::Plain(_) => {}
                Self::Gzip(decoder) => decoder.get_mut().bytes_left = 0,
                Self::Zlib(decoder) => decoder.get_mut().bytes_left = 0,
                Self::Stepped(stepped) => stepped.decoded.bytes_left = 0,
            }
        }
    }

    pub(super) fn reader(&self) -> &BodyReader {
        match self {
            Self::Plain(reader) => reader,
            Self::Gzip(decoder) => &decoder.get_ref().reader,
            Self::Zlib(decoder) => &decoder.get_ref().reader,
            Self::Stepped(stepped) => &stepped.decoded.reader,
        }
    }
}

impl fmt::Debug for CodedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.reader(), f)
    }
}
