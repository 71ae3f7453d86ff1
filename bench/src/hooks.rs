//! Calls while the webhook's endpoint hangs beside calls without webhooks: the courier must not slow them.
//!
//! Both gateways write the same events, through the whole run: each customer crosses one threshold after another. Only in one they go somewhere.

use crate::args::Args;
use crate::backend::{Backend, Hanging};
use crate::compare::{Comparison, Subject};
use crate::error::BenchError;
use crate::gateway::{self, BY_CALL, Edge, GRANTED, Metered};
use crate::load::SMALL;
use crate::report::{self, Measured};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const CONNECTIONS: usize = 16;
const WITHOUT: &str = "without_webhook";
const HANGING: &str = "hanging_webhook";

/// Calls of a customer between two events, and how many there are: the most that a product can have.
const CALLS_PER_EVENT: u64 = 25;
const THRESHOLDS: u64 = 20;

/// The most that the p99 may be as a share of that without webhooks.
const P99_RATIO_MAX: f64 = 1.1;

/// Measures and prints; returns the bounds that were missed.
pub(crate) async fn run(args: &Args, backend: Backend, work: &Path) -> Result<Vec<String>, BenchError> {
    let sequence = Arc::new(AtomicU64::new(1));
    let hanging = Hanging::start()?;
    let levels: Vec<_> = (1..=THRESHOLDS).map(|n| format!("{{ remaining = \"{}\" }}", GRANTED - n * CALLS_PER_EVENT)).collect();
    let alerts = format!("alerts = [{}]", levels.join(", "));
    let mut comparison = Comparison::default();
    for (name, webhook, baseline) in [(WITHOUT, None, None), (HANGING, Some(hanging.address), Some(WITHOUT))] {
        let metered = Metered { product: &alerts, webhook, ..BY_CALL };
        let gateway = gateway::metered(Edge::Runner, name, &metered, backend.address, work).await?;
        let ledger = Some((comparison.ledgers.len(), 1));
        let subject = Subject::new(name, gateway.address, SMALL, &sequence);
        comparison.subjects.push(Subject { durability: Some(BY_CALL.durability), baseline, ledger, ..subject });
        comparison.ledgers.push(gateway);
    }
    let measured = comparison.measure(&[CONNECTIONS], args.rounds, args.duration).await?;
    report::print(&measured);
    if hanging.connections() == 0 {
        let what = "nothing was posted to the endpoint that hangs".to_owned();
        return Err(BenchError::WrongReply { name: HANGING.to_owned(), what });
    }
    let of = |value: fn(&Measured) -> f64, name: &str| measured.iter().find(|one| one.name == name).map_or(f64::NAN, value);
    let ratio = of(Measured::p99_ms, HANGING) / of(Measured::p99_ms, WITHOUT);
    let [hanging_spread, without_spread] = [HANGING, WITHOUT].map(|name| of(Measured::p99_spread, name));
    println!(
        "bench: webhook_p99 connections={CONNECTIONS} ratio={ratio:.2} spread={hanging_spread:.2} without_spread={without_spread:.2} hanging_posts={}",
        hanging.connections()
    );
    let is_met = ratio <= P99_RATIO_MAX;
    Ok(if is_met { Vec::new() } else { vec![format!("p99 with a hanging webhook: {ratio:.3} of {P99_RATIO_MAX} without")] })
}
