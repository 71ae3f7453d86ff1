//! The codes of zstd, whose bits are read from the end (RFC 8878, 4).

use super::super::input::{Input, Stop};

/// Bits of a block that are read from the last to the first.
pub(super) struct Backward<'b> {
    bytes: &'b [u8],
    /// How many are left; below 0 where more were read than there are.
    left: isize,
}

impl<'b> Backward<'b> {
    /// The highest bit that is set ends the bits.
    pub(super) fn new(bytes: &'b [u8]) -> Result<Self, Stop> {
        let last = bytes.last().filter(|last| **last != 0).ok_or(Stop::Refused)?;
        let left = (bytes.len() * 8).checked_sub(last.leading_zeros() as usize + 1).ok_or(Stop::Refused)?;
        Ok(Self { bytes, left: isize::try_from(left).map_err(|_| Stop::Refused)? })
    }

    /// The next bits, at most 32, with zeros after the last one.
    #[expect(clippy::cast_possible_truncation, reason = "what is cut off is masked")]
    pub(super) fn peek(&self, bits: u32) -> u32 {
        let from = self.left - bits as isize;
        let place = from.max(0).unsigned_abs();
        let rest = self.bytes.get(place / 8..).unwrap_or_default();
        let word = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            word
        });
        let word = u64::from_le_bytes(word) >> (place % 8);
        let known = self.left.clamp(0, bits as isize).unsigned_abs() as u32;
        let word = word & ((1 << known) - 1);
        (word << (bits - known)) as u32
    }

    pub(super) const fn skip(&mut self, bits: u32) {
        self.left -= bits as isize;
    }

    pub(super) fn read(&mut self, bits: u32) -> u32 {
        let word = self.peek(bits);
        self.skip(bits);
        word
    }

    pub(super) const fn is_overrun(&self) -> bool {
        self.left < 0
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.left == 0
    }
}

#[derive(Clone, Copy, Default)]
struct Cell {
    symbol: u8,
    bits: u32,
    base: u32,
}

/// A finite state entropy code.
pub(super) struct FseTable {
    bits: u32,
    cells: Vec<Cell>,
}

impl FseTable {
    /// One symbol alone.
    pub(super) fn of_symbol(symbol: u8) -> Self {
        Self { bits: 0, cells: vec![Cell { symbol, bits: 0, base: 0 }] }
    }

    /// The table of these chances, of which -1 is one less than 1.
    pub(super) fn of_chances(bits: u32, chances: &[i16]) -> Result<Self, Stop> {
        let size = 1usize << bits;
        let mut cells = vec![Cell::default(); size];
        let mut high = size;
        for (symbol, _) in (0..=u8::MAX).zip(chances).filter(|(_, chance)| **chance == -1) {
            high = high.checked_sub(1).ok_or(Stop::Refused)?;
            cells.get_mut(high).ok_or(Stop::Refused)?.symbol = symbol;
        }
        let mut place = 0;
        for (symbol, chance) in (0..=u8::MAX).zip(chances) {
            for _ in 0..*chance {
                cells.get_mut(place).filter(|_| high > 0).ok_or(Stop::Refused)?.symbol = symbol;
                // The step is odd, so that every cell is come to.
                place = (place + size / 2 + size / 8 + 3) % size;
                while place >= high && high > 0 {
                    place = (place + size / 2 + size / 8 + 3) % size;
                }
            }
        }
        let mut next: Vec<u32> = chances.iter().map(|chance| u32::from(chance.unsigned_abs())).collect();
        for cell in &mut cells {
            let state = next.get_mut(usize::from(cell.symbol)).filter(|state| **state > 0).ok_or(Stop::Refused)?;
            cell.bits = bits.checked_sub(state.ilog2()).ok_or(Stop::Refused)?;
            cell.base = (*state << cell.bits) - (1 << bits);
            *state += 1;
        }
        Ok(Self { bits, cells })
    }

    /// Reads chances and makes their table; the input goes on at the next byte.
    pub(super) fn read(input: &mut Input, bits_max: u32, symbols_max: usize) -> Result<Self, Stop> {
        let bits = input.bits(4)? + 5;
        if bits > bits_max {
            return Err(Stop::Refused);
        }
        let mut left = 1 << bits;
        let mut chances: Vec<i16> = Vec::new();
        while left > 0 {
            let value_bits = u32::BITS - u32::leading_zeros(left + 1);
            let threshold = (1 << value_bits) - 1 - (left + 1);
            // The smaller values are one bit shorter.
            let mut value = input.bits(value_bits - 1)?;
            if value >= threshold && input.bit()? {
                value += (1 << (value_bits - 1)) - threshold;
            }
            let chance = i16::try_from(value).map_err(|_| Stop::Refused)? - 1;
            left = left.checked_sub(u32::from(chance.unsigned_abs())).ok_or(Stop::Refused)?;
            chances.push(chance);
            if chance == 0 {
                loop {
                    let zeros = input.bits(2)?;
                    chances.resize(chances.len() + zeros as usize, 0);
                    if zeros < 3 {
                        break;
                    }
                }
            }
            if chances.len() > symbols_max {
                return Err(Stop::Refused);
            }
        }
        input.align();
        Self::of_chances(bits, &chances)
    }

    /// The first state.
    pub(super) fn start(&self, bits: &mut Backward<'_>) -> usize {
        bits.read(self.bits) as usize
    }

    pub(super) fn symbol(&self, state: usize) -> Result<u8, Stop> {
        self.cells.get(state).map(|cell| cell.symbol).ok_or(Stop::Refused)
    }

    pub(super) fn next(&self, state: usize, bits: &mut Backward<'_>) -> Result<usize, Stop> {
        let cell = self.cells.get(state).ok_or(Stop::Refused)?;
        Ok((cell.base + bits.read(cell.bits)) as usize)
    }
}
