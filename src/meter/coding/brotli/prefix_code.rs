//! The prefix codes of brotli (RFC 7932, 3).

use super::super::input::{Input, Stop};

/// Codes of at most this length are found in one look.
const SHORT_BITS: u32 = 8;

const LENGTH_MAX: usize = 15;

/// The mark of a code that is longer.
const LONG: u16 = u16::MAX;

/// The order in which the lengths of the code for lengths come.
const LENGTH_ORDER: [usize; 18] = [1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// By the next four bits: a length and how many bits say it.
#[rustfmt::skip]
const LENGTH_CODE: [(u8, u32); 16] = [
    (0, 2), (4, 2), (3, 2), (2, 3), (0, 2), (4, 2), (3, 2), (1, 4), (0, 2), (4, 2), (3, 2), (2, 3), (0, 2), (4, 2), (3, 2), (5, 4),
];

pub(super) struct PrefixCode {
    /// By the next bits: a symbol and in the lowest four bits its length, or [`LONG`].
    short: [u16; 1 << SHORT_BITS],
    /// How many codes there are of each length.
    counts: [u16; LENGTH_MAX + 1],
    /// By length and then by value.
    symbols: Vec<u16>,
}

impl PrefixCode {
    /// Reads a code for so many symbols.
    pub(super) fn read(input: &mut Input, alphabet: usize) -> Result<Self, Stop> {
        let mut lengths = vec![0; alphabet];
        match input.bits(2)? {
            1 => read_simple(input, &mut lengths)?,
            skipped => read_complex(input, &mut lengths, skipped as usize)?,
        }
        Ok(Self::of_lengths(&lengths))
    }

    /// The code of these lengths by symbol. One symbol alone needs no bits.
    fn of_lengths(lengths: &[u8]) -> Self {
        let coded = || (0u16..).zip(lengths).filter(|(_, length)| **length > 0);
        let mut counts = [0; LENGTH_MAX + 1];
        for (_, length) in coded() {
            if let Some(count) = counts.get_mut(usize::from(*length)) {
                *count += 1;
            }
        }
        // By length: where its next symbol goes, and the code of that symbol.
        let mut next = [(0, 0u32); LENGTH_MAX + 1];
        let (mut place, mut code) = (0, 0);
        for (next, count) in next.iter_mut().zip(counts) {
            code <<= 1;
            *next = (place, code);
            (place, code) = (place + usize::from(count), code + u32::from(count));
        }
        let mut symbols = vec![0; place];
        let mut short = [LONG; 1 << SHORT_BITS];
        for (symbol, length) in coded() {
            let Some((place, code)) = next.get_mut(usize::from(*length)) else { continue };
            if let Some(slot) = symbols.get_mut(*place) {
                *slot = symbol;
            }
            if u32::from(*length) <= SHORT_BITS {
                let first = (code.reverse_bits() >> (u32::BITS - u32::from(*length))) as usize;
                let entry = symbol << 4 | u16::from(*length);
                short.iter_mut().skip(first).step_by(1 << length).for_each(|slot| *slot = entry);
            }
            (*place, *code) = (*place + 1, *code + 1);
        }
        if let [symbol] = *symbols {
            short = [symbol << 4; 1 << SHORT_BITS];
        }
        Self { short, counts, symbols }
    }

    pub(super) fn decode(&self, input: &mut Input) -> Result<usize, Stop> {
        let word = input.peek();
        let found = self.short.get((word % (1 << SHORT_BITS)) as usize).copied().unwrap_or(LONG);
        if found != LONG {
            input.skip(u32::from(found % 16))?;
            return Ok(usize::from(found / 16));
        }
        let (mut code, mut first, mut index) = (0, 0, 0);
        for (length, count) in (0u32..).zip(self.counts).skip(1) {
            let count = usize::from(count);
            code |= (word >> (length - 1)) as usize % 2;
            if code < first + count {
                input.skip(length)?;
                return self.symbols.get(index + code - first).map(|symbol| usize::from(*symbol)).ok_or(Stop::Refused);
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        Err(Stop::Refused)
    }
}

/// Up to four symbols, which are named.
fn read_simple(input: &mut Input, lengths: &mut [u8]) -> Result<(), Stop> {
    let bits = usize::BITS - (lengths.len() - 1).leading_zeros();
    let count = input.bits(2)? as usize + 1;
    let mut symbols = [0; 4];
    for symbol in symbols.iter_mut().take(count) {
        *symbol = input.bits(bits)? as usize;
    }
    let by_place: [u8; 4] = match count {
        // One symbol has no bits; the length only says that it is there.
        1 => [1, 0, 0, 0],
        2 => [1, 1, 0, 0],
        3 => [1, 2, 2, 0],
        _ if input.bit()? => [1, 2, 3, 3],
        _ => [2, 2, 2, 2],
    };
    for (symbol, length) in symbols.into_iter().zip(by_place).take(count) {
        match lengths.get_mut(symbol) {
            Some(place @ 0) => *place = length,
            _ => return Err(Stop::Refused),
        }
    }
    Ok(())
}

/// The length of every symbol's code, themselves in a prefix code.
fn read_complex(input: &mut Input, lengths: &mut [u8], skipped: usize) -> Result<(), Stop> {
    let code = read_length_code(input, skipped)?;
    let (mut space, mut symbol) = (1i32 << LENGTH_MAX, 0);
    // The last length above 0, and how often the one before was repeated.
    let (mut last, mut repeated, mut repeated_length) = (8, 0, 0);
    while symbol < lengths.len() && space > 0 {
        let found = code.decode(input)?;
        let (length, count) = if found <= LENGTH_MAX {
            repeated = 0;
            let length = u8::try_from(found).map_err(|_| Stop::Refused)?;
            last = if length > 0 { length } else { last };
            (length, 1)
        } else {
            let (length, bits) = if found == 16 { (last, 2) } else { (0, 3) };
            if length != repeated_length {
                (repeated, repeated_length) = (0, length);
            }
            let before = repeated;
            let carried = if repeated > 0 { (repeated - 2) << bits } else { 0 };
            repeated = carried + input.bits(bits)? as usize + 3;
            (length, repeated - before)
        };
        let places = lengths.get_mut(symbol..symbol + count).ok_or(Stop::Refused)?;
        places.fill(length);
        symbol += count;
        if length > 0 {
            space -= i32::try_from(count).map_err(|_| Stop::Refused)? << (LENGTH_MAX - usize::from(length));
        }
    }
    if space == 0 { Ok(()) } else { Err(Stop::Refused) }
}

fn read_length_code(input: &mut Input, skipped: usize) -> Result<PrefixCode, Stop> {
    let mut lengths = [0; LENGTH_ORDER.len()];
    let (mut space, mut count) = (32, 0);
    for place in LENGTH_ORDER.into_iter().skip(skipped) {
        let (length, bits) = LENGTH_CODE.get((input.peek() % 16) as usize).copied().ok_or(Stop::Refused)?;
        input.skip(bits)?;
        if let (Some(found), true) = (lengths.get_mut(place), length > 0) {
            *found = length;
            space -= 32 >> length;
            count += 1;
        }
        if space <= 0 {
            break;
        }
    }
    if space == 0 || count == 1 { Ok(PrefixCode::of_lengths(&lengths)) } else { Err(Stop::Refused) }
}
