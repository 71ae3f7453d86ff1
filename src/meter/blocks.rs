//! Passes over containers by blocks of 64 bytes: which bytes are texts is told for all of a block at once, and only what is outside is looked at.
//!
//! What always holds: the answer is that of a reading byte by byte, wherever the input begins and ends. The border: what lies below a block's length at
//! the end of the input is left to the caller.

const BLOCK: usize = 64;

/// Where each of the bytes that matter is in a block, one bit a byte.
#[derive(Clone, Copy)]
struct Marks {
    quotes: u64,
    escapes: u64,
    opens: u64,
    closes: u64,
}

// Both are written out because a build for size unrolls nothing. Brackets and braces differ in one bit.
#[cfg(target_feature = "simd128")]
mod marking {
    use core::arch::wasm32::{i8x16_bitmask, i8x16_eq, u8x16_splat, u64x2, v128, v128_or};

    use super::{BLOCK, Marks};

    #[inline(always)]
    pub(super) fn marks(block: &[u8; BLOCK]) -> Marks {
        let (parts, _) = block.as_chunks::<16>();
        let parts = [load(parts, 0), load(parts, 1), load(parts, 2), load(parts, 3)];
        let folded = [fold(parts[0]), fold(parts[1]), fold(parts[2]), fold(parts[3])];
        Marks {
            quotes: equal(parts, b'"'),
            escapes: equal(parts, b'\\'),
            opens: equal(folded, b'{'),
            closes: equal(folded, b'}'),
        }
    }

    #[inline(always)]
    fn load(parts: &[[u8; 16]], place: usize) -> v128 {
        let number = parts.get(place).map_or(0, |part| u128::from_le_bytes(*part));
        u64x2(number as u64, (number >> 64) as u64)
    }

    #[inline(always)]
    fn fold(part: v128) -> v128 {
        v128_or(part, u8x16_splat(0x20))
    }

    #[inline(always)]
    fn equal([a, b, c, d]: [v128; 4], wanted: u8) -> u64 {
        let wanted = u8x16_splat(wanted);
        u64::from(i8x16_bitmask(i8x16_eq(a, wanted)))
            | u64::from(i8x16_bitmask(i8x16_eq(b, wanted))) << 16
            | u64::from(i8x16_bitmask(i8x16_eq(c, wanted))) << 32
            | u64::from(i8x16_bitmask(i8x16_eq(d, wanted))) << 48
    }
}

#[cfg(not(target_feature = "simd128"))]
mod marking {
    use super::{BLOCK, Marks};

    const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
    const LOW_SEVEN: u64 = u64::from_ne_bytes([0x7F; 8]);

    #[inline(always)]
    pub(super) fn marks(block: &[u8; BLOCK]) -> Marks {
        let mut marks = Marks { quotes: 0, escapes: 0, opens: 0, closes: 0 };
        for (place, word) in (0..).zip(block.as_chunks::<8>().0) {
            let word = u64::from_le_bytes(*word);
            let folded = word | (LOW_BITS * 0x20);
            marks.quotes |= equal(word, b'"') << (place * 8);
            marks.escapes |= equal(word, b'\\') << (place * 8);
            marks.opens |= equal(folded, b'{') << (place * 8);
            marks.closes |= equal(folded, b'}') << (place * 8);
        }
        marks
    }

