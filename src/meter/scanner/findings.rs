//! What was found so far: the values of the document at hand, the sums of the arrays that are open in it, and what earlier documents said.

use super::super::amount::Amount;
use super::super::plan::{Node, Plan};
use super::clear;

/// The values of one body.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    /// Those of the document at hand, or of the element of an array in it, by cell.
    found: Vec<Option<Amount>>,
    has_found: bool,
    /// For each open array, the sums of the elements that ended. Kept for the next one.
    sums: Vec<Vec<Option<Amount>>>,
    open_arrays: usize,
    /// Those of the documents that ended, by slot.
    values: Vec<Option<Amount>>,
}

impl Findings {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            found: vec![None; plan.cells],
            has_found: false,
            sums: Vec::new(),
            open_arrays: 0,
            values: vec![None; plan.slots.len()],
        }
    }

    pub(super) fn values(&self) -> &[Option<Amount>] {
        &self.values
    }

    pub(super) const fn open_arrays(&self) -> usize {
        self.open_arrays
    }

    /// A value begins where one may have been before: that one does not count.
    pub(super) fn replace(&mut self, node: Node) {
        if self.has_found {
            clear(&mut self.found, node.cells, None);
        }
    }

    /// Keeps what a value says, if it says something and is looked for.
    pub(super) fn keep(&mut self, cell: Option<u16>, amount: Option<Amount>) {
        if let (Some(cell), Some(amount)) = (cell.and_then(|cell| self.found.get_mut(usize::from(cell))), amount) {
            *cell = Some(amount);
            self.has_found = true;
        }
    }

    pub(super) fn begin_array(&mut self) {
        match self.sums.get_mut(self.open_arrays) {
            Some(sums) => sums.fill(None),
            None => self.sums.push(vec![None; self.found.len()]),
        }
        self.open_arrays += 1;
    }

    /// Adds an element's values to those of the innermost array.
    pub(super) fn add_element(&mut self, node: Node) {
        if !self.has_found {
            return;
        }
        let range = usize::from(node.cells.0)..usize::from(node.cells.1);
        let sums = self.open_arrays.checked_sub(1).and_then(|open| self.sums.get_mut(open)?.get_mut(range.clone()));
        let (Some(sums), Some(found)) = (sums, self.found.get_mut(range)) else { return };
        for (sum, found) in sums.iter_mut().zip(found) {
            if let Some(amount) = found.take() {
                *sum = Some(sum.map_or(amount, |sum| sum.plus(amount)));
            }
        }
    }

    /// What the elements of the innermost array add up to is its value.
    pub(super) fn end_array(&mut self, node: Node) {
        self.open_arrays = self.open_arrays.saturating_sub(1);
        let range = usize::from(node.cells.0)..usize::from(node.cells.1);
        let sums = self.sums.get(self.open_arrays).and_then(|sums| sums.get(range.clone()));
        if let (Some(sums), Some(found)) = (sums, self.found.get_mut(range)) {
            found.copy_from_slice(sums);
        }
    }

    /// The document's values replace those of earlier ones.
    pub(super) fn commit(&mut self, plan: &Plan) {
        if !self.has_found {
            return;
        }
        for (slot, value) in plan.slots.iter().zip(&mut self.values) {
            let found = slot.cells.iter().find_map(|cell| self.found.get(usize::from(*cell)).copied().flatten());
            *value = found.filter(|amount| !amount.is_absurd(slot.scale)).or(*value);
        }
        self.found.fill(None);
        self.has_found = false;
    }

    /// The document at hand counts for nothing.
    pub(super) fn forget(&mut self) {
        self.open_arrays = 0;
        if self.has_found {
            self.found.fill(None);
            self.has_found = false;
        }
    }

    /// What it keeps room for.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> [usize; 3] {
        [self.found.capacity(), self.sums.iter().map(Vec::capacity).sum(), self.values.capacity()]
    }
}
