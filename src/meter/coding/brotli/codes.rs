//! The numbers of brotli that are written as a code and bits to add.

use super::super::input::{Input, Stop};
use super::prefix_code::PrefixCode;

pub(super) const BLOCK_LENGTHS: usize = 26;

/// What a code stands for: the lowest number, and how many bits are added to it.
pub(super) type Range = (u32, u32);

#[rustfmt::skip]
const BLOCK_LENGTH_RANGES: [Range; BLOCK_LENGTHS] = [
    (1, 2), (5, 2), (9, 2), (13, 2), (17, 3), (25, 3), (33, 3), (41, 3), (49, 4), (65, 4), (81, 4), (97, 4), (113, 5), (145, 5), (177, 5), (209, 5),
    (241, 6), (305, 6), (369, 7), (497, 8), (753, 9), (1265, 10), (2289, 11), (4337, 12), (8433, 13), (16625, 24),
];

#[rustfmt::skip]
pub(super) const INSERT_RANGES: [Range; 24] = [
    (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 1), (8, 1), (10, 2), (14, 2), (18, 3), (26, 3), (34, 4), (50, 4), (66, 5), (98, 5), (130, 6),
    (194, 7), (322, 8), (578, 9), (1090, 10), (2114, 12), (6210, 14), (22594, 24),
];

#[rustfmt::skip]
pub(super) const COPY_RANGES: [Range; 24] = [
    (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 1), (12, 1), (14, 2), (18, 2), (22, 3), (30, 3), (38, 4), (54, 4), (70, 5),
    (102, 5), (134, 6), (198, 7), (326, 8), (582, 9), (1094, 10), (2118, 24),
];

/// How many there are of something, from 1 to 256.
pub(super) fn count(input: &mut Input) -> Result<usize, Stop> {
    if !input.bit()? {
        return Ok(1);
    }
    let bits = input.bits(3)?;
    Ok(1 + (1 << bits) + input.bits(bits)? as usize)
}

/// The length of a block.
pub(super) fn block_length(input: &mut Input, code: &PrefixCode) -> Result<u32, Stop> {
    let symbol = code.decode(input)?;
    add_bits(input, BLOCK_LENGTH_RANGES.get(symbol))
}

pub(super) fn add_bits(input: &mut Input, range: Option<&Range>) -> Result<u32, Stop> {
    let (lowest, bits) = range.ok_or(Stop::Refused)?;
    Ok(lowest + input.bits(*bits)?)
}
