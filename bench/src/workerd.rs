//! Calls that cost one unit each on workerd, beside a Worker that only forwards: what two requests to the customer's object cost, where one customer makes
//! all calls and where a thousand do.
//!
//! Each has a process of its own, which runs all its objects on one thread. There is no bound.

use crate::args::Args;
use crate::backend::Backend;
use crate::compare::{Comparison, Subject};
use crate::error::BenchError;
use crate::gateway::{self, BY_CALL, Edge, Metered};
use crate::load::SMALL;
use crate::report;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const FORWARD: &str = "workerd_forward";
/// Names and numbers of customers.
const METERED: [(&str, u64); 2] = [("workerd customers=1", 1), ("workerd customers=1000", 1000)];

/// Objects tell the index 2 seconds after a call what it moved.
const AFTERMATH: Duration = Duration::from_millis(2500);

/// Measures and prints.
pub(crate) async fn run(args: &Args, backend: Backend, work: &Path) -> Result<(), BenchError> {
    let sequence = Arc::new(AtomicU64::new(1));
    let mut comparison = Comparison { aftermath: AFTERMATH, ..Comparison::default() };
    let forward = gateway::forward(Edge::Workerd, FORWARD, "handed_over", backend.address, work)?;
    comparison.subjects.push(Subject::new(FORWARD, forward.address, SMALL, &sequence));
    comparison.forwards.push(forward);
    for (name, customers) in METERED {
        let of_gateway = format!("workerd-{customers}");
        let gateway =
            gateway::metered(Edge::Workerd, &of_gateway, &Metered { customers, ..BY_CALL }, backend.address, work).await?;
        let subject = Subject::new(name, gateway.address, SMALL, &sequence);
        let mut subject = Subject { baseline: Some(FORWARD), ledger: Some((comparison.ledgers.len(), 1)), ..subject };
        subject.load.customers = customers;
        comparison.subjects.push(subject);
        comparison.ledgers.push(gateway);
    }
    let measured = comparison.measure(&args.connections, args.rounds, args.duration).await?;
    report::print(&measured);
    Ok(())
}
