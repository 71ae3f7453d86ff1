//! zstd (RFC 8878), decoded block by block as it comes. A checksum is passed over: what is read for the meter alone changes nothing for the caller.
//!
//! What always holds: a step either is done or leaves no trace, and writes at most a block.

mod fse;
mod huffman;
mod literals;
mod sequences;

use std::io::Write;

use self::literals::Literals;
use self::sequences::{BLOCK_BYTES_MAX, Sequences};
use super::Decoder;
use super::input::{Input, Stop};
use super::window::Window;

const FRAME: u32 = 0xfd2f_b528;
/// The first of sixteen.
const SKIPPABLE_FRAME: u32 = 0x184d_2a50;

const HEADER_BYTES: u32 = 3;

/// What comes next.
#[derive(Clone, Copy)]
enum Phase {
    Frame,
    Skipped { left: u32 },
    Block,
    Stored { left: u32 },
    Checksum,
}

/// A decoder.
pub(super) struct Zstd {
    input: Input,
    window: Window,
    window_bytes: usize,
    phase: Phase,
    has_checksum: bool,
    is_last: bool,
    literals: Literals,
    sequences: Sequences,
}

impl Decoder for Zstd {
    fn parts(&mut self) -> (&mut Input, &mut Window) {
        (&mut self.input, &mut self.window)
    }

    fn step(&mut self, sink: &mut dyn Write) -> Result<(), Stop> {
        self.phase = match self.phase {
            Phase::Frame => self.frame(sink)?,
            Phase::Skipped { left: 0 } => Phase::Frame,
            Phase::Skipped { left } => {
                let length = self.input.available(left)?;
                self.input.skip(8 * length)?;
                Phase::Skipped { left: left - length }
            }
            Phase::Block => self.block()?,
            Phase::Stored { left: 0 } => self.next(),
            Phase::Stored { left } => {
                let length = self.input.available(left)?;
                self.window.write(self.input.rest().get(..length as usize).unwrap_or_default());
                self.input.skip(8 * length)?;
                Phase::Stored { left: left - length }
            }
            Phase::Checksum => {
                self.input.skip(32)?;
                Phase::Frame
            }
        };
        Ok(())
    }
}

impl Zstd {
    pub(super) fn new() -> Self {
        Self {
            input: Input::default(),
            window: Window::new(),
            window_bytes: 0,
            phase: Phase::Frame,
            has_checksum: false,
            is_last: false,
            literals: Literals::default(),
            sequences: Sequences::default(),
        }
    }

    /// What comes after a block.
    const fn next(&self) -> Phase {
        match (self.is_last, self.has_checksum) {
            (false, _) => Phase::Block,
            (true, true) => Phase::Checksum,
            (true, false) => Phase::Frame,
        }
    }

    fn frame(&mut self, sink: &mut dyn Write) -> Result<Phase, Stop> {
        let magic = self.input.bits(32)?;
        if magic & !15 == SKIPPABLE_FRAME {
            return Ok(Phase::Skipped { left: self.input.bits(32)? });
        }
        if magic != FRAME {
            return Err(Stop::Refused);
        }
        let descriptor = self.input.bits(8)?;
        let is_single_segment = descriptor & 0x20 != 0;
        let has_dictionary = descriptor & 3 != 0;
        if descriptor & 8 != 0 || has_dictionary {
            return Err(Stop::Refused);
        }
        let mut window_bytes = 0;
        if !is_single_segment {
            let window = self.input.bits(8)?;
            let base = 1u64 << (10 + (window >> 3));
            window_bytes = base + base / 8 * u64::from(window & 7);
        }
        let size = match descriptor >> 6 {
            0 if is_single_segment => u64::from(self.input.bits(8)?),
            0 => 0,
            1 => u64::from(self.input.bits(16)?) + 256,
            2 => u64::from(self.input.bits(32)?),
            _ => u64::from(self.input.bits(32)?) | u64::from(self.input.bits(32)?) << 32,
        };
        let window_bytes = usize::try_from(if is_single_segment { size } else { window_bytes }).map_err(|_| Stop::Refused)?;
        self.window.restart(window_bytes, sink)?;
        self.window_bytes = window_bytes;
        self.has_checksum = descriptor & 4 != 0;
        self.literals = Literals::default();
        self.sequences = Sequences::default();
        Ok(Phase::Block)
    }

    fn block(&mut self) -> Result<Phase, Stop> {
        let header = self.input.bits(8 * HEADER_BYTES)?;
        let (kind, size) = (header >> 1 & 3, header >> 3);
        let length = size as usize;
        if length > BLOCK_BYTES_MAX || kind == 3 {
            return Err(Stop::Refused);
        }
        if kind == 1 {
            let byte = self.input.bits(8)?.to_le_bytes()[0];
            self.window.fill(byte, length);
        }
        if kind == 2 {
            let block = self.input.rest().get(..length).ok_or(Stop::Starved)?;
            let rest = self.literals.read(block)?;
            self.sequences.run(rest, self.literals.bytes(), self.window_bytes, &mut self.window)?;
            self.input.skip(8 * size)?;
        }
        self.is_last = header & 1 != 0;
        Ok(if kind == 0 { Phase::Stored { left: size } } else { self.next() })
    }
}
