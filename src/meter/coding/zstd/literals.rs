//! The literals of a block of zstd (RFC 8878, 3.1.1.3.1).

use super::super::input::Stop;
use super::huffman::Huffman;
use super::sequences::BLOCK_BYTES_MAX;

/// The literals of the last block, and the code that the next one may be written in.
#[derive(Default)]
pub(super) struct Literals {
    bytes: Vec<u8>,
    code: Option<Huffman>,
}

impl Literals {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the literals at the beginning of a block, and gives what comes after them.
    pub(super) fn read<'b>(&mut self, block: &'b [u8]) -> Result<&'b [u8], Stop> {
        self.bytes.clear();
        let head = number(block.get(..block.len().min(5)).unwrap_or_default());
        let (kind, format) = (head & 3, head >> 2 & 3);
        if kind < 2 {
            let (head_bytes, size) = match format {
                0 | 2 => (1, head >> 3 & 0x1f),
                1 => (2, head >> 4 & 0xfff),
                _ => (3, head >> 4 & 0xf_ffff),
            };
            let size = size_of(size)?;
            let rest = block.get(head_bytes..).ok_or(Stop::Refused)?;
            let coded = if kind == 0 { size } else { 1 };
            let (literals, rest) = rest.split_at_checked(coded).ok_or(Stop::Refused)?;
            self.bytes.extend(literals.iter().cycle().take(size));
            return Ok(rest);
        }
        let (head_bytes, bits) = match format {
            0 | 1 => (3, 10),
            2 => (4, 14),
            _ => (5, 18),
        };
        let size = size_of(head >> 4 & ((1 << bits) - 1))?;
        let coded_size = size_of(head >> (4 + bits) & ((1 << bits) - 1))?;
        let rest = block.get(head_bytes..).ok_or(Stop::Refused)?;
        let (mut coded, rest) = rest.split_at_checked(coded_size).ok_or(Stop::Refused)?;
        if kind == 2 {
            let (code, length) = Huffman::read(coded)?;
            coded = coded.get(length..).ok_or(Stop::Refused)?;
            self.code = Some(code);
        }
        let code = self.code.as_ref().ok_or(Stop::Refused)?;
        if format == 0 {
            code.decode(coded, size, &mut self.bytes)?;
            return Ok(rest);
        }
        let (sizes, mut streams) = coded.split_at_checked(6).ok_or(Stop::Refused)?;
        let each = size.div_ceil(4);
        for stream_size in sizes.chunks(2) {
            let (stream, later) = streams.split_at_checked(size_of(number(stream_size))?).ok_or(Stop::Refused)?;
            code.decode(stream, each, &mut self.bytes)?;
            streams = later;
        }
        code.decode(streams, size.checked_sub(3 * each).ok_or(Stop::Refused)?, &mut self.bytes)?;
        Ok(rest)
    }
}

/// A number of at most 8 bytes, the lowest first.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn size_of(number: u64) -> Result<usize, Stop> {
    usize::try_from(number).ok().filter(|size| *size <= BLOCK_BYTES_MAX).ok_or(Stop::Refused)
}
