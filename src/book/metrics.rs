//! Counters of the whole deployment: gathered in an instance, written with commits, since instances are short-lived.

use crate::ids::ProductId;
use crate::sorted::SortedMap;

/// Upper bounds of the latency histograms' buckets, in microseconds, with their label.
pub(crate) const BUCKETS: [(u64, &str); 10] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (2_500_000, "2.5"),
    (u64::MAX, "+Inf"),
];

/// After how many counted events the counters are written, though nothing else is.
const UNWRITTEN_MAX: u64 = 256;

/// The most counters of one kind that wait; products and outcomes are few.
const WAITING_MAX: usize = 4096;

/// What an instance counted since it was written last. What every call counts gets its name only then.
#[derive(Debug, Default)]
pub struct Meters {
    /// Calls by product and outcome.
    calls: Vec<(ProductId, String, u64)>,
    hold: Latencies,
    settle: Latencies,
    /// Everything else, by name.
    others: SortedMap<String, u64>,
    events: u64,
    /// How often the ledger could not be used.
    pub ledger_errors: u64,
}

/// A histogram: how many there were in each bucket, and the sum of all.
#[derive(Debug, Default)]
struct Latencies {
    counts: [u64; BUCKETS.len()],
    sum_us: u64,
}

/// Which of the two durable steps of a call took a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Admission: the claim and the hold.
    Hold,
    /// The end: the charge or the release.
    Settle,
}

impl Meters {
    /// A call ended, or was refused, with this outcome.
    pub fn call(&mut self, product_id: &ProductId, outcome: &str) {
        self.events += 1;
        let counted = self.calls.iter_mut().find(|(product, of, _)| of == outcome && product == product_id);
        if let Some((_, _, count)) = counted {
            *count = count.saturating_add(1);
        } else if self.calls.len() < WAITING_MAX {
            self.calls.push((product_id.clone(), outcome.to_owned(), 1));
        }
    }

    /// Holds whose leases ended.
    pub fn lost_holds(&mut self, count: u64) {
        self.add("tollgate_lost_holds_total".to_owned(), count);
    }

    /// A step of a call was asked of its customer's part of the ledger over the network, where the ledger is in parts.
    pub fn asked(&mut self, step: &str) {
        self.add(format!("tollgate_ledger_requests_total{{step=\"{step}\"}}"), 1);
    }

    /// A part of the ledger was opened, where it is in parts.
    pub fn opened(&mut self) {
        self.add("tollgate_ledger_opened_total".to_owned(), 1);
    }

    /// The ledger is to be written to find out whether it can be.
    pub fn writability_check(&mut self) {
        self.add("tollgate_ledger_checks_total".to_owned(), 1);
    }

    /// A durable step took so long.
    pub fn latency(&mut self, step: Step, elapsed_us: u64) {
        self.events += 1;
        match step {
            Step::Hold => self.hold.add(elapsed_us),
            Step::Settle => self.settle.add(elapsed_us),
        }
    }

    fn add(&mut self, name: String, increment: u64) {
        self.events += 1;
        if self.others.len() < WAITING_MAX || self.others.contains_key(&name) {
            let counter = self.others.get_or_default(name);
            *counter = counter.saturating_add(increment);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events == 0 && self.ledger_errors == 0
    }

    /// True where the counters are to be written with the next commit, or without one.
    pub(super) fn are_due(&self) -> bool {
        self.events >= UNWRITTEN_MAX
    }

    pub(super) fn make_due(&mut self) {
        self.events = UNWRITTEN_MAX;
    }

    /// All that was counted, by the names of their counters.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let mut counts: Vec<(String, u64)> = self.others.iter().map(|(name, count)| (name.clone(), *count)).collect();
        counts.extend(self.calls.iter().map(|(product_id, outcome, count)| {
            (format!("tollgate_calls_total{{product=\"{}\",outcome=\"{outcome}\"}}", escaped(product_id.as_str())), *count)
        }));
        self.hold.put_into(&mut counts, "tollgate_hold_seconds");
        self.settle.put_into(&mut counts, "tollgate_settle_seconds");
        counts.push(("tollgate_ledger_errors_total".to_owned(), self.ledger_errors));
        counts.retain(|(_, count)| *count > 0);
        counts
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Latencies {
    fn add(&mut self, elapsed_us: u64) {
        let bucket = BUCKETS.iter().zip(&mut self.counts).find(|((bound, _), _)| elapsed_us <= *bound);
        // The last bucket has no bound.
        if let Some((_, count)) = bucket {
            *count = count.saturating_add(1);
        }
        self.sum_us = self.sum_us.saturating_add(elapsed_us);
    }

    fn put_into(&self, counts: &mut Vec<(String, u64)>, family: &str) {
        for ((_, label), count) in BUCKETS.iter().zip(self.counts) {
            counts.push((format!("{family}_bucket{{le=\"{label}\"}}"), count));
        }
        counts.push((format!("{family}_sum"), self.sum_us));
    }
}

/// A label's value as the exposition format wants it.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The counter of what was charged, in 1/10000 units. It is written with the charges it counts.
pub(super) fn charged_metric(product_id: &ProductId) -> String {
    format!("tollgate_charged_quantity_total{{product=\"{}\"}}", escaped(product_id.as_str()))
}
