//! Where each customer's part of the ledger is an object of its own: what a call asks of it, and that it may go and come back.

use crate::support::buyer::Buyer;
use crate::support::call::Reply;
use crate::support::gateway::{CONFIG, Gateway};
use crate::support::script::{Script, Step};
use crate::support::stage::Gate;
use crate::support::{Suite, eventually};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

crate::cases! {
    ;
    own:
    a_call_asks_its_customers_object_twice,
    an_object_may_be_evicted_between_admission_and_settle,
}

/// More than there are seconds until an object that is left alone is evicted, with room for a slow machine.
const CUSTOMERS: usize = 40;

async fn counter(gateway: &Gateway, name: &str) -> usize {
    let text = gateway.control("GET", "/metrics").send().await.text();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().map_or(0, |count| count.parse().unwrap())
}

/// How often objects were asked for a step of a call.
async fn asked(gateway: &Gateway, step: &str) -> usize {
    counter(gateway, &format!("tollgate_ledger_requests_total{{step=\"{step}\"}}")).await
}

/// How often objects were opened, as far as the index was told.
async fn opened(gateway: &Gateway) -> usize {
    counter(gateway, "tollgate_ledger_opened_total").await
}

async fn a_call_asks_its_customers_object_twice(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "translate");
    buyer.grant("1000").await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let call = buyer.call();
        calls.spawn(async move { call.send().await.assert_ok() });
    }
    calls.join_all().await;
    buyer.expect_used("100").await;
    eventually("all steps are counted", || async { asked(&gateway, "settle").await == 100 }).await;
    assert_eq!(asked(&gateway, "admit").await, 100);
    assert_eq!((asked(&gateway, "probe").await, asked(&gateway, "renew").await), (0, 0));
}

/// A call whose reply has begun and ends with its gate.
struct Begun {
    buyer: Buyer,
    id: String,
    gate: Gate,
    running: JoinHandle<Reply>,
}

impl Begun {
    async fn on(suite: &Suite, gateway: &Gateway) -> Self {
        let buyer = Buyer::new(gateway, &suite.backend, "translate");
        buyer.grant("10").await;
        let gate = suite.backend.gate();
        let call = buyer.call().script(&Script::chunked().then(Step::Text("begun".into())).then(gate.step()));
        let id = call.request_id();
        let running = tokio::spawn(async move { call.send().await });
        buyer.expect_forwarded(1).await;
        Self { buyer, id, gate, running }
    }

    async fn end(self) {
        self.gate.open();
        self.running.await.unwrap().assert_ok();
        let record = self.buyer.call_in_state(&self.id, "settled").await;
        assert_eq!((&record["charge"], &record["lost"]), (&"1".into(), &false.into()));
        self.buyer.expect_used("1").await;
        self.buyer.gateway.assert_balanced(&self.buyer.id).await;
    }
}

async fn an_object_may_be_evicted_between_admission_and_settle(suite: Arc<Suite>) {
    // No lease is renewed within the time that an object idles before it is evicted, which is 10 s.
    let config = CONFIG.replace("[gateway]", "[gateway]\nhold_lease = \"240s\"");
    let (gateway, _home) = suite.start(&config).await;
    let mut calls = Vec::new();
    for _ in 0..CUSTOMERS {
        calls.push(Begun::on(&suite, &gateway).await);
    }
    // Who looks at an object keeps it awake: each call that ends tells for how long objects had been left alone.
    for call in calls {
        call.end().await;
        if opened(&gateway).await > CUSTOMERS {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("no object was opened a second time");
}
