//! What has come and is not decoded yet, read bit by bit, the lowest first.
//!
//! What always holds: a step of a decoder that runs out of input takes nothing, so that it can be done again once more has come.

/// Why a step was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More input is needed.
    Starved,
    /// The body is not in its coding, or needs more memory or time than it may.
    Refused,
}

/// Input from the last whole step on.
#[derive(Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Where reading is, in bits.
    at: usize,
    /// Up to where steps are done, in bits.
    done: usize,
}

impl Input {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// At least the next 57 bits, with zeros after the last one.
    pub(super) fn peek(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let word = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            word
        });
        u64::from_le_bytes(word) >> (self.at % 8)
    }

    pub(super) const fn skip(&mut self, bits: u32) -> Result<(), Stop> {
        let at = self.at + bits as usize;
        if at > self.bytes.len() * 8 {
            return Err(Stop::Starved);
        }
        self.at = at;
        Ok(())
    }

    /// A number of at most 32 bits.
    pub(super) fn bits(&mut self, bits: u32) -> Result<u32, Stop> {
        let word = self.peek() & ((1 << bits) - 1);
        self.skip(bits)?;
        u32::try_from(word).map_err(|_| Stop::Refused)
    }

    pub(super) fn bit(&mut self) -> Result<bool, Stop> {
        self.bits(1).map(|bit| bit == 1)
    }

    /// Goes on at the next whole byte.
    pub(super) const fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// The next whole bytes, as many as there are.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at.div_ceil(8)..).unwrap_or_default()
    }

    /// How many whole bytes there are, at least one and at most `most`.
    pub(super) fn available(&self, most: u32) -> Result<u32, Stop> {
        let length = u32::try_from(self.rest().len()).map_or(most, |length| length.min(most));
        if length == 0 { Err(Stop::Starved) } else { Ok(length) }
    }

    /// Marks a step as done.
    pub(super) const fn commit(&mut self) {
        self.done = self.at;
    }

    /// Goes back to where the last step was done, and lets go of what is behind.
    pub(super) fn rewind(&mut self) {
        self.bytes.drain(..self.done / 8);
        self.done %= 8;
        self.at = self.done;
    }
}
