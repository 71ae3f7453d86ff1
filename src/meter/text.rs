//! JSON texts as they pass: decoded piece by piece, counted, and kept only while they are short enough to be a key or a number.

use super::search::text_end;

/// The longest text that is kept: no key that is looked for and no number is longer.
const KEPT_LENGTH_MAX: usize = 128;

/// A key, a text or a word that is being read.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    kept: Vec<u8>,
    is_cut: bool,
    pub(super) bytes: u64,
    pub(super) characters: u64,
    counts_characters: bool,
    escape: Escape,
    /// The first half of a surrogate pair.
    high: Option<u16>,
}

/// Where in an escape the input stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After the backslash.
    Begun,
    /// After `\u` and so many of its digits.
    Unicode { digits: u8, value: u16 },
}

/// How far a text got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on beyond what was given.
    Open,
    /// Its closing quote was read.
    Ended,
    /// It holds an escape that JSON does not have.
    Broken,
}

impl Text {
    /// With room for all that it will keep.
    pub(super) fn new() -> Self {
        Self { kept: Vec::with_capacity(KEPT_LENGTH_MAX), ..Self::default() }
    }

    /// Starts another one.
    pub(super) fn begin(&mut self, counts_characters: bool) {
        self.kept.clear();
        (self.is_cut, self.bytes, self.characters, self.counts_characters) = (false, 0, 0, counts_characters);
        (self.escape, self.high) = (Escape::None, None);
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.kept.capacity()
    }

    /// The whole of it, where it is short enough to matter.
    pub(super) fn kept(&self) -> Option<&[u8]> {
        (!self.is_cut).then_some(self.kept.as_slice())
    }

    /// Adds bytes that need no decoding.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.counts_characters {
            // Every byte that does not continue a character begins one.
            let characters = bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
            self.characters = self.characters.saturating_add(characters as u64);
        }
        self.is_cut |= self.kept.len().saturating_add(bytes.len()) > KEPT_LENGTH_MAX;
        if !self.is_cut {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// Reads on to the closing quote; answers what follows it.
    pub(super) fn read<'c>(&mut self, mut rest: &'c [u8]) -> (&'c [u8], Progress) {
        while let Some((&byte, tail)) = rest.split_first() {
            if self.escape != Escape::None {
                if !self.read_escape(byte) {
                    return (tail, Progress::Broken);
                }
                rest = tail;
                continue;
            }
            let (plain, end) = rest.split_at(text_end(rest).unwrap_or(rest.len()));
            if !plain.is_empty() {
                self.end_pair();
                self.push(plain);
            }
            rest = match end.split_first() {
                Some((b'"', after)) => {
                    self.end_pair();
                    return (after, Progress::Ended);
                }
                Some((_, after)) => {
                    self.escape = Escape::Begun;
                    after
                }
                None => end,
            };
        }
        (rest, Progress::Open)
    }

    /// Takes one byte of an escape. False where JSON has no such escape.
    fn read_escape(&mut self, byte: u8) -> bool {
        if let Escape::Unicode { digits, value } = self.escape {
            let Some(digit) = char::from(byte).to_digit(16) else { return false };
            let value = value << 4 | digit as u16;
            self.escape = if digits == 3 { Escape::None } else { Escape::Unicode { digits: digits + 1, value } };
            if digits == 3 {
                self.push_unit(value);
            }
            return true;
        }
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.escape = Escape::Unicode { digits: 0, value: 0 };
                return true;
            }
            _ => return false,
        };
        self.escape = Escape::None;
        self.end_pair();
        self.push(&[plain]);
        true
    }

    /// Adds a UTF-16 unit; halves of pairs wait for each other.
    fn push_unit(&mut self, unit: u16) {
        match (self.high, unit) {
            (Some(high), 0xDC00..=0xDFFF) => {
                self.high = None;
                let pair = 0x1_0000 + (u32::from(high - 0xD800) << 10) + u32::from(unit - 0xDC00);
                self.push_character(pair);
            }
            (_, 0xD800..=0xDBFF) => {
                self.end_pair();
                self.high = Some(unit);
            }
            _ => {
                self.end_pair();
                self.push_character(u32::from(unit));
            }
        }
    }

    /// A half that stayed alone is one replacement character, as JSON readers make of it.
    fn end_pair(&mut self) {
        if self.high.take().is_some() {
            self.push_character(u32::from(char::REPLACEMENT_CHARACTER));
        }
    }

    fn push_character(&mut self, value: u32) {
        let character = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.push(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
