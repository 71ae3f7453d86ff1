//! brotli (RFC 7932), decoded as it comes.
//!
//! What always holds: a step either is done or leaves no trace, and writes at most [`STEP_BYTES_MAX`].

mod codes;
mod context;
mod prefix_code;
mod words;

use std::io::Write;

use self::codes::{BLOCK_LENGTHS, COPY_RANGES, INSERT_RANGES, add_bits, block_length, count};
use self::context::{ContextMap, Mode, distance_context, literal_context};
use self::prefix_code::PrefixCode;
use super::Decoder;
use super::input::{Input, Stop};
use super::window::{UNFLUSHED_BYTES_MAX, Window};

const STEP_BYTES_MAX: u32 = (UNFLUSHED_BYTES_MAX / 2) as u32;

/// The kinds of symbols, each with blocks and codes of its own.
const LITERAL: usize = 0;
const COMMAND: usize = 1;
const DISTANCE: usize = 2;

const LITERALS: usize = 256;
const COMMANDS: usize = 704;

/// What a block of a kind that has one block only is long.
const BLOCK_LENGTH_MAX: u32 = 1 << 24;

/// By the upper bits of a command: where the codes of its two lengths begin.
const COMMAND_CELLS: [(usize, usize); 11] =
    [(0, 0), (0, 8), (0, 0), (0, 8), (8, 0), (8, 8), (0, 16), (16, 0), (8, 16), (16, 8), (16, 16)];

/// Commands below this one repeat the last distance without saying so.
const COMMANDS_WITHOUT_DISTANCE: usize = 128;

/// What comes next.
#[derive(Clone, Copy)]
enum Phase {
    Start,
    MetaBlock,
    Skipped { left: u32 },
    Stored,
    Blocks { kind: usize },
    Contexts,
    MapSize { kind: usize },
    MapItems { kind: usize },
    Codes { kind: usize },
    Command,
    Literals { left: u32 },
    Distance,
    Copy { distance: usize, left: u32 },
    End,
}

/// The blocks of one kind of symbols.
#[derive(Default)]
struct Blocks {
    count: usize,
    codes: Option<(PrefixCode, PrefixCode)>,
    current: usize,
    previous: usize,
    left: u32,
}

/// A decoder.
pub(super) struct Brotli {
    input: Input,
    window: Window,
    window_bytes: usize,
    phase: Phase,
    is_last: bool,
    /// What the meta-block has left to write.
    left: u32,
    blocks: [Blocks; 3],
    modes: Vec<Mode>,
    /// Of literals and of distances.
    maps: [ContextMap; 3],
    codes: [Vec<PrefixCode>; 3],
    /// How distances are written.
    postfix_bits: u32,
    direct_distances: usize,
    /// The last four distances, the newest first.
    distances: [usize; 4],
    copy_length: u32,
    repeats_distance: bool,
    /// False for the body that the dictionary itself comes in.
    has_words: bool,
}

impl Decoder for Brotli {
    fn parts(&mut self) -> (&mut Input, &mut Window) {
        (&mut self.input, &mut self.window)
    }

    fn step(&mut self, sink: &mut dyn Write) -> Result<(), Stop> {
        self.phase = match self.phase {
            Phase::Start => self.start(sink)?,
            Phase::MetaBlock => self.meta_block()?,
            Phase::Skipped { left } => self.skip(left)?,
            Phase::Stored => self.stored()?,
            Phase::Blocks { kind } => self.read_blocks(kind)?,
            Phase::Contexts => self.contexts()?,
            Phase::MapSize { kind } => self.map_size(kind)?,
            Phase::MapItems { kind } => self.map_items(kind)?,
            Phase::Codes { kind } => self.read_code(kind)?,
            Phase::Command => self.command()?,
            Phase::Literals { left } => self.literals(left)?,
            Phase::Distance => self.distance()?,
            Phase::Copy { distance, left } => self.copy(distance, left),
            Phase::End if self.input.rest().is_empty() => return Err(Stop::Starved),
            Phase::End => return Err(Stop::Refused),
        };
        Ok(())
    }
}

