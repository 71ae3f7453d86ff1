//! The dictionary of brotli (RFC 7932, 8 and appendices A and B).

use std::sync::OnceLock;

use super::super::Decoder;
use super::Brotli;

/// All words, in brotli, which is decoded without them. The words are Google's, under the MIT licence.
const CODED: &[u8] = include_bytes!("dictionary.br");

/// By the length of a word: as a power of two, how many words there are.
const COUNT_BITS: [u32; 25] = [0, 0, 0, 0, 10, 10, 11, 11, 10, 10, 10, 10, 10, 9, 9, 8, 7, 7, 8, 7, 7, 6, 6, 5, 5];

/// The changes a word comes with, each its prefix, what is done, and its suffix. What is done: `.` nothing, a digit leaves out as many bytes at the
/// end, `a` to `i` leaves out 1 to 9 at the beginning, `u` and `U` write the first or every letter large.
#[rustfmt::skip]
const CHANGES: &str = concat!(
    "|.|~|.| ~ |.| ~|a|~|u| ~|.| the ~ |.|~s |.| ~|.| of ~|u|~|.| and ~|b|~|1|~, |.| ~|.|, ~ |u| ~|.| in ~|.| to ~e |.| ~|.|\"~|.|.~|.|\">~|.|\n~",
    "|3|~|.|]~|.| for ~|c|~|2|~|.| a ~|.| that ~ |u|~|.|. ~.|.|~ |.|, ~|d|~|.| with ~|.|'~|.| from ~|.| by ~|e|~|f|~ the |.|~|4|~|.|. The ~|U|~",
    "|.| on ~|.| as ~|.| is ~|7|~|1|ing ~|.|\n\t~|.|:~ |.|. ~|.|ed ~|i|~|g|~|6|~|.|(~|u|, ~|8|~|.| at ~|.|ly ~ the |.| of ~|5|~|9|~ |u|, ~|u|\"~",
    ".|.|(~|U| ~|u|\">~|.|=\"~ |.|.~.com/|.|~ the |.| of the ~|u|'~|.|. This ~|.|,~.|.| ~|u|(~|u|.~|.| not ~ |.|=\"~|.|er ~ |U| ~|.|al ~ |U|~",
    "|.|='~|U|\"~|u|. ~ |.|(~|.|ful ~ |u|. ~|.|ive ~|.|less ~|U|'~|.|est ~ |u|.~|U|\">~ |.|='~|u|,~|.|ize ~|U|.~\u{a0}|.|~ |.|,~|u|=\"~|U|=\"~",
    "|.|ous ~|U|, ~|u|='~ |u|,~ |U|=\"~ |U|, ~|U|,~|U|(~|U|. ~ |U|.~|U|='~ |U|. ~ |u|=\"~ |U|='~ |u|='",
);

/// Every word, decoded when the first one is asked for.
pub(super) fn words() -> &'static [u8] {
    static WORDS: OnceLock<Vec<u8>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = Vec::with_capacity(122_784);
        // What cannot be decoded is not there, and what names it is refused.
        let _ = Brotli::without_words().feed(CODED, &mut words);
        words
    })
}

/// The word of this length and number, changed as the number says.
pub(super) fn word(length: usize, id: usize) -> Option<Vec<u8>> {
    let bits = COUNT_BITS.get(length).copied().filter(|bits| *bits > 0)?;
    let before: usize = (0..length).zip(COUNT_BITS).map(|(length, bits)| if bits > 0 { length << bits } else { 0 }).sum();
    let start = before + length * (id & ((1 << bits) - 1));
    let word = words().get(start..start + length)?;
    let mut change = CHANGES.split('~').nth(id >> bits)?.split('|');
    let (prefix, done, suffix) = (change.next()?, change.next()?.bytes().next()?, change.next()?);
    let kept = match done {
        b'1'..=b'9' => word.get(..length.saturating_sub(usize::from(done - b'0')))?,
        b'a'..=b'i' => word.get(usize::from(done - b'a' + 1)..).unwrap_or_default(),
        _ => word,
    };
    let mut text = [prefix.as_bytes(), kept, suffix.as_bytes()].concat();
    let letters = text.get_mut(prefix.len()..prefix.len() + kept.len())?;
    match done {
        b'u' => {
            enlarge(letters);
        }
        b'U' => {
            let mut rest = letters;
            while !rest.is_empty() {
                let length = enlarge(rest).min(rest.len());
                rest = rest.get_mut(length..)?;
            }
        }
        _ => {}
    }
    Some(text)
}

/// Writes a letter of UTF-8 large, as brotli does, and tells how many bytes it has.
fn enlarge(letter: &mut [u8]) -> usize {
    match letter {
        [first, ..] if *first < 0xc0 => {
            first.make_ascii_uppercase();
            1
        }
        [first, second, ..] if *first < 0xe0 => {
            *second ^= 0x20;
            2
        }
        [_, _, third, ..] => {
            *third ^= 5;
            3
        }
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::{word, words};

    #[test]
    fn the_words_are_those_of_the_specification() {
        let mut crc = flate2::Crc::new();
        crc.update(words());
        assert_eq!((crc.sum(), crc.amount()), (0x5136_cb04, 122_784));
        assert_eq!(words(), brotli::dictionary::kBrotliDictionary);
    }

    #[test]
    fn a_word_is_changed_as_its_number_says() {
        let text = |length, id| word(length, id).map(|word| String::from_utf8(word).unwrap());
        assert_eq!(text(4, 0).as_deref(), Some("time"));
        for (change, changed) in
            [(1, "time "), (4, "Time "), (5, "time the "), (3, "ime"), (12, "tim"), (44, "TIME"), (120, " Time='")]
        {
            assert_eq!(text(4, change << 10).as_deref(), Some(changed), "{change}");
        }
        assert_eq!((word(4, 121 << 10), word(3, 0), word(25, 0)), (None, None, None));
    }
}
