//! Calls that cost one unit each beside plain forwarding, with small replies: what the ledger costs.

use crate::args::Args;
use crate::backend::Backend;
use crate::compare::{Comparison, Subject};
use crate::error::BenchError;
use crate::gateway::{self, BY_CALL, Edge, Metered};
use crate::load::SMALL;
use crate::{peers, report};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const PROCESS_RATIOS: &[(usize, f64)] = &[(16, 0.70), (64, 0.70)];
const POWER_RATIOS: &[(usize, f64)] = &[(64, 0.50)];

/// Measures and prints; returns the bounds that were missed.
pub(crate) async fn run(args: &Args, backend: Backend, work: &Path) -> Result<Vec<String>, BenchError> {
    let sequence = Arc::new(AtomicU64::new(1));
    let mut comparison = Comparison::default();
    add_edge(&mut comparison, Edge::Runner, ["forward", "metered", "metered_hot"], args, backend, work, &sequence).await?;
    let mut peers = None;
    if args.peers {
        if peers::spin_is_usable() {
            let names = ["spin_forward", "spin_metered", "spin_metered_hot"];
            add_edge(&mut comparison, Edge::Spin, names, args, backend, work, &sequence).await?;
        } else {
            println!("peers: Spin 4.1 or newer is not installed, left out");
        }
        peers = peers::start(backend.address, work).await?;
    }
    if let Some(peers) = &peers {
        comparison.subjects.push(Subject::new("nginx", peers.nginx, SMALL, &sequence));
        comparison.subjects.extend(peers.redis.map(|address| Subject::new("nginx_lua_redis", address, SMALL, &sequence)));
    }
    let measured = comparison.measure(&args.connections, args.rounds, args.duration).await?;
    report::print(&measured);
    Ok(report::missed(&measured))
}

async fn add_edge(
    comparison: &mut Comparison,
    edge: Edge,
    [forward, metered, hot]: [&'static str; 3],
    args: &Args,
    backend: Backend,
    work: &Path,
    sequence: &Arc<AtomicU64>,
) -> Result<(), BenchError> {
    let gateway = gateway::forward(edge, forward, "handed_over", backend.address, work)?;
    comparison.subjects.push(Subject::new(forward, gateway.address, SMALL, sequence));
    comparison.forwards.push(gateway);
    for durability in args.durabilities.iter().copied() {
        let name = format!("{metered}-{durability}");
        let gateway = gateway::metered(edge, &name, &Metered { durability, ..BY_CALL }, backend.address, work).await?;
        let ledger = Some((comparison.ledgers.len(), 1));
        let of = |name| Subject {
            durability: Some(durability),
            baseline: Some(forward),
            ledger,
            ..Subject::new(name, gateway.address, SMALL, sequence)
        };
        let least_ratios = match (edge, durability) {
            (Edge::Runner, "process") => PROCESS_RATIOS,
            (Edge::Runner, _) => POWER_RATIOS,
            _ => &[],
        };
        comparison.subjects.push(Subject { least_ratios, ..of(metered) });
        if args.hot {
            let mut one = of(hot);
            one.load.customers = 1;
            comparison.subjects.push(one);
        }
        comparison.ledgers.push(gateway);
    }
    Ok(())
}
