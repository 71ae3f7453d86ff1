//! The deployment's counters as Prometheus reads them.

use std::fmt::Write;

use super::failure::Failure;
use super::query::Query;
use super::webhooks::webhook_endpoint;
use super::{Context, Response};
use crate::book::metrics::BUCKETS;
use crate::config::Config;
use crate::store::Database;
use crate::store::outbox::{Endpoint, EndpointKind};
use crate::store::queries::{self, EndpointState};
use crate::store::reports::{Counters, counters};

/// The text exposition format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a family's stored numbers are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// As they are, by their labels; nothing until something was counted.
    Labelled,
    /// As they are; zero until something was counted.
    Count,
    /// As quantities, of which the store counts parts.
    Quantity,
    /// As a histogram in seconds, of which the store counts each bucket alone and sums microseconds.
    Histogram,
}

const FAMILIES: [(&str, Shown, &str); 9] = [
    ("tollgate_calls_total", Shown::Labelled, "Calls by product and outcome."),
    ("tollgate_charged_quantity_total", Shown::Quantity, "Quantity charged by product, in the product's unit."),
    ("tollgate_ledger_requests_total", Shown::Labelled, "Steps of calls asked of parts of the ledger, where it is in parts."),
    (
        "tollgate_ledger_opened_total",
        Shown::Count,
        "Parts of the ledger that were opened, where it is in parts: first, and after they had been evicted.",
    ),
    ("tollgate_lost_holds_total", Shown::Count, "Holds whose lease ended unrenewed."),
    ("tollgate_ledger_checks_total", Shown::Count, "Times that the ledger was to be written to find out whether it can be."),
    ("tollgate_ledger_errors_total", Shown::Count, "Batches that the ledger could not write."),
    ("tollgate_hold_seconds", Shown::Histogram, "Time until a call's hold was durable."),
    ("tollgate_settle_seconds", Shown::Histogram, "Time until a call's settling was durable."),
];

pub(super) fn page<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    query.read(&[])?;
    let database = context.tables()?;
    let mut text = write(&counters(database, context.now_ms)?);
    let named = named_endpoints(context.config);
    let endpoints: Vec<Endpoint<'_>> = named.iter().map(|(_, endpoint)| *endpoint).collect();
    let states = queries::endpoint_states(database, &endpoints)?;
    write_endpoints(&mut text, &named, &states, context.now_ms);
    write_outbox(&mut text, &queries::outbox(database)?);
    Ok(Response::ok(CONTENT_TYPE, text))
}

/// The endpoints of the configuration with the label that the metrics give them: their number, since a URL may be a secret.
fn named_endpoints(config: &Config) -> Vec<(String, Endpoint<'_>)> {
    let mut named: Vec<_> = (1..).zip(&config.webhooks).map(|(n, webhook)| (n.to_string(), webhook_endpoint(webhook))).collect();
    let hook = config.repurchase.as_ref();
    named.extend(hook.map(|hook| ("repurchase".to_owned(), Endpoint { kind: EndpointKind::Order, url: hook.url.as_str() })));
    named
}

/// A gauge of endpoints: its name, what it says, and its value at a time.
type EndpointGauge = (&'static str, &'static str, fn(&EndpointState, i64) -> u64);

const ENDPOINT_GAUGES: [EndpointGauge; 4] = [
    ("tollgate_deliveries_waiting", "Deliveries that wait for an endpoint.", |state, _| state.waiting),
    ("tollgate_deliveries_oldest_seconds", "Age of the oldest event that waits for an endpoint.", |state, now_ms| {
        let age_ms = state.oldest_waiting_ms.map_or(0, |at_ms| now_ms.saturating_sub(at_ms));
        u64::try_from(age_ms / 1000).unwrap_or(0)
    }),
    ("tollgate_deliveries_dead", "Deliveries to an endpoint that are tried no more.", |state, _| state.dead),
    ("tollgate_endpoint_enabled", "Whether anything is posted to an endpoint.", |state, _| {
        u64::from(state.disabled_at_ms.is_none())
    }),
];

fn write_endpoints(text: &mut String, endpoints: &[(String, Endpoint<'_>)], states: &[EndpointState], now_ms: i64) {
    for (family, help, value) in ENDPOINT_GAUGES {
        header(text, family, "gauge", help);
        for ((name, _), state) in endpoints.iter().zip(states) {
            line(text, &format!("{family}{{webhook=\"{name}\"}}"), &value(state, now_ms).to_string());
        }
    }
}

fn write_outbox(text: &mut String, outbox: &queries::Outbox) {
    header(text, "tollgate_events_unspread", "gauge", "Events that nobody has been told of yet.");
    line(text, "tollgate_events_unspread", &outbox.unspread.to_string());
    header(text, "tollgate_repurchases", "gauge", "Orders of packages by state.");
    for (state, number) in &outbox.orders {
        line(text, &format!("tollgate_repurchases{{state=\"{state}\"}}"), &number.to_string());
    }
}

fn write(counters: &Counters) -> String {
    let mut text = String::new();
    for (family, shown, help) in FAMILIES {
        header(&mut text, family, if shown == Shown::Histogram { "histogram" } else { "counter" }, help);
        match shown {
            Shown::Count => line(&mut text, family, &value(counters, family).to_string()),
            Shown::Labelled => labelled(counters, family).for_each(|(name, value)| line(&mut text, name, &value.to_string())),
            Shown::Quantity => labelled(counters, family).for_each(|(name, value)| line(&mut text, name, &decimal(value, 4))),
            Shown::Histogram => histogram(&mut text, counters, family),
        }
    }
    for (family, help, value) in [
        ("tollgate_holds_live", "Calls whose hold reserves now.", counters.holds_live),
        ("tollgate_holds_overdue", "Live holds whose lease has ended.", counters.holds_overdue),
    ] {
        header(&mut text, family, "gauge", help);
        line(&mut text, family, &value.to_string());
    }
    text
}

fn header(text: &mut String, family: &str, kind: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = write!(text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name} {value}");
}

fn value(counters: &Counters, name: &str) -> u64 {
    counters.counters.iter().find(|(other, _)| other == name).map_or(0, |(_, value)| *value)
}

fn labelled<'a>(counters: &'a Counters, family: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    let is_of_family = move |name: &str| name.strip_prefix(family).is_some_and(|labels| labels.starts_with('{'));
    counters.counters.iter().filter(move |(name, _)| is_of_family(name)).map(|(name, value)| (name.as_str(), *value))
}

fn histogram(text: &mut String, counters: &Counters, family: &str) {
    let mut below = 0_u64;
    for (_, label) in BUCKETS {
        let name = format!("{family}_bucket{{le=\"{label}\"}}");
        below = below.saturating_add(value(counters, &name));
        line(text, &name, &below.to_string());
    }
    let sum = format!("{family}_sum");
    line(text, &sum, &decimal(value(counters, &sum), 6));
    // The buckets themselves are the count: a histogram contradicts itself in no reading.
    line(text, &format!("{family}_count"), &below.to_string());
}

/// A whole number of the smallest parts, as a decimal.
fn decimal(parts: u64, decimals: usize) -> String {
    let digits = format!("{parts:0width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{whole}.{fraction}")
}
