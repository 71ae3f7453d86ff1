//! The request's side: what to hold, what is metered of the request itself, and how a backend is asked for usage.

use std::ops::Range;
use std::sync::Arc;

use super::amount::{Amount, Factor, Sum};
use super::path::Path;
use super::scanner::{Scanner, Shape};
use super::tariff::Tariff;
use crate::quantity::Quantity;

/// How the hold of a call is estimated: `weight x (the largest of fields, else default) x n + input_weight x request body bytes`, at least `min`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRule {
    /// Where a request says how much it may use at most.
    pub fields: Vec<Path>,
    /// What a unit of that weighs.
    pub weight: Factor,
    /// How much it is where the request does not say.
    pub default: Factor,
    /// What a byte of the request's body weighs.
    pub input_weight: Factor,
    /// The least that is held.
    pub min: Quantity,
}

/// More answers than this to one request are not believed.
const ANSWERS_MAX: u64 = 1_000_000;

/// What is looked at to ask for usage, by place. That which a key holds stands right behind it.
pub(super) const PROBES: [&[&str]; 5] = [&[], &["stream"], &["input"], &["stream_options"], &["stream_options", "include_usage"]];
const BODY: usize = 0;
const STREAM: usize = 1;
const INPUT: usize = 2;
const OPTIONS: usize = 3;
const INCLUDE_USAGE: usize = 4;

/// What a request says about its usage.
#[derive(Clone, Debug)]
pub struct RequestReading {
    hold: Quantity,
    pub(super) values: Vec<Option<Amount>>,
    /// There is a body, and it is not one JSON object from end to end: what its backend makes of it is not known.
    pub(super) is_unreadable: bool,
    edit: Option<Edit>,
}

/// One replacement in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Edit {
    range: Range<usize>,
    text: &'static str,
}

impl RequestReading {
    /// Reads a whole body. One that is no JSON says nothing.
    pub(super) fn new(tariff: &Tariff, body: &[u8]) -> Self {
        let mut scanner = Scanner::new(Arc::clone(&tariff.request_plan));
        scanner.feed(body);
        let values = scanner.values().to_vec();
        let hold = hold(tariff, &values, body.len());
        let is_unreadable = !body.is_empty() && !is_one_object(&scanner, body);
        let edit = if tariff.request_usage && scanner.is_between_documents() { edit(&scanner, body) } else { None };
        Self { hold, values, is_unreadable, edit }
    }

    /// What to reserve before the call is forwarded.
    #[must_use]
    pub const fn hold(&self) -> Quantity {
        self.hold
    }

    /// True where the backend is asked for usage that the caller did not ask for: its body changes, and the event with the usage is not the caller's.
    #[must_use]
    pub const fn asks_for_usage(&self) -> bool {
        self.edit.is_some()
    }

    /// The body that the backend gets: `body`, which must be the one that was read, with the question for usage in it where it lacks one.
    #[must_use]
    pub fn body_for_backend(&self, mut body: Vec<u8>) -> Vec<u8> {
        if let Some(edit) = &self.edit
            && body.get(edit.range.clone()).is_some()
        {
            body.splice(edit.range.clone(), edit.text.bytes());
        }
        body
    }
}

/// Whether a whole body was read as one object and nothing else. Readers differ on which of several counts.
fn is_one_object(scanner: &Scanner, body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    text.starts_with(b"{") && scanner.is_between_documents() && scanner.documents() == 1
}

fn hold(tariff: &Tariff, values: &[Option<Amount>], body_bytes: usize) -> Quantity {
    let rule = &tariff.hold;
    let field_values = tariff.hold_slots.clone().filter_map(|slot| values.get(slot).copied().flatten());
    let most = field_values.max().unwrap_or_else(|| rule.default.amount());
    let answers =
        values.get(tariff.answers_slot).copied().flatten().and_then(Amount::whole_number).filter(|answers| *answers > 0);
    let mut sum = Sum::new();
    sum.add_times(most, rule.weight, answers.unwrap_or(1).min(ANSWERS_MAX));
    sum.add(Amount::of(body_bytes as u64), rule.input_weight, Factor::ONE);
    // An estimate above everything is one above every package.
    sum.rounded_up().unwrap_or(Quantity::MAX).max(rule.min)
}

/// What must change for the backend to tell the usage of a stream. The Responses API, which has `input`, always tells it and knows no such option.
fn edit(scanner: &Scanner, body: &[u8]) -> Option<Edit> {
    let shape = |place| scanner.probe(place).shape;
    let from = |place: usize| scanner.probe(place).from;
    if (shape(BODY), shape(STREAM), shape(INPUT)) != (Shape::Object, Shape::True, Shape::Absent) || scanner.documents() != 1 {
        return None;
    }
    match (shape(OPTIONS), shape(INCLUDE_USAGE)) {
        (Shape::Absent, _) => Some(insert(from(BODY) + 1, "\"stream_options\":{\"include_usage\":true},")),
        (Shape::Null, _) => Some(replace(from(OPTIONS), "null", "{\"include_usage\":true}")),
        (Shape::Object, Shape::Absent) => {
            let begin = from(OPTIONS) + 1;
            let next = body.get(begin..)?.iter().find(|byte| !byte.is_ascii_whitespace());
            let text = if next == Some(&b'}') { "\"include_usage\":true" } else { "\"include_usage\":true," };
            Some(insert(begin, text))
        }
        (Shape::Object, Shape::False) => Some(replace(from(INCLUDE_USAGE), "false", "true")),
        (Shape::Object, Shape::Null) => Some(replace(from(INCLUDE_USAGE), "null", "true")),
        _ => None,
    }
}

const fn insert(at: usize, text: &'static str) -> Edit {
    Edit { range: at..at, text }
}

const fn replace(from: usize, replaced: &str, text: &'static str) -> Edit {
    Edit { range: from..from + replaced.len(), text }
}
