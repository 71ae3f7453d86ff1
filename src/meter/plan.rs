//! What to look for in a body: the configured paths as one tree, so that a scanner follows all of them at once.

use super::amount::Factor;
use super::path::Path;
use crate::sorted::SortedMap;

/// How a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// As the number it is, or that its text is.
    Number,
    /// By the length of its text in UTF-8.
    Bytes,
    /// By the Unicode scalar values of its text.
    Characters,
}

/// One configured path: what was last seen at it is one slot of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The cells that may hold it within one document: the first that does counts.
    pub(super) cells: Vec<u16>,
    /// What makes units of its value: more of them than can be charged are no usage.
    pub(super) scale: Factor,
}

/// One key or the document itself, with what is wanted of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Its keys: a range of the plan's edges.
    edges: (u16, u16),
    /// One bit for each of them, which tells most other keys apart at once.
    key_bits: u64,
    /// The cells for its value as a number, its bytes and its characters.
    pub(super) number: Option<u16>,
    pub(super) bytes: Option<u16>,
    pub(super) characters: Option<u16>,
    /// The probe that tells where it is and what.
    pub(super) probe: Option<u16>,
    /// The cells and the probes of this node and all below it.
    pub(super) cells: (u16, u16),
    pub(super) probes: (u16, u16),
}

impl Node {
    pub(super) const fn has_keys(&self) -> bool {
        self.edges.0 < self.edges.1
    }

    /// True where a text is read and not only passed over.
    pub(super) const fn reads_text(&self) -> bool {
        self.number.is_some() || self.bytes.is_some() || self.characters.is_some()
    }

    /// True where a number or a word is.
    pub(super) const fn reads_word(&self) -> bool {
        self.number.is_some() || self.probe.is_some()
    }
}

/// The root's place in the plan.
pub(super) const ROOT: u16 = 0;

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    nodes: Vec<Node>,
    edges: Vec<(Box<[u8]>, u16)>,
    pub(super) slots: Vec<Slot>,
    pub(super) cells: usize,
    pub(super) probes: usize,
}

impl Plan {
    /// Plans for `slots`, each the paths of one configured path in the order they count, and for `probes`, which keep their places.
    pub(super) fn new(slots: &[(Vec<Path>, Measure, Factor)], probes: &[&[&str]]) -> Self {
        let mut root = Branch::default();
        for (paths, measure, _) in slots {
            for path in paths {
                root.descend(path.keys().iter().map(String::as_str)).cells.insert(*measure, 0);
            }
        }
        for (place, keys) in (0..).zip(probes) {
            root.descend(keys.iter().copied()).probe = Some(place);
        }
        let mut plan = Self { nodes: Vec::new(), edges: Vec::new(), slots: Vec::new(), cells: 0, probes: probes.len() };
        plan.flatten(&mut root);
        plan.slots = slots
            .iter()
            .map(|(paths, measure, scale)| {
                let cell = |path: &Path| root.descend(path.keys().iter().map(String::as_str)).cells.get(measure).copied();
                Slot { cells: paths.iter().filter_map(cell).collect(), scale: *scale }
            })
            .collect();
        plan
    }

    /// Lays a branch out in preorder, which makes the cells of everything below a node one range. The depth is that of the longest path.
    fn flatten(&mut self, branch: &mut Branch) -> u16 {
        let place = small(self.nodes.len());
        let first_cell = small(self.cells);
        for (cell, id) in branch.cells.values_mut().zip(first_cell..) {
            *cell = id;
        }
        self.cells += branch.cells.len();
        let cell = |measure| branch.cells.get(&measure).copied();
        self.nodes.push(Node {
            edges: (0, 0),
            key_bits: 0,
            number: cell(Measure::Number),
            bytes: cell(Measure::Bytes),
            characters: cell(Measure::Characters),
            probe: branch.probe,
            cells: (first_cell, first_cell),
            probes: (u16::MAX, 0),
        });
        let below: Vec<_> = branch.keys.iter_mut().map(|(key, below)| (key.as_bytes().into(), self.flatten(below))).collect();
        // A node's probes are few and numbered by their caller: the range may hold others' as well, so it is one only where they follow each other.
        let own = branch.probe.map(|probe| (probe, probe + 1));
        let ranges = below.iter().filter_map(|(_, node)| self.node(*node)).map(|node| node.probes).chain(own);
        let probes = ranges.fold((u16::MAX, 0), |(from, to), (other_from, other_to)| (from.min(other_from), to.max(other_to)));
        let key_bits = branch.keys.keys().fold(0, |bits, key| bits | key_bit(key.as_bytes()));
        let edges_from = small(self.edges.len());
        self.edges.extend(below);
        let (edges, cells) = ((edges_from, small(self.edges.len())), (first_cell, small(self.cells)));
        if let Some(node) = self.nodes.get_mut(usize::from(place)) {
            *node = Node { edges, key_bits, cells, probes, ..*node };
        }
        place
    }

    pub(super) fn node(&self, place: u16) -> Option<Node> {
        self.nodes.get(usize::from(place)).copied()
    }

    /// The node of a key of `node`'s value.
    #[inline(always)]
    pub(super) fn below(&self, node: Node, key: &[u8]) -> Option<u16> {
        if node.key_bits & key_bit(key) == 0 {
            return None;
        }
        let edges = self.edges.get(usize::from(node.edges.0)..usize::from(node.edges.1))?;
        edges.iter().find(|(name, _)| **name == *key).map(|(_, below)| *below)
    }
}

#[inline(always)]
fn key_bit(key: &[u8]) -> u64 {
    let first = key.first().copied().unwrap_or_default();
    1 << ((key.len() as u64 + 5 * u64::from(first)) % 64)
}

/// The configuration bounds items, alternatives and keys so that every count fits.
fn small(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

#[derive(Default)]
struct Branch {
    keys: SortedMap<String, Self>,
    cells: SortedMap<Measure, u16>,
    probe: Option<u16>,
}

impl Branch {
    fn descend<'k>(&mut self, keys: impl Iterator<Item = &'k str>) -> &mut Self {
        keys.fold(self, |branch, key| branch.keys.get_or_default(key.to_owned()))
    }
}
