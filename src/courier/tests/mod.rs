//! Runs of the courier over a real SQLite, in a world whose clock stands still until everyone waits.

mod crashes;
mod events;
mod orders;
mod several;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::{Outside, Post, Reply, RunLimits, RunReport, Unreached, run};
use crate::book::Book;
use crate::config::{Config, check};
use crate::ids::{AccountKey, CustomerId, PackageId, ProductId};
use crate::ledger::{Command, Grant, PackageKind};
use crate::store::testing::{Sqlite, file};
use crate::store::{Database, Value, create_account};

const START_MS: i64 = 1_800_000_000_000;

/// As much as there is, and no waiting for retries.
const ALL: RunLimits = RunLimits { items_max: usize::MAX, time_max_ms: i64::MAX, stay_ms: 0 };

/// One post as its receiver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    at_ms: i64,
    url: String,
    id: String,
    body: serde_json::Value,
}

impl Seen {
    fn customer(&self) -> String {
        self.body["data"]["customer_id"].as_str().unwrap().to_owned()
    }
}

/// How long a receiver takes, and what it answers then.
type Answer = (i64, Result<Reply, Unreached>);

/// What a receiver does with a post.
type Receiver = Box<dyn Fn(&Seen, usize) -> Answer>;

struct World {
    now_ms: Cell<i64>,
    timers: RefCell<Vec<(i64, Waker)>>,
    seen: RefCell<Vec<Seen>>,
    under_way: RefCell<BTreeSet<(String, String)>>,
    most_under_way: RefCell<BTreeMap<String, usize>>,
    receiver: Receiver,
}

fn replied(status: u16) -> Result<Reply, Unreached> {
    Ok(Reply { status, retry_after: None, body: Some(Vec::new()) })
}

impl World {
    /// A world whose receivers answer so; they are told how many posts of the same message they had before.
    fn new(receiver: impl Fn(&Seen, usize) -> Answer + 'static) -> Self {
        Self {
            now_ms: Cell::new(START_MS),
            timers: RefCell::default(),
            seen: RefCell::default(),
            under_way: RefCell::default(),
            most_under_way: RefCell::default(),
            receiver: Box::new(receiver),
        }
    }

    fn answering(status: u16) -> Self {
        Self::new(move |_, _| (5, replied(status)))
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// How often each message was posted to each URL.
    fn counts(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for seen in self.seen() {
            *counts.entry((seen.url, seen.id)).or_default() += 1;
        }
        counts
    }

    /// Runs a future to its end; whenever it waits for nothing but time, time goes on.
    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            while woken.0.swap(false, Ordering::Relaxed) {
                if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return value;
                }
            }
            self.pass_time();
        }
    }

    fn pass_time(&self) {
        let mut timers = self.timers.borrow_mut();
        let next_ms = timers.iter().map(|(at_ms, _)| *at_ms).min().expect("someone waits for the clock");
        self.now_ms.set(self.now_ms.get().max(next_ms));
        let (due, later): (Vec<_>, Vec<_>) = timers.drain(..).partition(|(at_ms, _)| *at_ms <= next_ms);
        *timers = later;
        due.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A post that its receiver has not answered yet.
struct UnderWay<'a>(&'a World, (String, String));

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.borrow_mut().remove(&self.1);
    }
}

