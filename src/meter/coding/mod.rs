//! Content codings: a body that comes compressed, though the backend was asked for none, is decoded for the meter alone. The caller gets it as it came.
//!
//! What always holds: memory is bounded by the coding's window of 32 KiB, and time by [`DECODED_BYTES_MAX`]. The border: gzip and deflate (zlib). What
//! comes otherwise is not read, so that the call is charged as one whose reply says no usage.

mod brotli;
mod context;
mod fse;
mod huffman;
mod input;
mod prefix_code;
mod sequences;
#[cfg(test)]
mod tests;
mod window;
mod words;
mod zstd;
mod zstd_literals;

use std::fmt;
use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

use self::brotli::Brotli;
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
    /// brotli (RFC 7932).
    Brotli(Box<(Brotli, Decoded)>),
    /// zstd (RFC 8878).
    Zstd(Box<(Zstd, Decoded)>),
}

/// Where decoded bytes go.
pub(super) struct Decoded {
    reader: BodyReader,
    bytes_left: u64,
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
        match encoding.as_str() {
            "" | "identity" => Self::Plain(reader),
            "gzip" | "x-gzip" => Self::Gzip(Box::new(MultiGzDecoder::new(decoded(reader)))),
            "deflate" => Self::Zlib(Box::new(ZlibDecoder::new(decoded(reader)))),
            "br" => Self::Brotli(Box::new((Brotli::new(), decoded(reader)))),
            "zstd" => Self::Zstd(Box::new((Zstd::new(), decoded(reader)))),
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
            Self::Brotli(parts) => {
                let (decoder, decoded) = &mut **parts;
                decoded.bytes_left > 0 && decoder.feed(chunk, decoded).is_err()
            }
            Self::Zstd(parts) => {
                let (decoder, decoded) = &mut **parts;
                decoded.bytes_left > 0 && decoder.feed(chunk, decoded).is_err()
            }
        };
        if is_refused {
            match self {
                Self::Plain(_) => {}
                Self::Gzip(decoder) => decoder.get_mut().bytes_left = 0,
                Self::Zlib(decoder) => decoder.get_mut().bytes_left = 0,
                Self::Brotli(parts) => parts.1.bytes_left = 0,
                Self::Zstd(parts) => parts.1.bytes_left = 0,
            }
        }
    }

    pub(super) fn reader(&self) -> &BodyReader {
        match self {
            Self::Plain(reader) => reader,
            Self::Gzip(decoder) => &decoder.get_ref().reader,
            Self::Zlib(decoder) => &decoder.get_ref().reader,
            Self::Brotli(parts) => &parts.1.reader,
            Self::Zstd(parts) => &parts.1.reader,
        }
    }
}

impl fmt::Debug for CodedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.reader(), f)
    }
}
