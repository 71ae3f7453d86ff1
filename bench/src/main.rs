//! Measures the metered path beside a component that only forwards, on the same runner, in turn in one run.
//!
//! Everything shares one machine: backend, servers and callers. So only shares are comparable between machines, and every round
//! drives each subject once, so that what disturbs the machine disturbs all of them.

mod args;
mod backend;
mod error;
mod gateway;
mod http;
mod load;
mod peers;
mod process;
mod report;

use args::Args;
use error::BenchError;
use gateway::{CUSTOMERS, Edge, Gateway};
use load::Load;
use report::Measured;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const WARM_UP: Duration = Duration::from_millis(500);
const WARM_UP_CONNECTIONS: usize = 16;

/// One line of the table: a server under a kind of load.
struct Subject {
    name: &'static str,
    durability: Option<&'static str>,
    baseline: Option<&'static str>,
    load: Load,
    /// Which of the metered gateways it is.
    ledger: Option<usize>,
}

/// All that was started for a run.
struct Bench {
    subjects: Vec<Subject>,
    ledgers: Vec<Gateway>,
    /// Kept running.
    _forwards: Vec<Gateway>,
    _peers: Option<peers::Peers>,
}

fn subject(name: &'static str, address: SocketAddr, sequence: &Arc<AtomicU64>) -> Subject {
    let load = Load { name: name.to_owned(), address, customers: CUSTOMERS, sequence: Arc::clone(sequence) };
    Subject { name, durability: None, baseline: None, load, ledger: None }
}

impl Bench {
    async fn start(args: &Args, work: &Path) -> Result<Self, BenchError> {
        let backend = backend::start()?;
        let sequence = Arc::new(AtomicU64::new(1));
        let mut bench = Self { subjects: Vec::new(), ledgers: Vec::new(), _forwards: Vec::new(), _peers: None };
        bench.add_edge(Edge::Runner, ["forward", "metered", "metered_hot"], args, backend, work, &sequence).await?;
        if !args.peers {
            return Ok(bench);
        }
        if peers::spin_is_usable() {
            bench
                .add_edge(Edge::Spin, ["spin_forward", "spin_metered", "spin_metered_hot"], args, backend, work, &sequence)
                .await?;
        } else {
            println!("peers: Spin 4.1 or newer is not installed, left out");
        }
        bench._peers = peers::start(backend, work).await?;
        if let Some(peers) = &bench._peers {
            bench.subjects.push(subject("nginx", peers.nginx, &sequence));
            bench.subjects.extend(peers.redis.map(|address| subject("nginx_lua_redis", address, &sequence)));
        }
        Ok(bench)
    }

    async fn add_edge(
        &mut self,
        edge: Edge,
        [forward, metered, hot]: [&'static str; 3],
        args: &Args,
        backend: SocketAddr,
        work: &Path,
        sequence: &Arc<AtomicU64>,
    ) -> Result<(), BenchError> {
        let gateway = gateway::forward(edge, forward, backend, work)?;
        self.subjects.push(subject(forward, gateway.address, sequence));
        self._forwards.push(gateway);
        for durability in args.durabilities.iter().copied() {
            let gateway = gateway::metered(edge, &format!("{metered}-{durability}"), durability, backend, work).await?;
            let ledger = Some(self.ledgers.len());
            let of = |name| Subject {
                durability: Some(durability),
                baseline: Some(forward),
                ledger,
                ..subject(name, gateway.address, sequence)
            };
            self.subjects.push(of(metered));
            if args.hot {
                let mut one = of(hot);
                one.load.customers = 1;
                self.subjects.push(one);
            }
            self.ledgers.push(gateway);
        }
        Ok(())
    }

    async fn measure(&self, args: &Args) -> Result<Vec<Measured>, BenchError> {
        let mut replies = vec![0; self.ledgers.len()];
        let mut count = |subject: &Subject, round: &load::Round| {
            if let Some(sum) = subject.ledger.and_then(|ledger| replies.get_mut(ledger)) {
                *sum += round.replies;
            }
        };
        for subject in &self.subjects {
            count(subject, &load::drive(&subject.load, WARM_UP_CONNECTIONS, WARM_UP).await?);
        }
        let mut all = Vec::new();
        for connections in args.connections.iter().copied() {
            let mut measured: Vec<Measured> = self.subjects.iter().map(|subject| unmeasured(subject, connections)).collect();
            for n in 1..=args.rounds {
                println!("round {n} of {} at {connections} connections", args.rounds);
                for (subject, measured) in self.subjects.iter().zip(&mut measured) {
                    let round = load::drive(&subject.load, connections, args.duration).await?;
                    count(subject, &round);
                    measured.rounds.push(round);
                }
            }
            all.append(&mut measured);
        }
        for (gateway, replies) in self.ledgers.iter().zip(replies) {
            gateway.check_charges(replies).await?;
            println!("{}: {replies} replies, each charged once; the audit balances", gateway.name);
        }
        Ok(all)
    }
}

fn unmeasured(subject: &Subject, connections: usize) -> Measured {
    let Subject { name, durability, baseline, .. } = *subject;
    Measured { name, durability, baseline, connections, rounds: Vec::new() }
}

async fn run() -> Result<(), BenchError> {
    let args = Args::parse(std::env::args().skip(1))?;
    // On the disk that the build is on: a temporary file system in memory would make durability free.
    let work =
        tempfile::Builder::new().prefix("bench-").tempdir_in("target").map_err(|error| BenchError::Io("target/", error))?;
    let path = work.path().canonicalize().map_err(|error| BenchError::Io("target/", error))?;
    let measured = async { Bench::start(&args, &path).await?.measure(&args).await };
    // Leaving ends every server that was started; they would not hear of Ctrl-C themselves.
    let all = tokio::select! {
        measured = measured => measured?,
        _ = tokio::signal::ctrl_c() => return Err(BenchError::Interrupted),
    };
    let missed = report::print(&all);
    if missed.is_empty() { Ok(()) } else { Err(BenchError::BoundMissed(missed)) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