impl Brotli {
    pub(super) fn new() -> Self {
        Self {
            input: Input::default(),
            window: Window::new(),
            window_bytes: 0,
            phase: Phase::Start,
            is_last: false,
            left: 0,
            blocks: Default::default(),
            modes: Vec::new(),
            maps: Default::default(),
            codes: Default::default(),
            postfix_bits: 0,
            direct_distances: 0,
            distances: [4, 11, 15, 16],
            copy_length: 0,
            repeats_distance: false,
            has_words: true,
        }
    }

    /// A decoder of what refers to no dictionary.
    pub(super) fn without_words() -> Self {
        Self { has_words: false, ..Self::new() }
    }

    fn start(&mut self, sink: &mut dyn Write) -> Result<Phase, Stop> {
        let bits = if !self.input.bit()? {
            16
        } else {
            match self.input.bits(3)? {
                0 => match self.input.bits(3)? {
                    0 => 17,
                    1 => return Err(Stop::Refused),
                    bits => 8 + bits,
                },
                bits => 17 + bits,
            }
        };
        self.window_bytes = (1 << bits) - 16;
        self.window.restart(self.window_bytes, sink)?;
        Ok(Phase::MetaBlock)
    }

    fn meta_block(&mut self) -> Result<Phase, Stop> {
        let is_last = self.input.bit()?;
        if is_last && self.input.bit()? {
            return Ok(Phase::End);
        }
        let digits = self.input.bits(2)? + 4;
        if digits == 7 {
            if self.input.bit()? {
                return Err(Stop::Refused);
            }
            let bytes = self.input.bits(2)?;
            let left = if bytes == 0 { 0 } else { self.input.bits(8 * bytes)? + 1 };
            self.input.align();
            (self.is_last, self.left) = (is_last, 0);
            return Ok(Phase::Skipped { left });
        }
        let left = self.input.bits(4 * digits)? + 1;
        let is_stored = !is_last && self.input.bit()?;
        (self.is_last, self.left) = (is_last, left);
        if is_stored {
            self.input.align();
            return Ok(Phase::Stored);
        }
        Ok(Phase::Blocks { kind: LITERAL })
    }

    /// What comes after something was written.
    const fn next(&self) -> Phase {
        match (self.left, self.is_last) {
            (0, true) => Phase::End,
            (0, false) => Phase::MetaBlock,
            _ => Phase::Command,
        }
    }

    fn skip(&mut self, left: u32) -> Result<Phase, Stop> {
        if left == 0 {
            return Ok(self.next());
        }
        let length = self.input.available(left)?;
        self.input.skip(8 * length)?;
        Ok(Phase::Skipped { left: left - length })
    }

    fn stored(&mut self) -> Result<Phase, Stop> {
        if self.left == 0 {
            return Ok(self.next());
        }
        let length = self.input.available(self.left.min(STEP_BYTES_MAX))?;
        self.window.write(self.input.rest().get(..length as usize).unwrap_or_default());
        self.input.skip(8 * length)?;
        self.left -= length;
        Ok(Phase::Stored)
    }

    fn read_blocks(&mut self, kind: usize) -> Result<Phase, Stop> {
        let count = count(&mut self.input)?;
        let mut blocks = Blocks { count, codes: None, current: 0, previous: 1, left: BLOCK_LENGTH_MAX };
        if count > 1 {
            let types = PrefixCode::read(&mut self.input, count + 2)?;
            let lengths = PrefixCode::read(&mut self.input, BLOCK_LENGTHS)?;
            blocks.left = block_length(&mut self.input, &lengths)?;
            blocks.codes = Some((types, lengths));
        }
        *self.blocks.get_mut(kind).ok_or(Stop::Refused)? = blocks;
        Ok(if kind < DISTANCE { Phase::Blocks { kind: kind + 1 } } else { Phase::Contexts })
    }

