//! Reads JSON as it passes, in chunks cut anywhere, and remembers only the values that a [`Plan`] looks for.
//!
//! What always holds:
//! * the answer does not depend on where the chunks are cut;
//! * memory is bounded by the plan, whatever the body holds: containers that no path leads into are counted and not stacked, and texts are not kept;
//! * once the first document has been read, nothing is allocated;
//! * values count when their document ends ([`Scanner::values`]), or, on request, as far as they were seen ([`Scanner::close`]).
//!
//! The rules: of a key that comes twice the last one counts, except that `null` never does. A value of an array on the way adds to those of the other
//! elements. Documents follow each other, and so do the elements of an array that is the document: each is an event whose values replace the
//! earlier ones. What cannot hold a value is checked for its brackets and quotes alone. After the first violation nothing more is read, until
//! [`Scanner::end_document`].
//!
//! The border: bytes in, values of paths out. What they cost is not known here.

use std::sync::Arc;

use super::amount::Amount;
use super::plan::{Node, Plan, ROOT};
use super::search::{self, Passed};
use super::text::{Progress, Text};

/// How many arrays on the way to a value may hold each other. Values below more of them are not found.
const ARRAYS_MAX: usize = 8;

/// Where in the grammar the input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between documents.
    Start,
    /// A value must follow.
    Value,
    /// The first element of an array, or its end.
    Element,
    /// The first key of an object, or its end.
    FirstKey,
    /// A key must follow.
    Key,
    /// In a key.
    InKey,
    /// A colon must follow.
    Colon,
    /// A comma or the container's end must follow.
    After,
    /// In a text that is read.
    InText,
    /// In a text that is passed over.
    InIgnoredText { is_escaped: bool },
    /// In a number or a word.
    InWord { is_read: bool },
    /// In a container that is passed over.
    Ignored,
    /// Nothing more is read.
    Broken,
}

/// An open container that paths lead through.
#[derive(Clone, Copy, Debug)]
struct Frame {
    node: u16,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    /// An array that is the document: its elements are events.
    Events,
}

/// What stands at a place that is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    #[default]
    Absent,
    Null,
    True,
    False,
    Object,
    /// An array of which nothing was read yet.
    OpenArray,
    EmptyArray,
    Other,
}

/// What a probe found: the last value at its place, as far as it was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    pub(super) shape: Shape,
    /// Where it begins in all that was fed.
    pub(super) from: usize,
}

/// The reader of one body.
#[derive(Clone, Debug)]
pub(super) struct Scanner {
    plan: Arc<Plan>,
    state: State,
    frames: Vec<Frame>,
    /// How many containers that are passed over are open.
    ignored_depth: u64,
    /// The node that the value at hand belongs to, unless it is passed over.
    target: Option<u16>,
    text: Text,
    /// The values of the document at hand, by cell.
    found: Vec<Option<Amount>>,
    has_found: bool,
    /// For each open array, the sums of the elements that ended. Kept for the next one.
    sums: Vec<Vec<Option<Amount>>>,
    open_arrays: usize,
    probes: Vec<Probe>,
    values: Vec<Option<Amount>>,
    documents: u64,
    fed_before: usize,
    position: usize,
}

