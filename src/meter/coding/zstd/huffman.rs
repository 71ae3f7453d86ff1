//! The literals of zstd in Huffman codes (RFC 8878, 4.2).

use super::super::input::{Input, Stop};
use super::fse::{Backward, FseTable};

const BITS_MAX: u32 = 11;
const WEIGHTS_MAX: usize = 255;

pub(super) struct Huffman {
    bits: u32,
    /// By the next bits: the symbol, and how many bits are its own.
    cells: Vec<(u8, u32)>,
}

impl Huffman {
    /// Reads the weights of a code, and tells how many bytes they took.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, usize), Stop> {
        let (head, rest) = bytes.split_first().ok_or(Stop::Refused)?;
        let head = usize::from(*head);
        if head >= 128 {
            let count = head - 127;
            let packed = rest.get(..count.div_ceil(2)).ok_or(Stop::Refused)?;
            let weights: Vec<u8> = packed.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(count).collect();
            return Ok((Self::of_weights(weights)?, 1 + packed.len()));
        }
        let coded = rest.get(..head).ok_or(Stop::Refused)?;
        Ok((Self::of_weights(read_weights(coded)?)?, 1 + head))
    }

    /// The code of these weights by symbol; the last symbol's is what is left.
    fn of_weights(mut weights: Vec<u8>) -> Result<Self, Stop> {
        let sum: u32 = weights.iter().map(|weight| (1 << weight) / 2).sum();
        let bits = sum.checked_ilog2().ok_or(Stop::Refused)? + 1;
        let left = (1u32 << bits) - sum;
        if bits > BITS_MAX || !left.is_power_of_two() {
            return Err(Stop::Refused);
        }
        weights.push(u8::try_from(left.ilog2() + 1).map_err(|_| Stop::Refused)?);
        let mut cells = Vec::with_capacity(1 << bits);
        for weight in 1..=bits {
            for (symbol, _) in (0..=u8::MAX).zip(&weights).filter(|(_, found)| u32::from(**found) == weight) {
                cells.resize(cells.len() + (1 << (weight - 1)), (symbol, bits + 1 - weight));
            }
        }
        Ok(Self { bits, cells })
    }

    /// Decodes so many literals, which must be all of a stream.
    pub(super) fn decode(&self, stream: &[u8], count: usize, literals: &mut Vec<u8>) -> Result<(), Stop> {
        let mut bits = Backward::new(stream)?;
        for _ in 0..count {
            let (symbol, length) = *self.cells.get(bits.peek(self.bits) as usize).ok_or(Stop::Refused)?;
            bits.skip(length);
            literals.push(symbol);
        }
        if bits.is_at_end() { Ok(()) } else { Err(Stop::Refused) }
    }
}

/// Weights in a finite state entropy code of their own, with two states that take turns.
fn read_weights(coded: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut input = Input::default();
    input.push(coded);
    let table = FseTable::read(&mut input, 6, WEIGHTS_MAX).map_err(|_| Stop::Refused)?;
    let mut bits = Backward::new(input.rest())?;
    let mut states = [table.start(&mut bits), table.start(&mut bits)];
    let mut weights = Vec::new();
    while weights.len() < WEIGHTS_MAX {
        let [state, other] = states;
        weights.push(table.symbol(state)?);
        let next = table.next(state, &mut bits)?;
        if bits.is_overrun() {
            weights.push(table.symbol(other)?);
            break;
        }
        states = [other, next];
    }
    if bits.is_overrun() && weights.iter().all(|weight| u32::from(*weight) <= BITS_MAX) {
        Ok(weights)
    } else {
        Err(Stop::Refused)
    }
}