    fn contexts(&mut self) -> Result<Phase, Stop> {
        let postfix_bits = self.input.bits(2)?;
        let direct_distances = (self.input.bits(4)? << postfix_bits) as usize;
        let modes = (0..self.blocks[LITERAL].count).map(|_| self.input.bits(2).map(Mode::of));
        self.modes = modes.collect::<Result<_, _>>()?;
        (self.postfix_bits, self.direct_distances) = (postfix_bits, direct_distances);
        Ok(Phase::MapSize { kind: LITERAL })
    }

    fn map_size(&mut self, kind: usize) -> Result<Phase, Stop> {
        let contexts = if kind == LITERAL { 64 } else { 4 };
        let (Some(map), Some(blocks)) = (self.maps.get_mut(kind), self.blocks.get(kind)) else { return Err(Stop::Refused) };
        *map = ContextMap::read(&mut self.input, blocks.count * contexts)?;
        Ok(Phase::MapItems { kind })
    }

    fn map_items(&mut self, kind: usize) -> Result<Phase, Stop> {
        let map = self.maps.get_mut(kind).ok_or(Stop::Refused)?;
        if !map.read_item(&mut self.input)? {
            return Ok(Phase::MapItems { kind });
        }
        if kind == LITERAL {
            return Ok(Phase::MapSize { kind: DISTANCE });
        }
        self.codes = Default::default();
        Ok(Phase::Codes { kind: LITERAL })
    }

    fn read_code(&mut self, kind: usize) -> Result<Phase, Stop> {
        let (alphabet, count) = match kind {
            LITERAL => (LITERALS, self.maps[LITERAL].codes),
            COMMAND => (COMMANDS, self.blocks[COMMAND].count),
            _ => (16 + self.direct_distances + (48 << self.postfix_bits), self.maps[DISTANCE].codes),
        };
        let codes = self.codes.get_mut(kind).ok_or(Stop::Refused)?;
        if codes.len() < count {
            codes.push(PrefixCode::read(&mut self.input, alphabet)?);
            return Ok(Phase::Codes { kind });
        }
        Ok(if kind < DISTANCE { Phase::Codes { kind: kind + 1 } } else { Phase::Command })
    }

    /// Goes to the next block of a kind where one has ended, and takes a symbol from it.
    fn count_symbol(&mut self, kind: usize) -> Result<usize, Stop> {
        let blocks = self.blocks.get_mut(kind).ok_or(Stop::Refused)?;
        if blocks.left == 0 {
            let (types, lengths) = blocks.codes.as_ref().ok_or(Stop::Refused)?;
            let next = match types.decode(&mut self.input)? {
                0 => blocks.previous,
                1 => (blocks.current + 1) % blocks.count,
                other => other - 2,
            };
            let left = block_length(&mut self.input, lengths)?;
            (blocks.previous, blocks.current, blocks.left) = (blocks.current, next, left);
            self.input.commit();
        }
        Ok(blocks.current)
    }

    fn command(&mut self) -> Result<Phase, Stop> {
        let block = self.count_symbol(COMMAND)?;
        let symbol = self.codes[COMMAND].get(block).ok_or(Stop::Refused)?.decode(&mut self.input)?;
        let (insert, copy) = COMMAND_CELLS.get(symbol / 64).ok_or(Stop::Refused)?;
        let insert_length = add_bits(&mut self.input, INSERT_RANGES.get(insert + symbol / 8 % 8))?;
        let copy_length = add_bits(&mut self.input, COPY_RANGES.get(copy + symbol % 8))?;
        self.left = self.left.checked_sub(insert_length).ok_or(Stop::Refused)?;
        self.blocks[COMMAND].left -= 1;
        self.copy_length = copy_length;
        self.repeats_distance = symbol < COMMANDS_WITHOUT_DISTANCE;
        Ok(Phase::Literals { left: insert_length })
    }

