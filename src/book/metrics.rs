//! Counters of the whole deployment: gathered in an instance, written with commits, since instances are short-lived.

use std::collections::BTreeMap;

use crate::ids::ProductId;

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

/// After how many counted refusals the counters are written without waiting for a commit of something else.
const UNWRITTEN_MAX: u64 = 256;

/// The most labelled counters that wait; products and outcomes are few.
const NAMES_MAX: usize = 4096;

/// What an instance counted since its last commit.
#[derive(Debug, Default)]
pub struct Meters {
    counters: BTreeMap<String, u64>,
    events: u64,
    /// How often the ledger could not be used.
    pub ledger_errors: u64,
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
        let product = escaped(product_id.as_str());
        self.add(format!("tollgate_calls_total{{product=\"{product}\",outcome=\"{outcome}\"}}"), 1);
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

    /// A durable step took so long.
    pub fn latency(&mut self, step: Step, elapsed_us: u64) {
        let family = match step {
            Step::Hold => "tollgate_hold_seconds",
            Step::Settle => "tollgate_settle_seconds",
        };
        let label = BUCKETS.iter().find(|(bound, _)| elapsed_us <= *bound).map_or("+Inf", |(_, label)| label);
        self.add(format!("{family}_bucket{{le=\"{label}\"}}"), 1);
        self.add(format!("{family}_sum"), elapsed_us);
        self.add(format!("{family}_count"), 1);
    }

    fn add(&mut self, name: String, increment: u64) {
        self.events += 1;
        if self.counters.len() < NAMES_MAX || self.counters.contains_key(&name) {
            let counter = self.counters.entry(name).or_default();
            *counter = counter.saturating_add(increment);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.ledger_errors == 0
    }

    /// True where the counters are to be written with the next commit, or without one.
    pub(super) fn are_due(&self) -> bool {
        self.events >= UNWRITTEN_MAX
    }

    pub(super) fn make_due(&mut self) {
        self.events = UNWRITTEN_MAX;
    }

    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let errors = (self.ledger_errors > 0).then(|| ("tollgate_ledger_errors_total".to_owned(), self.ledger_errors));
        self.counters.iter().map(|(name, count)| (name.clone(), *count)).chain(errors).collect()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
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
