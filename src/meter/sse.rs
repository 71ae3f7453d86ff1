//! Reads server-sent events as the WHATWG's HTML standard says, in chunks cut anywhere.
//!
//! What always holds: every byte of a chunk belongs to one piece, in order; nothing is kept but where in a line the input stands, so that the length of
//! a line or an event is nobody's concern; and lines end with CR, LF or CRLF, mixed as they like. The border: what the data mean is not known here.

/// Where in a line the input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Before the stream, after so many bytes of a byte order mark.
    Mark(u8),
    /// At its first byte.
    Begin,
    /// After so many bytes of the field name `data`.
    Name(u8),
    /// After the colon of `data`, where one space does not count.
    Space,
    /// In the value of `data`.
    Data,
    /// In anything else.
    Other { is_comment: bool },
}

/// What the next bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'c> {
    /// A part of a comment, or of a byte order mark: no event is the other without it.
    Comment,
    /// A part of a field's line that is no data.
    Field,
    /// A part of the event's data. Between two lines of data stands a line feed that may be no byte of the chunk.
    Data(&'c [u8]),
    /// The end of an empty line, and so of an event.
    End,
    /// The line feed after a carriage return that ended a line already.
    LineFeed,
}

const MARK: &[u8] = b"\xEF\xBB\xBF";
const NAME: &[u8] = b"data";

/// The reader of one stream.
#[derive(Clone, Debug)]
pub(super) struct SseReader {
    line: Line,
    has_data: bool,
    is_after_carriage_return: bool,
}

impl SseReader {
    pub(super) const fn new() -> Self {
        Self { line: Line::Mark(0), has_data: false, is_after_carriage_return: false }
    }

    /// Takes the next piece off the chunk, `None` once it is used up.
    pub(super) fn next<'c>(&mut self, chunk: &mut &'c [u8]) -> Option<Piece<'c>> {
        let (&byte, tail) = chunk.split_first()?;
        let is_after_carriage_return = std::mem::replace(&mut self.is_after_carriage_return, false);
        if is_after_carriage_return && byte == b'\n' {
            *chunk = tail;
            return Some(Piece::LineFeed);
        }
        match self.line {
            Line::Mark(read) => {
                if MARK.get(usize::from(read)) == Some(&byte) {
                    *chunk = tail;
                    self.line = if usize::from(read) + 1 < MARK.len() { Line::Mark(read + 1) } else { Line::Begin };
                    return Some(Piece::Comment);
                }
                // A part of a mark is the beginning of an unknown field's name.
                self.line = if read == 0 { Line::Begin } else { Line::Other { is_comment: false } };
                self.next(chunk)
            }
            Line::Begin => Some(self.begin_line(chunk, byte, tail)),
            Line::Name(read) => Some(self.read_name(chunk, byte, tail, read)),
            Line::Space if byte == b' ' => {
                *chunk = tail;
                self.line = Line::Data;
                Some(Piece::Field)
            }
            Line::Space | Line::Data => {
                self.line = Line::Data;
                Some(Piece::Data(self.read_value(chunk)))
            }
            Line::Other { is_comment } => {
                self.read_value(chunk);
                Some(if is_comment { Piece::Comment } else { Piece::Field })
            }
        }
    }

    fn begin_line<'c>(&mut self, chunk: &mut &'c [u8], byte: u8, tail: &'c [u8]) -> Piece<'c> {
        // The usual line, in one step.
        if let Some(value) = chunk.strip_prefix(b"data: ") {
            *chunk = value;
            self.line = Line::Data;
            return self.begin_data();
        }
        *chunk = tail;
        match byte {
            b'\r' | b'\n' => {
                self.is_after_carriage_return = byte == b'\r';
                self.has_data = false;
                return Piece::End;
            }
            b':' => {
                self.line = Line::Other { is_comment: true };
                return Piece::Comment;
            }
            b'd' => self.line = Line::Name(1),
            _ => self.line = Line::Other { is_comment: false },
        }
        Piece::Field
    }

    fn read_name<'c>(&mut self, chunk: &mut &'c [u8], byte: u8, tail: &'c [u8], read: u8) -> Piece<'c> {
        *chunk = tail;
        match (NAME.get(usize::from(read)), byte) {
            (Some(expected), _) if *expected == byte => self.line = Line::Name(read + 1),
            (None, b':') => {
                self.line = Line::Space;
                return self.begin_data();
            }
            (None, b'\r' | b'\n') => {
                self.end_line(byte);
                return self.begin_data();
            }
            (_, b'\r' | b'\n') => self.end_line(byte),
            _ => self.line = Line::Other { is_comment: false },
        }
        Piece::Field
    }

    fn begin_data<'c>(&mut self) -> Piece<'c> {
        if std::mem::replace(&mut self.has_data, true) { Piece::Data(b"\n") } else { Piece::Field }
    }

    fn end_line(&mut self, ending: u8) {
        self.line = Line::Begin;
        self.is_after_carriage_return = ending == b'\r';
    }

    /// Takes what is left of a line, and its ending.
    fn read_value<'c>(&mut self, chunk: &mut &'c [u8]) -> &'c [u8] {
        let (value, end) = chunk.split_at(memchr::memchr2(b'\r', b'\n', chunk).unwrap_or(chunk.len()));
        *chunk = end;
        if let Some((&ending, after)) = end.split_first() {
            self.end_line(ending);
            *chunk = after;
        }
        value
    }
}
