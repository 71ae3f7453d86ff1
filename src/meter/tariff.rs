//! What a call of a usage-metered product costs: the configured items, compiled into what to look for and what it weighs.

use std::ops::Range;
use std::sync::Arc;

use super::amount::{Amount, Factor, Sum};
use super::gate;
use super::path::Path;
use super::plan::{Measure, Plan};
use super::reply::ReplyMeter;
use super::request::{self, HoldRule, RequestReading};
use crate::quantity::Quantity;

/// Where an item is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the reply.
    Reply,
    /// In the request.
    Request,
}

/// One billing item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where its value may stand; the first that is present counts.
    pub fields: Vec<Path>,
    /// In which body.
    pub source: Source,
    /// How the value counts.
    pub measure: Measure,
    /// What makes units of it, such as `0.001` of milliseconds. Not zero.
    pub scale: Factor,
    /// What a unit costs.
    pub weight: Factor,
}

/// What becomes of a call whose hold is more than is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortHold {
    /// What is available is held.
    Admit,
    /// The call is refused.
    Refuse,
}

/// What becomes of a charge that no package covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overrun {
    /// The merchant bears it.
    Absorb,
    /// The next package granted pays it first.
    Carry,
}

/// The configuration of a usage-metered product, each part of it checked.
#[derive(Clone, Debug)]
pub struct UsageSettings {
    /// What is counted.
    pub unit: String,
    /// What is billed: at most 32 items of at most 8 fields.
    pub items: Vec<Item>,
    /// What is held before the call is forwarded.
    pub hold: HoldRule,
    /// What becomes of a call whose hold is more than is available.
    pub short_hold: ShortHold,
    /// What becomes of a charge that no package covers.
    pub overrun: Overrun,
    /// Whether OpenAI-style backends are asked for usage in streams.
    pub request_usage: bool,
}

/// What a call of a usage-metered product costs. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageMeter {
    unit: String,
    short_hold: ShortHold,
    overrun: Overrun,
    tariff: Arc<Tariff>,
}

/// What the readers of a call share.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tariff {
    items: Vec<PlannedItem>,
    reply_plan: Arc<Plan>,
    pub(super) request_plan: Arc<Plan>,
    pub(super) hold: HoldRule,
    /// Where the values of the hold's fields are among those of the request.
    pub(super) hold_slots: Range<usize>,
    /// Where the value of `n` is among those of the request.
    pub(super) answers_slot: usize,
    pub(super) request_usage: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct PlannedItem {
    source: Source,
    slots: Range<usize>,
    scale: Factor,
    weight: Factor,
}

/// What was used, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The sum of all that was read, rounded up once. `None` where nothing was, or more than can be charged.
    pub quantity: Option<Quantity>,
    /// True where the reply itself said some of it.
    pub is_in_reply: bool,
    /// True where it was read where the product's items are: in the reply, or in the request if no item is in the reply.
    pub is_readable: bool,
    /// False where items are in the request, and what its backend made of its body is not known.
    pub is_request_read: bool,
}

impl UsageMeter {
    /// Compiles a checked configuration.
    #[must_use]
    pub fn new(settings: UsageSettings) -> Self {
        let UsageSettings { unit, items, hold, short_hold, overrun, request_usage } = settings;
        let (mut reply, mut request) = (Vec::new(), Vec::new());
        let items = items.into_iter().map(|item| plan_item(item, &mut reply, &mut request)).collect();
        let hold_from = request.len();
        request.extend(hold.fields.iter().map(|field| (vec![field.clone()], Measure::Number, Factor::ONE)));
        let answers_slot = request.len();
        request.push((vec![Path::of(&["n"])], Measure::Number, Factor::ONE));
        let (gate_probes, request_probes): (&[_], &[_]) =
            if request_usage { (&gate::PROBES, &request::PROBES) } else { (&[], &[]) };
        let tariff = Tariff {
            items,
            reply_plan: Arc::new(Plan::new(&reply, gate_probes)),
            request_plan: Arc::new(Plan::new(&request, request_probes)),
            hold,
            hold_slots: hold_from..answers_slot,
            answers_slot,
            request_usage,
        };
        Self { unit, short_hold, overrun, tariff: Arc::new(tariff) }
    }

    /// What is counted, as packages and balances name it.
    #[must_use]
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// What becomes of a call whose hold is more than is available.
    #[must_use]
    pub const fn short_hold(&self) -> ShortHold {
        self.short_hold
    }

    /// What becomes of a charge that no package covers.
    #[must_use]
    pub const fn overrun(&self) -> Overrun {
        self.overrun
    }

    /// The least that any call holds.
    #[must_use]
    pub fn least_hold(&self) -> Quantity {
        self.tariff.hold.min
    }

    /// Reads a whole request body, before the call is admitted.
    #[must_use]
    pub fn read_request(&self, body: &[u8]) -> RequestReading {
        RequestReading::new(&self.tariff, body)
    }

    /// The reader of the reply to a request, by the reply's `Content-Type`.
    #[must_use]
    pub fn read_reply(&self, request: RequestReading, content_type: Option<&str>) -> ReplyMeter {
        ReplyMeter::new(Arc::clone(&self.tariff), Arc::clone(&self.tariff.reply_plan), request, content_type)
    }
}

type Slots = Vec<(Vec<Path>, Measure, Factor)>;

fn plan_item(item: Item, reply: &mut Slots, request: &mut Slots) -> PlannedItem {
    let Item { fields, source, measure, scale, weight } = item;
    let slots = if source == Source::Reply { reply } else { request };
    let from = slots.len();
    slots.extend(fields.into_iter().map(|field| {
        // Anthropic's message_start and the Responses API's response.completed nest their usage. Where an event has both, the outer one counts.
        let nested = ["message", "response"].map(|key| field.inside(key));
        let is_nested = source == Source::Reply && field.is_in_usage();
        let paths = std::iter::once(field).chain(is_nested.then_some(nested).into_iter().flatten());
        (paths.collect(), measure, scale)
    }));
    PlannedItem { source, slots: from..slots.len(), scale, weight }
}

impl Tariff {
    /// Adds up what was read.
    pub(super) fn usage(&self, request: &RequestReading, reply: &[Option<Amount>]) -> Usage {
        let mut sum = Sum::new();
        let (mut is_in_request, mut is_in_reply) = (false, false);
        for item in &self.items {
            let values = if item.source == Source::Reply { reply } else { &request.values };
            let value = values.get(item.slots.clone()).and_then(|values| values.iter().flatten().next());
            let Some(value) = value else { continue };
            sum.add(*value, item.weight, item.scale);
            match item.source {
                Source::Reply => is_in_reply = true,
                Source::Request => is_in_request = true,
            }
        }
        let is_from = |source| self.items.iter().any(|item| item.source == source);
        let quantity = sum.rounded_up().filter(|_| is_in_request || is_in_reply);
        let is_request_read = !request.is_unreadable || !is_from(Source::Request);
        let is_readable = quantity.is_some() && (is_in_reply || !is_from(Source::Reply));
        Usage { quantity, is_in_reply, is_readable, is_request_read }
    }
}
