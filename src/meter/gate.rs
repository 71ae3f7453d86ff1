//! Keeps the usage-only event of a stream from a caller that did not ask for it.
//!
//! OpenAI-style backends that are asked for usage send it as one more event, with an empty `choices` and a `usage` that is an object. What always
//! holds: all other bytes go on, whole and in order, with the chunk in which they came. Only the bytes of an event that may still be that one wait for
//! more: from its first field to where its `choices` turn out not to be empty or its `usage` not an object, which in what is sent on other events
//! comes before the text. They are at most [`HELD_BYTES_MAX`]; a larger event goes on whatever it is. Comments that precede an event do not wait.

use std::ops::Range;

use super::scanner::{Scanner, Shape};
use super::sse::{Piece, SseReader};

/// The most that waits. A usage-only event has a few hundred bytes.
const HELD_BYTES_MAX: usize = 16 * 1024;

/// What waits of a usual event: all before its choices.
const HELD_BYTES_USUAL: usize = 512;

/// What the gate looks at in each event.
pub(super) const PROBES: [&[&str]; 3] = [&[], &["choices"], &["usage"]];
const EVENT: usize = 0;
const CHOICES: usize = 1;
const USAGE: usize = 2;

/// What is known of the event at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing of it was seen but comments.
    NotBegun,
    /// It may be the one; its bytes of this chunk begin here.
    Undecided(usize),
    /// It goes on.
    Passes,
    /// It was dropped, and a line feed of its last line ending may follow.
    Dropped,
}

/// The gate of one stream.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    verdict: Verdict,
    /// The bytes of earlier chunks that wait.
    held: Vec<u8>,
    /// Those of this one that will, and then the room for the next.
    held_next: Vec<u8>,
    /// What of the chunk at hand is dropped, kept to be used again.
    dropped: Vec<Range<usize>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        let room = || Vec::with_capacity(HELD_BYTES_USUAL);
        Self { verdict: Verdict::NotBegun, held: room(), held_next: room(), dropped: Vec::with_capacity(1) }
    }

    /// Reads a chunk, and leaves in it what goes on now.
    pub(super) fn pass(&mut self, reader: &mut SseReader, scanner: &mut Scanner, chunk: &mut Vec<u8>) {
        let holds_before = !self.held.is_empty();
        if holds_before {
            self.verdict = Verdict::Undecided(0);
        }
        let mut drops_held = false;
        let mut rest = chunk.as_slice();
        loop {
            let from = chunk.len() - rest.len();
            let Some(piece) = reader.next(&mut rest) else { break };
            let to = chunk.len() - rest.len();
            if let Some(start) = self.read_piece(piece, scanner, from, to) {
                drops_held |= holds_before && start == 0;
                self.dropped.push(start..to);
            }
        }
        match self.verdict {
            // Nothing was decided in all of this chunk.
            Verdict::Undecided(0) if holds_before && self.held.len() + chunk.len() <= HELD_BYTES_MAX => {
                self.held.append(chunk);
                return;
            }
            Verdict::Undecided(start) if start > 0 || !holds_before => {
                if chunk.len() - start <= HELD_BYTES_MAX {
                    self.held_next.extend(chunk.drain(start..));
                } else {
                    self.verdict = Verdict::Passes;
                }
            }
            Verdict::Undecided(_) => self.verdict = Verdict::Passes,
            _ => {}
        }
        for range in self.dropped.drain(..).rev() {
            chunk.drain(range);
        }
        if drops_held {
            self.held.clear();
        }
        if !self.held.is_empty() {
            chunk.splice(0..0, self.held.drain(..));
        }
        std::mem::swap(&mut self.held, &mut self.held_next);
    }

    /// The end of the stream: what waited goes on.
    pub(super) fn release(&mut self, chunk: &mut Vec<u8>) {
        chunk.append(&mut self.held);
        self.verdict = Verdict::Passes;
    }

    /// Answers where the bytes to drop begin, if this piece is the last of such.
    fn read_piece(&mut self, piece: Piece<'_>, scanner: &mut Scanner, from: usize, to: usize) -> Option<usize> {
        let was_dropped = self.verdict == Verdict::Dropped;
        if was_dropped {
            self.verdict = Verdict::NotBegun;
        }
        match piece {
            Piece::LineFeed => return was_dropped.then_some(from),
            Piece::Comment => return None,
            Piece::Field | Piece::Data(_) if self.verdict == Verdict::NotBegun && to > from => {
                self.verdict = Verdict::Undecided(from);
            }
            _ => {}
        }
        match piece {
            Piece::Data(data) => {
                scanner.feed(data);
                if !may_be_usage_only(scanner) {
                    self.verdict = Verdict::Passes;
                }
                None
            }
            Piece::End => {
                let verdict = if is_usage_only(scanner) { self.verdict } else { Verdict::Passes };
                scanner.end_document();
                self.verdict = Verdict::NotBegun;
                let Verdict::Undecided(start) = verdict else { return None };
                self.verdict = Verdict::Dropped;
                Some(start)
            }
            _ => None,
        }
    }
}

fn may_be_usage_only(scanner: &Scanner) -> bool {
    let shape = |place| scanner.probe(place).shape;
    // What was decided of the first value of a key does not change with a second one.
    scanner.is_readable()
        && !scanner.has_repeated_probes()
        && matches!(shape(EVENT), Shape::Absent | Shape::Object)
        && matches!(shape(CHOICES), Shape::Absent | Shape::OpenArray | Shape::EmptyArray)
        && matches!(shape(USAGE), Shape::Absent | Shape::Object)
}

fn is_usage_only(scanner: &Scanner) -> bool {
    let shape = |place| scanner.probe(place).shape;
    let is_whole = scanner.is_between_documents() && !scanner.has_repeated_probes();
    is_whole && (shape(EVENT), shape(CHOICES), shape(USAGE)) == (Shape::Object, Shape::EmptyArray, Shape::Object)
}
