//! Callers that call until the gateway is gone.

use super::buyer::{Buyer, units};
use super::call::Call;
use super::eventually;
use super::gateway::Home;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Vec<String>>,
}

impl Load {
    /// Starts so many callers, each of which makes one call after the other.
    pub(crate) fn start(buyer: &Buyer, callers: usize, make: impl Fn(&Buyer) -> Call + Clone + Send + 'static) -> Self {
        let mut load = Self { stop: Arc::default(), callers: JoinSet::new() };
        for _ in 0..callers {
            let (buyer, stop, make) = (buyer.clone(), Arc::clone(&load.stop), make.clone());
            load.callers.spawn(async move {
                let mut served = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let call = make(&buyer);
                    match call.try_send().await {
                        Ok(reply) if reply.status == 200 && reply.whole => served.push(call.request_id()),
                        Ok(reply) => assert!(!reply.whole || reply.status >= 500, "{} {}", reply.status, reply.text()),
                        Err(_) => break,
                    }
                }
                served
            });
        }
        load
    }

    /// Lets the callers end, and returns the ids of the calls whose whole reply arrived.
    pub(crate) async fn end(self) -> HashSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await.into_iter().flatten().collect()
    }
}

/// Kills the buyer's gateway under load and starts it again on the same state, once for each number of calls that must have arrived before. Every time the
/// audit balances, and in the end no hold is left. Answers the ids of the calls whose whole reply arrived.
pub(crate) async fn survive_kills(
    buyer: &mut Buyer,
    home: &Home,
    arrivals: impl Iterator<Item = usize>,
    callers: usize,
    make: impl Fn(&Buyer) -> Call + Clone + Send + 'static,
) -> HashSet<String> {
    let mut served = HashSet::new();
    for arrived in arrivals {
        let seen = buyer.received().len();
        let load = Load::start(buyer, callers, make.clone());
        eventually("the load is running", || async { buyer.received().len() >= seen + arrived }).await;
        buyer.gateway.kill();
        served.extend(load.end().await);
        buyer.gateway = home.start().await;
        buyer.gateway.assert_balanced(&buyer.id).await;
    }
    eventually("no hold is left", || async {
        buyer.gateway.tick().await;
        units(&buyer.balance().await["held"]) == 0
    })
    .await;
    served
}
