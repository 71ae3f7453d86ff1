//! What stands at the few places that decide about a body as a whole, and where it begins.

use super::super::plan::Node;
use super::clear;

/// What stands at a place that is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Shape {
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
pub(in super::super) struct Probe {
    pub(in super::super) shape: Shape,
    /// Where it begins in all that was fed.
    pub(in super::super) from: usize,
}

/// The probes of one body.
#[derive(Clone, Debug)]
pub(super) struct Probes {
    places: Vec<Probe>,
    has_repeated: bool,
}

impl Probes {
    pub(super) fn new(count: usize) -> Self {
        Self { places: vec![Probe::default(); count], has_repeated: false }
    }

    pub(super) fn get(&self, place: usize) -> Probe {
        self.places.get(place).copied().unwrap_or_default()
    }

    /// True where a place has held more than one value.
    pub(super) const fn has_repeated(&self) -> bool {
        self.has_repeated
    }

    pub(super) fn forget(&mut self) {
        self.places.fill(Probe::default());
        self.has_repeated = false;
    }

    /// A value begins with `byte`. An element only makes its array one that is not empty.
    pub(super) fn begin(&mut self, node: Node, byte: u8, position: usize, is_element: bool) {
        if is_element {
            self.tell(node, Shape::Other);
            return;
        }
        self.has_repeated |= self.of(node).is_some_and(|probe| probe.shape != Shape::Absent);
        clear(&mut self.places, node.probes, Probe::default());
        if let Some(probe) = self.of(node) {
            probe.from = position;
            probe.shape = match byte {
                b'{' => Shape::Object,
                b'[' => Shape::OpenArray,
                _ => Shape::Other,
            };
        }
    }

    /// More is known of the value at hand.
    pub(super) fn tell(&mut self, node: Node, shape: Shape) {
        if let Some(probe) = self.of(node) {
            probe.shape = shape;
        }
    }

    fn of(&mut self, node: Node) -> Option<&mut Probe> {
        self.places.get_mut(usize::from(node.probe?))
    }
}
