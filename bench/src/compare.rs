//! Servers under the same load, in turn: every round drives each once, so that what disturbs the machine disturbs all of them.
//!
//! What the callers of a metered gateway saw is compared with its ledger at the end.

use crate::error::BenchError;
use crate::gateway::{CUSTOMERS, Gateway};
use crate::load::{self, Asking, Load, Round};
use crate::report::Measured;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_millis(500);
const WARM_UP_CONNECTIONS: usize = 16;
const LEAD_UP_LIMIT: Duration = Duration::from_secs(20);

/// A server under a kind of load.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) durability: Option<&'static str>,
    /// The name of the subject that it is a share of.
    pub(crate) baseline: Option<&'static str>,
    /// By connections, the least share that is enough.
    pub(crate) least_ratios: &'static [(usize, f64)],
    pub(crate) load: Load,
    /// Which of the metered gateways it is, and how many units a reply costs there.
    pub(crate) ledger: Option<(usize, u64)>,
}

impl Subject {
    /// One that is compared with nothing.
    pub(crate) fn new(name: &'static str, address: SocketAddr, asking: Asking, sequence: &Arc<AtomicU64>) -> Self {
        let load = Load { name: name.to_owned(), address, asking, customers: CUSTOMERS, sequence: Arc::clone(sequence) };
        Self { name, durability: None, baseline: None, least_ratios: &[], load, ledger: None }
    }

    fn unmeasured(&self, connections: usize) -> Measured {
        let Self { name, durability, baseline, .. } = *self;
        let least_ratio = self.least_ratios.iter().find(|(number, _)| *number == connections).map(|(_, least)| *least);
        Measured { name, durability, baseline, connections, least_ratio, rounds: Vec::new() }
    }
}

/// Subjects and what they need.
#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) subjects: Vec<Subject>,
    pub(crate) ledgers: Vec<Gateway>,
    /// Kept running.
    pub(crate) forwards: Vec<Gateway>,
    /// How long a server works for a call after its reply. Each is driven for so long before it is measured, and let be for so long after.
    pub(crate) aftermath: Duration,
}

impl Comparison {
    /// Drives all, with each number of connections.
    pub(crate) async fn measure(
        &self,
        connections: &[usize],
        rounds: usize,
        duration: Duration,
    ) -> Result<Vec<Measured>, BenchError> {
        let mut units = vec![0; self.ledgers.len()];
        let mut count = |subject: &Subject, round: &Round| {
            if let Some((ledger, units_per_reply)) = subject.ledger
                && let Some(sum) = units.get_mut(ledger)
            {
                *sum += round.replies * units_per_reply;
            }
        };
        for subject in &self.subjects {
            count(subject, &load::drive(&subject.load, WARM_UP_CONNECTIONS, WARM_UP).await?);
        }
        let mut all = Vec::new();
        for connections in connections.iter().copied() {
            let mut measured: Vec<Measured> = self.subjects.iter().map(|subject| subject.unmeasured(connections)).collect();
            for n in 1..=rounds {
                println!("round {n} of {rounds} at {connections} connections");
                for (subject, measured) in self.subjects.iter().zip(&mut measured) {
                    for round in self.lead_up(subject, connections).await? {
                        count(subject, &round);
                    }
                    let round = load::drive(&subject.load, connections, duration).await?;
                    count(subject, &round);
                    measured.rounds.push(round);
                    tokio::time::sleep(self.aftermath).await;
                }
            }
            all.append(&mut measured);
        }
        for (gateway, units) in self.ledgers.iter().zip(units) {
            gateway.check_charges(units).await?;
            println!("{}: {units} units used, each charged once; the audit balances", gateway.name);
        }
        Ok(all)
    }

    /// Drives until the server works as it does under lasting load: every customer was asked, and calls have their aftermath.
    async fn lead_up(&self, subject: &Subject, connections: usize) -> Result<Vec<Round>, BenchError> {
        let (begin, mut rounds, mut replies) = (Instant::now(), Vec::new(), 0);
        while !self.aftermath.is_zero() && replies < subject.load.customers {
            if begin.elapsed() > LEAD_UP_LIMIT {
                println!(
                    "{}: {replies} calls in {LEAD_UP_LIMIT:?}, it is measured before every customer was asked",
                    subject.name
                );
                break;
            }
            let round = load::drive(&subject.load, connections, self.aftermath).await?;
            replies += round.replies;
            rounds.push(round);
        }
        Ok(rounds)
    }
}
