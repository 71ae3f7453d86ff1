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

mod findings;
mod passing;
mod probes;

use std::sync::Arc;

use super::amount::Amount;
use super::plan::{Node, Plan, ROOT};
use super::text::Text;
use findings::Findings;
use passing::{is_word, pass_plain_value, plain_text};
use probes::Probes;
pub(super) use probes::{Probe, Shape};

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
    findings: Findings,
    probes: Probes,
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
            findings: Findings::new(&plan),
            probes: Probes::new(plan.probes),
            documents: 0,
            fed_before: 0,
            position: 0,
            plan,
        }
    }

    /// What the documents that ended say, by slot.
    pub(super) fn values(&self) -> &[Option<Amount>] {
        self.findings.values()
    }

    /// What a probe found in the document at hand, or the last one.
    pub(super) fn probe(&self, place: usize) -> Probe {
        self.probes.get(place)
    }

    /// True where what is probed came twice since the last [`Scanner::end_document`], or another document after the first.
    pub(super) const fn has_repeated_probes(&self) -> bool {
        self.probes.has_repeated()
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
            self.position = self.fed_before.wrapping_add(chunk.len() - rest.len());
            rest = match self.state {
                State::Ignored => self.pass_container(rest),
                State::InIgnoredText { is_escaped } => self.pass_text(rest, is_escaped),
                State::InKey | State::InText => self.read_text(rest),
                State::InWord { is_read } => self.read_word(rest, is_read),
                State::Broken => break,
                _ => self.structure(rest),
            };
        }
        // Where probes are is asked of requests only, which are small.
        self.fed_before = self.fed_before.wrapping_add(chunk.len());
    }

    /// Forgets a document that has not ended, and reads a new one next.
    pub(super) fn end_document(&mut self) {
        self.state = State::Start;
        self.frames.clear();
        self.ignored_depth = 0;
        self.documents = 0;
        self.target = None;
        self.findings.forget();
        self.probes.forget();
    }

    /// Counts what was seen of a document that broke off.
    pub(super) fn close(&mut self) {
        while let Some(frame) = self.frames.pop() {
            if let (Kind::Array, Some(node)) = (frame.kind, self.plan.node(frame.node)) {
                self.findings.add_element(node);
                self.findings.end_array(node);
            }
        }
        self.findings.commit(&self.plan);
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
            (State::After, b'}') if !self.is_in_array() => self.end_container(None),
            (State::After, b']') if self.is_in_array() => self.end_container(None),
            _ => self.state = State::Broken,
        }
        tail
    }

    /// True where the value at hand is an element.
    fn is_in_array(&self) -> bool {
        self.frames.last().is_some_and(|frame| frame.kind != Kind::Object)
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
        if byte != b'n' {
            self.findings.replace(node);
        }
        if self.plan.probes > 0 {
            self.probes.begin(node, byte, self.position, self.is_in_array());
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
            Kind::Array => self.findings.open_arrays() < ARRAYS_MAX,
        });
        let (Some(_), Some(target)) = (entered, self.target) else {
            self.ignored_depth = 1;
            self.state = State::Ignored;
            return;
        };
        self.frames.push(Frame { node: target, kind });
        self.state = if kind == Kind::Object { State::FirstKey } else { State::Element };
        if kind == Kind::Array {
            self.findings.begin_array();
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
        if let (Kind::Array, Some(node)) = (frame.kind, self.plan.node(frame.node)) {
            self.findings.end_array(node);
        }
        if let (Some(shape), Some(node)) = (shape, self.plan.node(frame.node)) {
            self.probes.tell(node, shape);
        }
        if frame.kind == Kind::Events {
            // Its elements were the events.
            self.documents += 1;
            self.state = State::Start;
        } else {
            self.end_value();
        }
    }

    /// The value at hand has ended.
    fn end_value(&mut self) {
        self.state = State::After;
        match self.frames.last().copied() {
            None => {
                self.findings.commit(&self.plan);
                self.documents += 1;
                self.state = State::Start;
            }
            Some(Frame { kind: Kind::Events, .. }) => self.findings.commit(&self.plan),
            Some(Frame { kind: Kind::Array, node }) => {
                if let Some(node) = self.plan.node(node) {
                    self.findings.add_element(node);
                }
            }
            Some(Frame { kind: Kind::Object, .. }) => {}
        }
    }
}

#[cfg(test)]
impl Scanner {
    /// What it keeps room for.
    pub(super) fn footprint(&self) -> [usize; 5] {
        let [found, sums, values] = self.findings.footprint();
        [self.frames.capacity(), found, sums, values, self.text.capacity()]
    }
}

fn clear<T: Copy>(values: &mut [T], (from, to): (u16, u16), empty: T) {
    if let Some(values) = values.get_mut(usize::from(from)..usize::from(to)) {
        values.fill(empty);
    }
}
