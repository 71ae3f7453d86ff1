//! The sequences of a block of zstd: so many literals, then a repetition (RFC 8878, 3.1.1.3.2 and 3.1.1.4).

use super::super::input::{Input, Stop};
use super::super::window::Window;
use super::fse::{Backward, FseTable};

/// The most that a block decodes to.
pub(super) const BLOCK_BYTES_MAX: usize = 128 << 10;

/// What a code stands for: the lowest number, and how many bits are added to it. The first codes are the numbers themselves.
type Range = (u32, u32);

#[rustfmt::skip]
const LITERALS_RANGES: [Range; 20] = [
    (16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6), (128, 7), (256, 8), (512, 9), (1024, 10), (2048, 11),
    (4096, 12), (8192, 13), (16384, 14), (32768, 15), (65536, 16),
];

#[rustfmt::skip]
const MATCH_RANGES: [Range; 21] = [
    (35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4), (99, 5), (131, 7), (259, 8), (515, 9), (1027, 10),
    (2051, 11), (4099, 12), (8195, 13), (16387, 14), (32771, 15), (65539, 16),
];

/// The chances of codes where a block gives none.
#[rustfmt::skip]
const LITERALS_CHANCES: [i16; 36] =
    [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1];
#[rustfmt::skip]
const MATCH_CHANCES: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    -1, -1, -1, -1, -1, -1, -1,
];
const OFFSET_CHANCES: [i16; 29] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1];

/// The three kinds of codes, in the order in which a block has them.
const KINDS: [Kind; 3] = [
    Kind { bits: 6, bits_max: 9, chances: &LITERALS_CHANCES },
    Kind { bits: 5, bits_max: 8, chances: &OFFSET_CHANCES },
    Kind { bits: 6, bits_max: 9, chances: &MATCH_CHANCES },
];

/// The most bits of an offset: more is beyond every window.
const OFFSET_BITS_MAX: u8 = 27;

struct Kind {
    bits: u32,
    bits_max: u32,
    chances: &'static [i16],
}

/// What a block takes over from the one before.
pub(super) struct Sequences {
    tables: [Option<FseTable>; 3],
    /// The last offsets, the newest first.
    offsets: [usize; 3],
}

impl Default for Sequences {
    fn default() -> Self {
        Self { tables: [None, None, None], offsets: [1, 4, 8] }
    }
}

impl Sequences {
    /// Decodes the rest of a block, and writes the block.
    pub(super) fn run(&mut self, rest: &[u8], literals: &[u8], window_bytes: usize, window: &mut Window) -> Result<(), Stop> {
        let mut input = Input::default();
        input.push(rest);
        // A block is whole: what is not in it never comes.
        let count = self.read(&mut input).map_err(|_| Stop::Refused)?;
        let mut block = Block { literals, window, window_bytes, left: BLOCK_BYTES_MAX };
        if count > 0 {
            self.write(count, input.rest(), &mut block)?;
        } else if !input.rest().is_empty() {
            return Err(Stop::Refused);
        }
        block.write(block.literals.len())
    }

    /// Reads how many sequences there are, and their codes.
    fn read(&mut self, input: &mut Input) -> Result<u32, Stop> {
        let count = match input.bits(8)? {
            0 => return Ok(0),
            255 => input.bits(16)? + 0x7f00,
            upper @ 128.. => (upper - 128) << 8 | input.bits(8)?,
            count => count,
        };
        let modes = input.bits(8)?;
        for ((table, kind), shift) in self.tables.iter_mut().zip(&KINDS).zip([6, 4, 2]) {
            match modes >> shift & 3 {
                0 => *table = Some(FseTable::of_chances(kind.bits, kind.chances)?),
                1 => *table = Some(FseTable::of_symbol(input.bits(8)?.to_le_bytes()[0])),
                2 => *table = Some(FseTable::read(input, kind.bits_max, kind.symbols_max())?),
                _ => {}
            }
        }
        Ok(count)
    }

    fn write(&mut self, count: u32, coded: &[u8], block: &mut Block<'_>) -> Result<(), Stop> {
        let [Some(literals), Some(offsets), Some(matches)] = &self.tables else { return Err(Stop::Refused) };
        let mut bits = Backward::new(coded)?;
        let mut states = [literals.start(&mut bits), offsets.start(&mut bits), matches.start(&mut bits)];
        for index in 0..count {
            let offset_bits = offsets.symbol(states[1])?;
            if offset_bits > OFFSET_BITS_MAX {
                return Err(Stop::Refused);
            }
            let offset = (1 << offset_bits) + bits.read(u32::from(offset_bits)) as usize;
            let match_length = length(matches.symbol(states[2])?, 3, &MATCH_RANGES, &mut bits)?;
            let literals_length = length(literals.symbol(states[0])?, 0, &LITERALS_RANGES, &mut bits)?;
            if index + 1 < count {
                states[0] = literals.next(states[0], &mut bits)?;
                states[2] = matches.next(states[2], &mut bits)?;
                states[1] = offsets.next(states[1], &mut bits)?;
            }
            if bits.is_overrun() {
                return Err(Stop::Refused);
            }
            block.write(literals_length)?;
            let distance = next_offset(&mut self.offsets, offset, literals_length)?;
            block.repeat(distance, match_length)?;
        }
        if bits.is_at_end() { Ok(()) } else { Err(Stop::Refused) }
    }
}

impl Kind {
    const fn symbols_max(&self) -> usize {
        // Blocks may use the offsets that the chances here leave out.
        if self.bits_max == 8 { 32 } else { self.chances.len() }
    }
}

/// The distance that an offset stands for: the lowest three name one of the last.
fn next_offset(last: &mut [usize; 3], offset: usize, literals_length: usize) -> Result<usize, Stop> {
    let [first, second, third] = *last;
    let place = if offset > 3 { 4 } else { offset - usize::from(literals_length > 0) };
    let distance = match place {
        0 => first,
        1 => second,
        2 => third,
        3 => first - 1,
        _ => offset - 3,
    };
    *last = match place {
        0 => *last,
        1 => [second, first, third],
        _ => [distance, first, second],
    };
    if distance == 0 { Err(Stop::Refused) } else { Ok(distance) }
}

/// A length by its code.
fn length(code: u8, least: usize, ranges: &[Range], bits: &mut Backward<'_>) -> Result<usize, Stop> {
    let plain = ranges.first().map_or(0, |(lowest, _)| *lowest as usize) - least;
    let code = usize::from(code);
    if code < plain {
        return Ok(code + least);
    }
    let (lowest, more) = *ranges.get(code - plain).ok_or(Stop::Refused)?;
    Ok((lowest + bits.read(more)) as usize)
}

/// A block that is being written.
struct Block<'b> {
    literals: &'b [u8],
    window: &'b mut Window,
    window_bytes: usize,
    left: usize,
}

impl Block<'_> {
    /// Writes the next literals.
    fn write(&mut self, length: usize) -> Result<(), Stop> {
        let (now, later) = self.literals.split_at_checked(length).ok_or(Stop::Refused)?;
        self.left = self.left.checked_sub(length).ok_or(Stop::Refused)?;
        self.window.write(now);
        self.literals = later;
        Ok(())
    }

    fn repeat(&mut self, distance: usize, length: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(length).ok_or(Stop::Refused)?;
        if distance > self.window_bytes || distance as u64 > self.window.written() {
            return Err(Stop::Refused);
        }
        self.window.repeat(distance, length);
        Ok(())
    }
}
