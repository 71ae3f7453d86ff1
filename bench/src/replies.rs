//! Large JSON replies: what it costs to read them for their usage.
//!
//! The metered gateway's share holds the ledger's cost too, so reading has a comparison of its own: the component that only forwards, with the meter
//! reading what passes through it and without. That one, too, takes bodies through its memory; what this costs beside handing them over unseen is told
//! by its own line.

use crate::args::Args;
use crate::backend::Backend;
use crate::bodies::UNITS;
use crate::compare::{Comparison, Subject};
use crate::error::BenchError;
use crate::gateway::{self, BY_CALL, Edge, Metered};
use crate::load::Asking;
use crate::report;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const LARGE: Asking = Asking { path: "/translate/large", body: "" };
const CONNECTIONS: usize = 16;

/// Of forwarding that takes bodies through its memory.
const SCANNED_RATIOS: &[(usize, f64)] = &[(CONNECTIONS, 0.90)];

/// Measures and prints; returns the bounds that were missed.
pub(crate) async fn run(args: &Args, backend: Backend, work: &Path) -> Result<Vec<String>, BenchError> {
    let sequence = Arc::new(AtomicU64::new(1));
    let mut comparison = Comparison::default();
    for (name, bodies, baseline, least_ratios) in [
        ("large_forward", "handed_over", None, &[][..]),
        ("large_passed", "passed", Some("large_forward"), &[]),
        ("large_scanned", "scanned", Some("large_passed"), SCANNED_RATIOS),
    ] {
        let gateway = gateway::forward(Edge::Runner, name, bodies, backend.address, work)?;
        let subject = Subject::new(name, gateway.address, LARGE, &sequence);
        comparison.subjects.push(Subject { baseline, least_ratios, ..subject });
        comparison.forwards.push(gateway);
    }
    let by_token = Metered { meter: r#"{ unit = "token" }"#, ..BY_CALL };
    let gateway = gateway::metered(Edge::Runner, "large_metered", &by_token, backend.address, work).await?;
    comparison.subjects.push(Subject {
        durability: Some(by_token.durability),
        baseline: Some("large_forward"),
        ledger: Some((0, UNITS)),
        ..Subject::new("large_metered", gateway.address, LARGE, &sequence)
    });
    comparison.ledgers.push(gateway);
    let (rounds, duration) = args.short_rounds();
    let measured = comparison.measure(&[CONNECTIONS], rounds, duration).await?;
    report::print(&measured);
    Ok(report::missed(&measured))
}