impl Outside for World {
    async fn post(&self, post: &Post) -> Result<Reply, Unreached> {
        let header = |name: &str| post.headers.iter().find(|(other, _)| *other == name).unwrap().1.clone();
        let seen = Seen {
            at_ms: self.now_ms.get(),
            url: format!("http://{}{}", post.authority, post.target),
            id: header("webhook-id"),
            body: serde_json::from_str(&post.body).unwrap(),
        };
        let key = (seen.url.clone(), seen.id.clone());
        let before = self.counts().get(&key).copied().unwrap_or(0);
        self.seen.borrow_mut().push(seen.clone());
        assert!(self.under_way.borrow_mut().insert(key.clone()), "{key:?} is posted twice at once");
        let count = self.under_way.borrow().iter().filter(|(url, _)| *url == seen.url).count();
        self.most_under_way.borrow_mut().entry(seen.url.clone()).and_modify(|most| *most = count.max(*most)).or_insert(count);
        let under_way = UnderWay(self, key);
        let (latency_ms, reply) = (self.receiver)(&seen, before);
        self.pause_ms(latency_ms).await;
        drop(under_way);
        reply
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    async fn pause_ms(&self, ms: i64) {
        let until_ms = self.now_ms.get().saturating_add(ms);
        poll_fn(|context| {
            if self.now_ms.get() >= until_ms {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().push((until_ms, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// A configuration with webhooks at these ports of host `h`, and a hook for orders at `/orders`.
fn config(webhooks: &[(u16, &str)]) -> Config {
    let mut text = "[gateway]\nadmin_token = { secret = \"s\" }\n".to_owned();
    for (port, events) in webhooks {
        text += &format!("[[webhook]]\nurl = \"http://h:{port}/\"\nsecrets = [{{ secret = \"s\" }}]\nevents = [\"{events}\"]\n");
    }
    text += "[repurchase]\nurl = \"http://h/orders\"\nsecrets = [{ secret = \"s\" }]\ntimeout = \"15m\"\n\
             [[product]]\nid = \"translate\"\nroute = \"/\"\nbackend = \"http://h\"\ncaller = { kind = \"none\" }\n";
    check(&text, &|_| Some(format!("whsec_{}", "QUJD".repeat(8)))).unwrap()
}

fn key(customer_id: &str) -> AccountKey {
    AccountKey { customer_id: CustomerId::new(customer_id).unwrap(), product_id: ProductId::new("translate").unwrap() }
}

/// One instance's book, on a ledger that other books may open too.
fn open(folder: &tempfile::TempDir, config: &Config) -> Book<Sqlite> {
    Book::new(file(&ledger(folder)), config.terms())
}

fn ledger(folder: &tempfile::TempDir) -> Box<Path> {
    folder.path().join("ledger.db").into()
}

fn submit<D: Database>(world: &World, book: &Book<D>, customer_id: &str, command: Command) {
    let now_ms = world.now_ms();
    create_account(book.database(), &key(customer_id), now_ms).unwrap();
    let reply = world.drive(book.submit(&key(customer_id), command, now_ms)).unwrap();
    assert!(reply.result.is_ok(), "{reply:?}");
}

/// Gives a package, which is one event to be told.
fn grant<D: Database>(world: &World, book: &Book<D>, customer_id: &str, package_id: &str) {
    submit(world, book, customer_id, granted(package_id));
}

fn granted(package_id: &str) -> Command {
    Command::Grant(Box::new(Grant {
        package_id: PackageId::new(package_id).unwrap(),
        kind: PackageKind::Prepaid,
        quantity: "10".parse().unwrap(),
        starts_at_ms: None,
        expires_at_ms: None,
        priority: 0,
        order_id: None,
        repurchase: None,
    }))
}

fn run_all<D: Database>(world: &World, book: &Book<D>, config: &Config) -> RunReport {
    world.drive(run(book, config, world, ALL)).unwrap()
}

/// Runs whenever something is due, until nothing waits any more. Answers how many posts arrived, and how many did not.
fn run_until_quiet<D: Database>(world: &World, book: &Book<D>, config: &Config) -> (u64, u64) {
    let (mut delivered, mut failed) = (0, 0);
    for _ in 0..10_000 {
        let report = run_all(world, book, config);
        delivered += report.delivered;
        failed += report.failed;
        let Some(next_ms) = report.next_due_ms else { return (delivered, failed) };
        world.now_ms.set(world.now_ms().max(next_ms));
    }
    panic!("it never ends");
}

/// (type, url, state, attempts) of every delivery, in the order of events.
fn deliveries<D: Database>(book: &Book<D>) -> Vec<(String, String, String, i64)> {
    let statement =
        "SELECT e.type, d.url, d.state, d.attempts FROM deliveries AS d JOIN events AS e USING (position) ORDER BY position, url";
    let rows = book.database().execute(statement, &[]).unwrap();
    let text = |value: &Value| value.text().unwrap().to_owned();
    rows.iter().map(|row| (text(&row[0]), text(&row[1]), text(&row[2]), row[3].integer().unwrap())).collect()
}

fn number<D: Database>(book: &Book<D>, statement: &str) -> i64 {
    book.database().execute(statement, &[]).unwrap()[0][0].integer().unwrap()
}