    fn literals(&mut self, mut left: u32) -> Result<Phase, Stop> {
        let (mut last, mut before) = (self.window.byte(1), self.window.byte(2));
        for _ in 0..left.min(STEP_BYTES_MAX) {
            let block = self.count_symbol(LITERAL)?;
            let context = literal_context(self.modes.get(block).copied().ok_or(Stop::Refused)?, last, before);
            let code = self.codes[LITERAL].get(self.maps[LITERAL].code(64 * block + context));
            let byte = code.ok_or(Stop::Refused)?.decode(&mut self.input)?.to_le_bytes()[0];
            self.window.write(&[byte]);
            (last, before) = (byte, last);
            self.blocks[LITERAL].left -= 1;
            left -= 1;
            self.phase = Phase::Literals { left };
            self.input.commit();
        }
        Ok(match left {
            0 if self.left == 0 => self.next(),
            0 => Phase::Distance,
            _ => self.phase,
        })
    }

    fn distance(&mut self) -> Result<Phase, Stop> {
        let symbol = if self.repeats_distance {
            0
        } else {
            let block = self.count_symbol(DISTANCE)?;
            let code = self.codes[DISTANCE].get(self.maps[DISTANCE].code(4 * block + distance_context(self.copy_length)));
            code.ok_or(Stop::Refused)?.decode(&mut self.input)?
        };
        let distance = self.distance_of(symbol)?;
        if !self.repeats_distance {
            self.blocks[DISTANCE].left -= 1;
        }
        let farthest = usize::try_from(self.window.written()).map_or(self.window_bytes, |written| written.min(self.window_bytes));
        if distance > farthest && self.has_words {
            return self.word(distance - farthest - 1);
        }
        if distance > farthest {
            return Err(Stop::Refused);
        }
        if symbol != 0 {
            let [first, second, third, _] = self.distances;
            self.distances = [distance, first, second, third];
        }
        self.left = self.left.checked_sub(self.copy_length).ok_or(Stop::Refused)?;
        Ok(Phase::Copy { distance, left: self.copy_length })
    }

    fn distance_of(&mut self, symbol: usize) -> Result<usize, Stop> {
        let [first, second, third, fourth] = self.distances;
        let near = |distance: usize, place: usize| {
            let by = place / 2 + 1;
            if place.is_multiple_of(2) { distance.checked_sub(by) } else { distance.checked_add(by) }
        };
        let distance = match symbol {
            0 => Some(first),
            1 => Some(second),
            2 => Some(third),
            3 => Some(fourth),
            4..10 => near(first, symbol - 4),
            10..16 => near(second, symbol - 10),
            _ if symbol - 16 < self.direct_distances => Some(symbol - 15),
            _ => {
                let code = symbol - 16 - self.direct_distances;
                let (upper, lower) = (code >> self.postfix_bits, code & ((1 << self.postfix_bits) - 1));
                let bits = 1 + (upper / 2) as u32;
                let offset = ((2 + upper % 2) << bits) - 4 + self.input.bits(bits)? as usize;
                Some((offset << self.postfix_bits) + lower + self.direct_distances + 1)
            }
        };
        distance.filter(|distance| *distance > 0).ok_or(Stop::Refused)
    }

    /// A word of the dictionary in the place of a repetition.
    fn word(&mut self, id: usize) -> Result<Phase, Stop> {
        let word = words::word(self.copy_length as usize, id).ok_or(Stop::Refused)?;
        let length = u32::try_from(word.len()).map_err(|_| Stop::Refused)?;
        self.left = self.left.checked_sub(length).ok_or(Stop::Refused)?;
        self.window.write(&word);
        Ok(self.next())
    }

    fn copy(&mut self, distance: usize, left: u32) -> Phase {
        let now = left.min(STEP_BYTES_MAX);
        self.window.repeat(distance, now as usize);
        if now < left { Phase::Copy { distance, left: left - now } } else { self.next() }
    }
}
