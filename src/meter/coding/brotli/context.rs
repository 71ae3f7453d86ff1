//! Which code of brotli decodes a symbol: that of what comes before it (RFC 7932, 7).

use super::super::input::{Input, Stop};
use super::codes::count;
use super::prefix_code::PrefixCode;

/// What a literal's context is made of.
#[derive(Clone, Copy)]
pub(super) enum Mode {
    LowBits,
    HighBits,
    Text,
    Signed,
}

impl Mode {
    pub(super) const fn of(bits: u32) -> Self {
        match bits {
            0 => Self::LowBits,
            1 => Self::HighBits,
            2 => Self::Text,
            _ => Self::Signed,
        }
    }
}

/// The context of a literal after two bytes, below 64.
pub(super) fn literal_context(mode: Mode, last: u8, before: u8) -> usize {
    usize::from(match mode {
        Mode::LowBits => last % 64,
        Mode::HighBits => last / 4,
        Mode::Text => last_class(last) | before_class(before),
        Mode::Signed => magnitude(last) * 8 + magnitude(before),
    })
}

const fn last_class(byte: u8) -> u8 {
    let class = match byte {
        b'\t' | b'\n' | b'\r' => 1,
        b' ' => 2,
        b'"' | b'\'' => 4,
        b'%' => 5,
        b'(' | b'<' | b'[' | b'{' => 6,
        b')' | b'>' | b']' | b'}' => 7,
        b',' | b':' | b';' => 8,
        b'.' => 9,
        b'=' => 10,
        b'0'..=b'9' => 11,
        b'A' | b'E' | b'I' | b'O' | b'U' => 12,
        b'A'..=b'Z' => 13,
        b'a' | b'e' | b'i' | b'o' | b'u' => 14,
        b'a'..=b'z' => 15,
        b'!'..=b'~' => 3,
        0x80..=0xbf => return byte % 2,
        0xc0..=0xff => return 2 + byte % 2,
        _ => 0,
    };
    class * 4
}

const fn before_class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 3,
        b'0'..=b'9' | b'A'..=b'Z' | 0xe0..=0xff => 2,
        b'!'..=b'~' => 1,
        _ => 0,
    }
}

const fn magnitude(byte: u8) -> u8 {
    match byte {
        0 => 0,
        1..=15 => 1,
        16..=63 => 2,
        64..=127 => 3,
        128..=191 => 4,
        192..=239 => 5,
        240..=254 => 6,
        255 => 7,
    }
}

/// The context of a distance, below 4.
pub(super) const fn distance_context(copy_length: u32) -> usize {
    match copy_length {
        2 => 0,
        3 => 1,
        4 => 2,
        _ => 3,
    }
}

/// The code of every context.
#[derive(Default)]
pub(super) struct ContextMap {
    /// How many codes there are.
    pub(super) codes: usize,
    size: usize,
    items: Vec<u8>,
    /// What the rest of the items are written in; none where there is one code only.
    reading: Option<Reading>,
}

struct Reading {
    code: PrefixCode,
    /// The longest run of zeros, as a power of two.
    run_max: usize,
}

impl ContextMap {
    /// Reads how a map of so many items is written.
    pub(super) fn read(input: &mut Input, size: usize) -> Result<Self, Stop> {
        let codes = count(input)?;
        if codes == 1 {
            return Ok(Self { codes, size, items: vec![0; size], reading: None });
        }
        let run_max = if input.bit()? { input.bits(4)? as usize + 1 } else { 0 };
        let code = PrefixCode::read(input, codes + run_max)?;
        Ok(Self { codes, size, items: Vec::with_capacity(size), reading: Some(Reading { code, run_max }) })
    }

    /// Reads an item or a run of them; true once all are read.
    pub(super) fn read_item(&mut self, input: &mut Input) -> Result<bool, Stop> {
        let Some(Reading { code, run_max }) = &self.reading else { return Ok(true) };
        if self.items.len() == self.size {
            if input.bit()? {
                move_to_front(&mut self.items);
            }
            self.reading = None;
            return Ok(true);
        }
        let symbol = code.decode(input)?;
        if symbol > *run_max {
            self.items.push(u8::try_from(symbol - run_max).map_err(|_| Stop::Refused)?);
            return Ok(false);
        }
        let run = (1 << symbol) + input.bits(symbol as u32)? as usize;
        if run > self.size - self.items.len() {
            return Err(Stop::Refused);
        }
        self.items.resize(self.items.len() + run, 0);
        Ok(false)
    }

    /// The code of a context. One that does not exist has none.
    pub(super) fn code(&self, context: usize) -> usize {
        self.items.get(context).map_or(usize::MAX, |code| usize::from(*code))
    }
}

/// Undoes the move-to-front transform.
fn move_to_front(items: &mut [u8]) {
    let mut order: [u8; 256] = std::array::from_fn(|place| place.to_le_bytes()[0]);
    for item in items {
        let place = usize::from(*item);
        if let Some(moved) = order.get_mut(..=place) {
            moved.rotate_right(1);
            *item = moved.first().copied().unwrap_or(0);
        }
    }
}