    /// One bit a byte.
    #[inline(always)]
    fn equal(word: u64, wanted: u8) -> u64 {
        let differs = word ^ (LOW_BITS * u64::from(wanted));
        let equal = !(((differs & LOW_SEVEN) + LOW_SEVEN) | differs | LOW_SEVEN);
        (equal >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }
}

/// Each bit is the parity of the bits up to it.
#[inline(always)]
fn parities(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

/// How far whole blocks led.
pub(super) enum Blocks<'c> {
    /// To the last bracket; what follows it.
    Ended(&'c [u8]),
    /// Not to the end; what is left of the input, and whether it begins in a text, and there behind a backslash.
    Open { rest: &'c [u8], is_in_text: bool, is_escaped: bool },
}

/// Which bytes stand behind a backslash that escapes them.
struct Escaped {
    bytes: u64,
    /// The backslashes that do.
    by: u64,
    /// Whether the first byte of the next block is.
    next: bool,
}

#[inline(always)]
fn escaped(escapes: u64, is_first_escaped: bool) -> Escaped {
    let mut escaped = Escaped { bytes: u64::from(is_first_escaped), by: 0, next: false };
    let mut left = escapes & !escaped.bytes;
    while left != 0 {
        let lowest = left & left.wrapping_neg();
        escaped.by |= lowest;
        escaped.bytes |= lowest << 1;
        escaped.next = lowest >> 63 == 1;
        left &= !(lowest | lowest << 1);
    }
    escaped
}

/// Passes over whole blocks of a container from outside its texts. `depth`, of which 0 is the end, is kept up to date.
#[inline(always)]
pub(super) fn pass<'c>(mut rest: &'c [u8], depth: &mut u64) -> Blocks<'c> {
    let (mut is_in_text, mut is_escaped) = (false, false);
    while let Some((block, tail)) = rest.split_first_chunk::<BLOCK>() {
        let marks = marking::marks(block);
        let escaped = escaped(marks.escapes, is_escaped);
        let texts = parities(marks.quotes & !escaped.bytes) ^ 0_u64.wrapping_sub(u64::from(is_in_text));
        if escaped.by & !texts != 0 {
            // Outside of texts a backslash escapes nothing.
            break;
        }
        let (opens, closes) = (marks.opens & !texts, marks.closes & !texts);
        if u64::from(closes.count_ones()) >= *depth
            && let Some(after) = end(opens, closes, *depth)
        {
            *depth = 0;
            return Blocks::Ended(rest.get(after..).unwrap_or_default());
        }
        *depth = (*depth + u64::from(opens.count_ones())).saturating_sub(u64::from(closes.count_ones()));
        (is_in_text, is_escaped) = (texts >> 63 == 1, escaped.next);
        rest = tail;
    }
    Blocks::Open { rest, is_in_text, is_escaped }
}

/// Where in a block the container has ended, behind its last bracket.
fn end(opens: u64, closes: u64, mut depth: u64) -> Option<usize> {
    let mut brackets = opens | closes;
    while brackets != 0 {
        let lowest = brackets & brackets.wrapping_neg();
        brackets ^= lowest;
        depth = if opens & lowest == 0 { depth.saturating_sub(1) } else { depth + 1 };
        if depth == 0 {
            return Some(lowest.trailing_zeros() as usize + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Blocks, pass};

    /// Byte by byte: how many bytes of whole blocks were passed over, and the depth after them.
    fn reference(bytes: &[u8], mut depth: u64) -> (usize, u64, bool, bool) {
        let (mut in_text, mut is_escaped) = (false, false);
        let mut block_start = (0, depth, false, false);
        for (at, byte) in bytes.iter().enumerate() {
            if at % BLOCK == 0 {
                block_start = (at, depth, in_text, is_escaped);
                if bytes.len() - at < BLOCK {
                    return block_start;
                }
            }
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_text => is_escaped = true,
                b'\\' => return block_start,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        // The rest of a block is looked at together with its end.
                        return (at + 1, 0, false, false);
                    }
                }
                _ => {}
            }
        }
        (bytes.len(), depth, in_text, is_escaped)
    }

    #[test]
    fn blocks_are_passed_over_as_byte_by_byte() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 33) as usize % below
        };
        // A backslash outside of texts ends the reading early, also behind the container's end, so most inputs have none there.
        for round in 0..60_000 {
            let (mut in_text, mut bytes) = (false, Vec::new());
            let alphabets: [&[u8]; 2] = [b"aa,:1\xFB\x7B[{}]\"", b"aaaaaaa\\\\{]\xDC\""];
            for _ in 0..next(5 * BLOCK) {
                let alphabet = alphabets[usize::from(in_text)];
                let byte = if round % 5 == 0 { b"a\"{[]}"[next(6)] } else { alphabet[next(alphabet.len())] };
                bytes.push(byte);
                match byte {
                    b'\\' => bytes.push(b"\\\"n"[next(3)]),
                    b'"' => in_text = !in_text,
                    _ => {}
                }
            }
            let started = 1 + next(6) as u64;
            let mut depth = started;
            let passed = match pass(&bytes, &mut depth) {
                Blocks::Ended(after) => (bytes.len() - after.len(), depth, false, false),
                Blocks::Open { rest, is_in_text, is_escaped } => (bytes.len() - rest.len(), depth, is_in_text, is_escaped),
            };
            assert_eq!(passed, reference(&bytes, started), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn a_backslash_outside_of_texts_ends_the_passing_before_its_block() {
        let mut bytes = vec![b' '; 2 * BLOCK];
        bytes[BLOCK + 7] = b'\\';
        assert!(
            matches!(pass(&bytes, &mut 1), Blocks::Open { rest, is_in_text: false, is_escaped: false } if rest.len() == BLOCK)
        );
    }
}
