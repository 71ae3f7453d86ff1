//! Texts, numbers and words, those that are read and those that are passed over.

use super::super::amount::Amount;
use super::super::blocks::{self, Blocks};
use super::super::search::{self, Passed};
use super::super::text::Progress;
use super::{Scanner, Shape, State};

impl Scanner {
    pub(super) fn read_text<'c>(&mut self, rest: &'c [u8]) -> &'c [u8] {
        let (rest, progress) = self.text.read(rest);
        match progress {
            Progress::Open => {}
            Progress::Broken => self.state = State::Broken,
            Progress::Ended if self.state == State::InKey => {
                self.target = self.text.kept().and_then(|key| self.lookup(key));
                self.state = State::Colon;
            }
            Progress::Ended => {
                if let Some(node) = self.node(self.target) {
                    let number = node.number.and_then(|_| Amount::parse(self.text.kept()?));
                    self.findings.keep(node.number, number);
                    self.findings.keep(node.bytes, Some(Amount::of(self.text.bytes)));
                    self.findings.keep(node.characters, Some(Amount::of(self.text.characters)));
                }
                self.end_value();
            }
        }
        rest
    }

    /// Reads a number or a word; it ends before the next sign of the grammar.
    pub(super) fn read_word<'c>(&mut self, rest: &'c [u8], is_read: bool) -> &'c [u8] {
        let (word, rest) = rest.split_at(rest.iter().position(is_word_end).unwrap_or(rest.len()));
        if is_read {
            self.text.push(word);
        }
        if rest.is_empty() {
            return rest;
        }
        if let (true, Some(target)) = (is_read, self.target) {
            self.end_word(target);
        }
        self.end_value();
        rest
    }

    fn end_word(&mut self, target: u16) {
        let Some(node) = self.plan.node(target) else { return };
        let amount = node.number.and_then(|_| Amount::parse(self.text.kept()?));
        self.findings.keep(node.number, amount);
        let shape = match self.text.kept() {
            Some(b"null") => Shape::Null,
            Some(b"true") => Shape::True,
            Some(b"false") => Shape::False,
            _ => return,
        };
        if !self.is_in_array() {
            self.probes.tell(node, shape);
        }
    }

    pub(super) fn pass_text<'c>(&mut self, rest: &'c [u8], is_escaped: bool) -> &'c [u8] {
        let rest = if is_escaped { rest.get(1..).unwrap_or_default() } else { rest };
        match search::pass_text(rest) {
            Passed::Open { is_escaped } => {
                self.state = State::InIgnoredText { is_escaped };
                &[]
            }
            Passed::Ended(after) => {
                if self.ignored_depth > 0 {
                    self.state = State::Ignored;
                } else {
                    self.end_value();
                }
                after
            }
        }
    }

    /// Passes over a container, to its last bracket or the end of the chunk.
    pub(super) fn pass_container<'c>(&mut self, rest: &'c [u8]) -> &'c [u8] {
        let mut rest = match blocks::pass(rest, &mut self.ignored_depth) {
            Blocks::Ended(after) => {
                self.end_value();
                return after;
            }
            Blocks::Open { rest, is_in_text: true, is_escaped } => {
                self.state = State::InIgnoredText { is_escaped };
                return rest;
            }
            Blocks::Open { rest, .. } => rest,
        };
        while let Some((&byte, tail)) = search::structure(rest).and_then(|at| rest.get(at..)?.split_first()) {
            rest = tail;
            match byte {
                b'"' => match search::pass_text(rest) {
                    Passed::Ended(after) => rest = after,
                    Passed::Open { is_escaped } => {
                        self.state = State::InIgnoredText { is_escaped };
                        return &[];
                    }
                },
                b'{' | b'[' => self.ignored_depth += 1,
                _ => {
                    self.ignored_depth -= 1;
                    if self.ignored_depth == 0 {
                        self.end_value();
                        return rest;
                    }
                }
            }
        }
        &[]
    }
}

/// A text without escapes from behind its quote, and what follows it. `None` where it has some, or goes on beyond the bytes at hand.
#[inline(always)]
pub(super) fn plain_text(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, end) = rest.split_at_checked(search::text_end(rest)?)?;
    end.strip_prefix(b"\"").map(|after| (text, after))
}

/// What follows a text, a number or a word that is passed over. `None` for anything else, or where it does not end within the bytes at hand.
#[inline(always)]
pub(super) fn pass_plain_value(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', text @ ..] => match search::pass_text(text) {
            Passed::Ended(after) => Some(after),
            Passed::Open { .. } => None,
        },
        [first, ..] if is_word(*first) => value.get(value.iter().position(is_word_end)?..),
        _ => None,
    }
}

/// True for what numbers and words begin with.
pub(super) const fn is_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'+' | b'.')
}

fn is_word_end(byte: &u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'{' | b'[' | b':')
}
