//! Finds the bytes that matter in JSON, eight at a time: where a text ends and where containers begin and end.

const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
const CASE_BITS: u64 = u64::from_ne_bytes([0x20; 8]);

/// Up to here a text is searched by words of eight bytes; beyond, wider registers pay for being set up.
const NEAR: usize = 32;

/// The high bit of each byte that is `wanted`. Those above the lowest one may be wrong, which never is.
#[inline(always)]
const fn equal(word: u64, wanted: u8) -> u64 {
    let zero_where_equal = word ^ (LOW_BITS * wanted as u64);
    zero_where_equal.wrapping_sub(LOW_BITS) & !zero_where_equal & HIGH_BITS
}

#[inline(always)]
fn find(bytes: &[u8], in_word: impl Fn(u64) -> u64, is_it: impl Fn(&u8) -> bool) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (place, word) in words.iter().enumerate() {
        let hits = in_word(u64::from_le_bytes(*word));
        if hits != 0 {
            return Some(place * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(is_it).map(|at| words.len() * 8 + at)
}

/// Where the text ends or an escape begins.
#[inline(always)]
pub(super) fn text_end(bytes: &[u8]) -> Option<usize> {
    let in_word = |word| equal(word, b'"') | equal(word, b'\\');
    let is_it = |byte: &u8| matches!(byte, b'"' | b'\\');
    match bytes.split_at_checked(NEAR) {
        None => find(bytes, in_word, is_it),
        Some((near, far)) => find(near, in_word, is_it).or_else(|| memchr::memchr2(b'"', b'\\', far).map(|at| NEAR + at)),
    }
}

/// Where a text begins, or a container begins or ends.
#[inline(always)]
pub(super) fn structure(bytes: &[u8]) -> Option<usize> {
    // Between two texts there is a byte or two.
    let is_it = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
    if let [first, second, ..] = bytes {
        if is_it(first) {
            return Some(0);
        }
        if is_it(second) {
            return Some(1);
        }
    }
    // Brackets and braces differ in one bit.
    let in_word = |word| equal(word | CASE_BITS, b'{') | equal(word | CASE_BITS, b'}') | equal(word, b'"');
    find(bytes, in_word, is_it)
}

/// How a text that is passed over ends within the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed<'c> {
    /// With its closing quote, which these bytes follow.
    Ended(&'c [u8]),
    /// Beyond them. Whether the next byte is the rest of an escape.
    Open { is_escaped: bool },
}

/// Passes over a text from inside it.
#[inline(always)]
pub(super) fn pass_text(mut rest: &[u8]) -> Passed<'_> {
    while let Some(end) = text_end(rest).and_then(|at| rest.get(at..)) {
        match end {
            [b'"', after @ ..] => return Passed::Ended(after),
            [_, _, after @ ..] => rest = after,
            _ => return Passed::Open { is_escaped: true },
        }
    }
    Passed::Open { is_escaped: false }
}

#[cfg(test)]
mod tests {
    use super::{structure, text_end};

    #[test]
    fn each_byte_is_found_at_each_place_and_no_other_is() {
        for length in 0..80 {
            let mut bytes = vec![b'x'; length];
            for place in 0..length {
                for byte in 0..=255 {
                    bytes[place] = byte;
                    assert_eq!(text_end(&bytes), b"\"\\".contains(&byte).then_some(place), "{byte} at {place} of {length}");
                    assert_eq!(structure(&bytes), b"\"{}[]".contains(&byte).then_some(place), "{byte} at {place} of {length}");
                }
                bytes[place] = b'x';
            }
        }
        assert_eq!((text_end(b"aaaaaa\\\"\"\\"), structure(b"1234:[{}]\"")), (Some(6), Some(5)), "the first of several");
    }
}
