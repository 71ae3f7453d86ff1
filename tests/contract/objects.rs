//! Where each customer's part of the ledger is an object of its own: what a call asks of it, and that it may go and come back.

use crate::support::buyer::Buyer;
use crate::support::call::Reply;
use crate::support::gateway::{CONFIG, Gateway, short_lease};
use crate::support::receiver::Answer;
use crate::support::script::{Script, Step};
use crate::support::stage::Gate;
use crate::support::watched::{Watched, repurchase};
use crate::support::{Suite, eventually, eventually_within};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

crate::cases! {
    ;
    own:
    a_call_asks_its_customers_object_twice,
    an_object_may_be_evicted_between_admission_and_settle,
    a_call_in_a_name_that_nobody_knows_makes_no_ledger,
    what_a_killed_process_had_not_told_is_told_by_itself,
    an_order_under_way_when_the_process_dies_is_posted_again_by_itself,
    an_outcome_that_the_hook_tells_while_it_is_asked_finds_its_order,
}

/// More than there are seconds until an object that is left alone is evicted, with room for a slow machine.
const CUSTOMERS: usize = 40;

/// Longer than the leases of holds and of deliveries, and than the first pauses between tries.
const RESOLVED_WITHIN: Duration = Duration::from_secs(75);

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

async fn what_a_killed_process_had_not_told_is_told_by_itself(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(&short_lease("")).await;
    let mut customers = Vec::new();
    for _ in 0..CUSTOMERS {
        let customer = suite.watched_on(&gateway, "translate");
        customer.grant("1").await;
        customer.expect_hooks("package.granted", 1).await;
        customers.push(customer);
    }
    let mut calls = JoinSet::new();
    for customer in &customers {
        let call = customer.call();
        calls.spawn(async move { call.send().await.assert_ok() });
    }
    calls.join_all().await;
    gateway.kill();
    let has_arrived = |customer: &Watched| !customer.hooks("balance.exhausted").is_empty();
    let before = customers.iter().filter(|customer| has_arrived(customer)).count();
    assert!(before < CUSTOMERS, "all was told before the kill: this case says nothing");
    // Nobody asks for any of them. A call whose settle was not written yet is charged when its lease ends.
    let _gateway = home.start().await;
    eventually_within(RESOLVED_WITHIN, "every event arrives", || async { customers.iter().all(has_arrived) }).await;
}

async fn an_order_under_way_when_the_process_dies_is_posted_again_by_itself(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let customer = suite.watched_on(&gateway, "translate");
    let gate = suite.receiver.gate();
    customer.answer_orders([Answer::PackageAfter(gate.step()), Answer::Package]);
    customer.grant("10").await;
    customer.repurchase(repurchase("9", "10")).await;
    customer.spend(1).await;
    customer.expect_orders(1).await;
    gateway.kill();
    let _gateway = home.start().await;
    customer.expect_hooks("repurchase.succeeded", 1).await;
    assert_eq!(customer.order_ids().len(), 1);
}

async fn an_outcome_that_the_hook_tells_while_it_is_asked_finds_its_order(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let slow = suite.watched_on(&gateway, "translate");
    let mut late = slow.clone();
    late.buyer.product_id = "thrice".to_owned();
    let gate = suite.receiver.gate();
    slow.answer_orders([Answer::Script(Script::text(r#"{"status":"pending"}"#).first(gate.step()))]);
    for one in [&slow, &late] {
        one.grant("100").await;
        one.repurchase(repurchase("99", "10")).await;
    }
    slow.spend(1).await;
    slow.expect_orders(1).await;
    // The order of another product is made while the first one is being posted, and is posted right after it.
    late.spend(1).await;
    gate.open();
    let id = late.expect_orders(2).await;
    let outcome = late.outcome(&id, &json!({ "status": "failed", "reason": "spec_delisted" })).await;
    assert_eq!(outcome.status, 200, "{}", outcome.text());
}

async fn a_call_in_a_name_that_nobody_knows_makes_no_ledger(suite: Arc<Suite>) {
    let (gateway, home) = suite.start(CONFIG).await;
    let known = Buyer::new(&gateway, &suite.backend, "translate");
    known.grant("1").await;
    for _ in 0..5 {
        let stranger = Buyer::new(&gateway, &suite.backend, "translate");
        stranger.call().send().await.problem(403, "no_package");
        stranger.expect_nothing_forwarded();
    }
    let has_tables = |path: &PathBuf| {
        let ledger = rusqlite::Connection::open(path).unwrap();
        ledger.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).unwrap() > 0
    };
    assert_eq!(home.ledgers().iter().filter(|path| has_tables(path)).count(), 1);
    assert_eq!(known.call().send().await.status, 200);
}