impl Scanner {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            state: State::Start,
            frames: Vec::with_capacity(16),
            ignored_depth: 0,
            target: None,
            text: Text::new(),
            found: vec![None; plan.cells],
            has_found: false,
            sums: Vec::new(),
            open_arrays: 0,
            probes: vec![Probe::default(); plan.probes],
            values: vec![None; plan.slots.len()],
            documents: 0,
            fed_before: 0,
            position: 0,
            plan,
        }
    }

    /// What the documents that ended say, by slot.
    pub(super) fn values(&self) -> &[Option<Amount>] {
        &self.values
    }

    /// What a probe found in the document at hand, or the last one.
    pub(super) fn probe(&self, place: usize) -> Probe {
        self.probes.get(place).copied().unwrap_or_default()
    }

    /// How many documents ended since the last [`Scanner::end_document`].
    pub(super) const fn documents(&self) -> u64 {
        self.documents
    }

    /// True unless a document has begun and not ended, or broke the grammar.
    pub(super) fn is_between_documents(&self) -> bool {
        self.state == State::Start
    }

    /// True until something broke the grammar.
    pub(super) fn is_readable(&self) -> bool {
        self.state != State::Broken
    }

    /// Reads a chunk.
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            self.position = self.fed_before + (chunk.len() - rest.len());
            rest = match self.state {
                State::Ignored => self.pass_container(rest),
                State::InIgnoredText { is_escaped } => self.pass_text(rest, is_escaped),
                State::InKey | State::InText => self.read_text(rest),
                State::InWord { is_read } => self.read_word(rest, is_read),
                State::Broken => break,
                _ => self.structure(rest),
            };
        }
        self.fed_before += chunk.len();
    }

    /// Forgets a document that has not ended, and reads a new one next.
    pub(super) fn end_document(&mut self) {
        self.state = State::Start;
        self.frames.clear();
        self.ignored_depth = 0;
        self.open_arrays = 0;
        self.documents = 0;
        self.target = None;
        self.forget();
        self.probes.fill(Probe::default());
    }

    /// Counts what was seen of a document that broke off.
    pub(super) fn close(&mut self) {
        while let Some(frame) = self.frames.pop() {
            if frame.kind == Kind::Array {
                self.add_element(frame.node);
                self.end_array(frame.node);
            }
        }
        self.commit();
        self.state = State::Broken;
    }

    /// Reads one byte of the grammar, or the key that begins with it.
    fn structure<'c>(&mut self, rest: &'c [u8]) -> &'c [u8] {
        let Some((&byte, tail)) = rest.split_first() else { return rest };
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
            return tail;
        }
        match (self.state, byte) {
            // A byte order mark.
            (State::Start, 0xEF | 0xBB | 0xBF) => {}
            (State::Start, _) => {
                self.target = Some(ROOT);
                return self.begin_value(byte, rest, tail);
            }
            (State::Element, b']') => self.end_container(Some(Shape::EmptyArray)),
            (State::Value | State::Element, _) => return self.begin_value(byte, rest, tail),
            (State::FirstKey | State::Key, b'"') => return self.begin_key(tail),
            (State::FirstKey, b'}') => self.end_container(None),
            (State::Colon, b':') => self.state = State::Value,
            (State::After, b',') => self.next_in_container(),
            (State::After, b'}') if self.is_in(Kind::Object) => self.end_container(None),
            (State::After, b']') if !self.is_in(Kind::Object) => self.end_container(None),
            _ => self.state = State::Broken,
        }
        tail
    }

    fn is_in(&self, kind: Kind) -> bool {
        self.frames.last().is_some_and(|frame| frame.kind == kind)
    }

    fn node(&self, place: Option<u16>) -> Option<Node> {
        self.plan.node(place?)
    }

    /// Reads a key from behind its quote, and with it, where nothing is looked for in them, the members from there on that are plain and whole:
    /// most are.
    fn begin_key<'c>(&mut self, mut rest: &'c [u8]) -> &'c [u8] {
        let Some(node) = self.frames.last().and_then(|frame| self.plan.node(frame.node)) else { return rest };
        loop {
            let Some((key, after)) = plain_text(rest) else {
                self.text.begin(false);
                self.state = State::InKey;
                return rest;
            };
            self.target = self.plan.below(node, key);
            let (None, [b':', value @ ..]) = (self.target, after) else {
                self.state = State::Colon;
                return after;
            };
            match pass_plain_value(value) {
                Some([b',', b'"', next @ ..]) => rest = next,
                Some(after) => {
                    self.state = State::After;
                    return after;
                }
                None => {
                    self.state = State::Value;
                    return value;
                }
            }
        }
    }

    fn lookup(&self, key: &[u8]) -> Option<u16> {
        let node = self.plan.node(self.frames.last()?.node)?;
        self.plan.below(node, key)
    }

    fn begin_value<'c>(&mut self, byte: u8, rest: &'c [u8], tail: &'c [u8]) -> &'c [u8] {
        let node = self.node(self.target);
        if let Some(node) = node {
            self.replace(node, byte);
        }
        match byte {
            b'"' => {
                let reads = node.filter(Node::reads_text);
                self.state = if reads.is_some() { State::InText } else { State::InIgnoredText { is_escaped: false } };
                if let Some(node) = reads {
                    self.text.begin(node.characters.is_some());
                }
                tail
            }
            b'{' | b'[' => {
                self.begin_container(byte, node);
                tail
            }
            _ if is_word(byte) => {
                let is_read = node.is_some_and(|node| node.reads_word());
                if is_read {
                    self.text.begin(false);
                }
                self.state = State::InWord { is_read };
                rest
            }
            _ => {
                self.state = State::Broken;
                tail
            }
        }
    }

    /// A value begins where one may have been before.
    fn replace(&mut self, node: Node, byte: u8) {
        if self.has_found && byte != b'n' {
            clear(&mut self.found, node.cells, None);
        }
        if self.plan.probes > 0 {
            self.begin_probes(node, byte);
        }
    }

    fn begin_probes(&mut self, node: Node, byte: u8) {
        if self.frames.last().is_some_and(|frame| frame.kind != Kind::Object) {
            if let Some(probe) = node.probe.and_then(|probe| self.probes.get_mut(usize::from(probe))) {
                probe.shape = Shape::Other;
            }
            return;
        }
        clear(&mut self.probes, node.probes, Probe::default());
        if let Some(probe) = node.probe.and_then(|probe| self.probes.get_mut(usize::from(probe))) {
            probe.from = self.position;
            probe.shape = match byte {
                b'{' => Shape::Object,
                b'[' => Shape::OpenArray,
                _ => Shape::Other,
            };
        }
    }

    fn begin_container(&mut self, byte: u8, node: Option<Node>) {
        let is_root = self.frames.is_empty();
        let kind = match byte {
            b'{' => Kind::Object,
            _ if is_root => Kind::Events,
            _ => Kind::Array,
        };
        let entered = node.filter(|node| match kind {
            Kind::Object => node.has_keys(),
            Kind::Events => true,
            Kind::Array => self.open_arrays < ARRAYS_MAX,
        });
        let (Some(_), Some(target)) = (entered, self.target) else {
            self.ignored_depth = 1;
            self.state = State::Ignored;
            return;
        };
        self.frames.push(Frame { node: target, kind });
        self.state = if kind == Kind::Object { State::FirstKey } else { State::Element };
        if kind == Kind::Array {
            match self.sums.get_mut(self.open_arrays) {
                Some(sums) => sums.fill(None),
                None => self.sums.push(vec![None; self.plan.cells]),
            }
            self.open_arrays += 1;
        }
    }

    /// After a comma.
    fn next_in_container(&mut self) {
        match self.frames.last() {
            Some(Frame { kind: Kind::Object, .. }) => self.state = State::Key,
            Some(Frame { node, .. }) => {
                self.target = Some(*node);
                self.state = State::Value;
            }
            None => self.state = State::Broken,
        }
    }

    fn end_container(&mut self, shape: Option<Shape>) {
        let Some(frame) = self.frames.pop() else {
            self.state = State::Broken;
            return;
        };
        if frame.kind == Kind::Array {
            self.end_array(frame.node);
        }
        if let (Some(shape), Some(probe)) = (shape, self.probe_of(frame.node)) {
            probe.shape = shape;
        }
        if frame.kind == Kind::Events {
            // Its elements were the events.
            self.documents += 1;
            self.state = State::Start;
        } else {
            self.end_value();
        }
    }

    fn probe_of(&mut self, node: u16) -> Option<&mut Probe> {
        let probe = self.plan.node(node)?.probe?;
        self.probes.get_mut(usize::from(probe))
    }

    fn end_value(&mut self) {
        self.state = State::After;
        match self.frames.last().copied() {
            None => {
                self.commit();
                self.documents += 1;
                self.state = State::Start;
            }
            Some(Frame { kind: Kind::Events, .. }) => self.commit(),
            Some(Frame { kind: Kind::Array, node }) => self.add_element(node),
            Some(_) => {}
        }
    }

    /// Adds an element's values to those of the array.
    fn add_element(&mut self, node: u16) {
        let (Some(node), true) = (self.plan.node(node), self.has_found) else { return };
        let sums = self.open_arrays.checked_sub(1).and_then(|open| self.sums.get_mut(open));
        let range = usize::from(node.cells.0)..usize::from(node.cells.1);
        let (Some(sums), Some(found)) = (sums.and_then(|sums| sums.get_mut(range.clone())), self.found.get_mut(range)) else {
            return;
        };
        for (sum, found) in sums.iter_mut().zip(found) {
            if let Some(amount) = found.take() {
                *sum = Some(sum.map_or(amount, |sum| sum.plus(amount)));
            }
        }
    }

    /// What the array's elements add up to is its value.
    fn end_array(&mut self, node: u16) {
        self.open_arrays = self.open_arrays.saturating_sub(1);
        let (Some(node), Some(sums)) = (self.plan.node(node), self.sums.get(self.open_arrays)) else { return };
        let range = usize::from(node.cells.0)..usize::from(node.cells.1);
        if let (Some(sums), Some(found)) = (sums.get(range.clone()), self.found.get_mut(range)) {
            found.copy_from_slice(sums);
        }
    }

    /// The document's values replace those of earlier ones.
    fn commit(&mut self) {
        if !self.has_found {
            return;
        }
        for (slot, value) in self.plan.slots.iter().zip(&mut self.values) {
            let found = slot.cells.iter().find_map(|cell| self.found.get(usize::from(*cell)).copied().flatten());
            *value = found.filter(|amount| !amount.is_absurd(slot.scale)).or(*value);
        }
        self.forget();
    }

    fn forget(&mut self) {
        if self.has_found {
            self.found.fill(None);
            self.has_found = false;
        }
    }

    fn keep(&mut self, cell: Option<u16>, amount: Option<Amount>) {
        if let (Some(cell), Some(amount)) = (cell.and_then(|cell| self.found.get_mut(usize::from(cell))), amount) {
            *cell = Some(amount);
            self.has_found = true;
        }
    }
}

