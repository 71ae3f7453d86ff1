//! The last bytes that were decoded, which the next ones repeat.
//!
//! What always holds: memory is that of the bytes that were written, at most [`WINDOW_BYTES_MAX`].

use std::io::Write;

use super::input::Stop;

/// The most that a body may refer back. Encoders choose this much or less unless they are told otherwise.
pub(super) const WINDOW_BYTES_MAX: usize = 1 << 22;

/// The most that is written between two calls of [`Window::flush`].
pub(super) const UNFLUSHED_BYTES_MAX: usize = 1 << 18;

const PAGE_BYTES: usize = 1 << 16;

/// The longest piece of a repetition that is written at once.
const PIECE_BYTES: usize = 64;

/// A ring of pages, which come when they are first written to: nearly every body is smaller than its window.
pub(super) struct Window {
    pages: Vec<Box<[u8; PAGE_BYTES]>>,
    /// A power of two.
    ring_bytes: usize,
    written: u64,
    flushed: u64,
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), ring_bytes: UNFLUSHED_BYTES_MAX, written: 0, flushed: 0 }
    }

    /// Begins anew with bytes that may refer back by `length_bytes`, and none before them.
    pub(super) fn restart(&mut self, length_bytes: usize, sink: &mut dyn Write) -> Result<(), Stop> {
        if length_bytes > WINDOW_BYTES_MAX {
            return Err(Stop::Refused);
        }
        self.flush(sink)?;
        *self = Self::new();
        self.ring_bytes = self.ring_bytes.max(length_bytes.next_power_of_two());
        Ok(())
    }

    /// How many bytes were written.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = self.place(self.written);
            if at / PAGE_BYTES >= self.pages.len() {
                self.pages.push(Box::new([0; PAGE_BYTES]));
            }
            let Some(page) = self.pages.get_mut(at / PAGE_BYTES).and_then(|page| page.get_mut(at % PAGE_BYTES..)) else { return };
            let (now, later) = bytes.split_at(bytes.len().min(page.len()));
            page.split_at_mut(now.len()).0.copy_from_slice(now);
            self.written += now.len() as u64;
            bytes = later;
        }
    }

    /// Writes a byte so many times.
    pub(super) fn fill(&mut self, byte: u8, length: usize) {
        if length > 0 {
            self.write(&[byte]);
            self.repeat(1, length - 1);
        }
    }

    /// Writes again what was written `distance` bytes ago, which must be above 0 and within the window.
    pub(super) fn repeat(&mut self, distance: usize, mut length: usize) {
        while length > 0 {
            let mut piece = [0; PIECE_BYTES];
            let length_now = length.min(PIECE_BYTES);
            let source = self.bytes_at(self.written - distance as u64);
            let mut filled = source.len().min(distance).min(length_now);
            piece.split_at_mut(filled).0.copy_from_slice(source.split_at(filled).0);
            if filled == 0 {
                return;
            }
            if filled == distance {
                // What is repeated is itself part of the repetition.
                while filled < length_now {
                    let (from, to) = piece.split_at_mut(filled);
                    let more = from.len().min(to.len());
                    to.split_at_mut(more).0.copy_from_slice(from.split_at(more).0);
                    filled = length_now.min(filled + more);
                }
            }
            self.write(piece.get(..filled).unwrap_or_default());
            length -= filled;
        }
    }

    /// The byte that was written `distance` bytes ago; 0 before the first one.
    pub(super) fn byte(&self, distance: u64) -> u8 {
        self.written.checked_sub(distance).and_then(|position| self.bytes_at(position).first()).copied().unwrap_or(0)
    }

    /// Hands on what was not handed on yet.
    pub(super) fn flush(&mut self, sink: &mut dyn Write) -> Result<(), Stop> {
        while self.flushed < self.written {
            let bytes = self.bytes_at(self.flushed);
            let length = bytes.len().min(usize::try_from(self.written - self.flushed).unwrap_or(usize::MAX));
            sink.write_all(bytes.get(..length).unwrap_or_default()).map_err(|_| Stop::Refused)?;
            self.flushed += length as u64;
        }
        Ok(())
    }

    /// True where [`Window::flush`] is due before a step that writes at most half of [`UNFLUSHED_BYTES_MAX`].
    pub(super) const fn is_full(&self) -> bool {
        self.written - self.flushed >= (UNFLUSHED_BYTES_MAX / 2) as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "what is cut off are whole rings")]
    const fn place(&self, position: u64) -> usize {
        position as usize & (self.ring_bytes - 1)
    }

    /// The bytes from a position to the end of its page.
    fn bytes_at(&self, position: u64) -> &[u8] {
        let at = self.place(position);
        self.pages.get(at / PAGE_BYTES).and_then(|page| page.get(at % PAGE_BYTES..)).unwrap_or_default()
    }
}