#[cfg(test)]
impl Scanner {
    /// What it keeps room for.
    pub(super) fn footprint(&self) -> [usize; 5] {
        let sums = self.sums.iter().map(Vec::capacity).sum();
        [self.frames.capacity(), sums, self.found.capacity(), self.values.capacity(), self.text.capacity()]
    }
}

fn clear<T: Copy>(values: &mut [T], (from, to): (u16, u16), empty: T) {
    if let Some(values) = values.get_mut(usize::from(from)..usize::from(to)) {
        values.fill(empty);
    }
}

/// Texts, words and what is passed over.
impl Scanner {
    fn read_text<'c>(&mut self, rest: &'c [u8]) -> &'c [u8] {
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
                    self.keep(node.number, number);
                    self.keep(node.bytes, Some(Amount::of(self.text.bytes)));
                    self.keep(node.characters, Some(Amount::of(self.text.characters)));
                }
                self.end_value();
            }
        }
        rest
    }

    /// Reads a number or a word; it ends before the next sign of the grammar.
    fn read_word<'c>(&mut self, rest: &'c [u8], is_read: bool) -> &'c [u8] {
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
        self.keep(node.number, amount);
        let shape = match self.text.kept() {
            Some(b"null") => Shape::Null,
            Some(b"true") => Shape::True,
            Some(b"false") => Shape::False,
            _ => return,
        };
        if let Some(probe) = self.probe_of(target).filter(|probe| probe.shape == Shape::Other) {
            probe.shape = shape;
        }
    }

    fn pass_text<'c>(&mut self, rest: &'c [u8], is_escaped: bool) -> &'c [u8] {
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
    fn pass_container<'c>(&mut self, mut rest: &'c [u8]) -> &'c [u8] {
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
#[inline]
fn plain_text(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, end) = rest.split_at_checked(search::text_end(rest)?)?;
    end.strip_prefix(b"\"").map(|after| (text, after))
}

/// What follows a text, a number or a word that is passed over. `None` for anything else, or where it does not end within the bytes at hand.
#[inline]
fn pass_plain_value(value: &[u8]) -> Option<&[u8]> {
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
const fn is_word(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'+' | b'.')
}

fn is_word_end(byte: &u8) -> bool {
    matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' | b'"' | b'{' | b'[' | b':')
}
