//! The control API over a real SQLite: requests in, answers out.

mod access;
mod answers;
mod events;
mod lists;
mod packages;
mod repurchases;
mod rules;
mod upkeep;

use std::cell::{Cell, RefCell};

use serde_json::Value;

use super::{Request, Response, handle};
use crate::book::Book;
use crate::book::tests::block_on;
use crate::config::{Config, check};
use crate::courier::{Outside, Post, Reply, Unreached};
use crate::ids::{AccountKey, CustomerId, ProductId, RequestId};
use crate::ledger::{Claim, Command, Fingerprint, Settlement};
use crate::quantity::Quantity;
use crate::store::testing::{Sqlite, memory};

const CONFIG: &str = r#"
[gateway]
admin_token = { secret = "admin" }
read_token = { secret = "read" }

[[product]]
id = "translate"
route = "/translate"
backend = "http://127.0.0.1:9"
caller = { kind = "none" }
alerts = [{ percent = "20" }, { remaining = "1" }]

[[product]]
id = "chat"
route = "/chat"
backend = "http://127.0.0.1:9"
caller = { kind = "none" }
"#;

const HOOKS: &str = r#"
[[webhook]]
url = "http://127.0.0.1:9/all?key=s3cret"
secrets = [{ secret = "signing" }]

[[webhook]]
url = "http://127.0.0.1:9/balance"
secrets = [{ secret = "signing" }]
events = ["balance.*"]

[repurchase]
url = "http://127.0.0.1:9/orders"
secrets = [{ secret = "signing" }]
timeout = "15m"
"#;

/// 2026-01-01T00:00:00Z.
const NEW_YEAR_MS: i64 = 1_767_225_600_000;

const DAY_MS: i64 = 86_400_000;

/// A gateway's ledger, its configuration, and its clock.
struct Desk {
    book: Book<Sqlite>,
    config: Config,
    now_ms: i64,
    receiver: Receiver,
}

/// Who is posted to: it answers everything with one status and body.
struct Receiver {
    status: Cell<u16>,
    answer: RefCell<String>,
    now_ms: Cell<i64>,
    posts: RefCell<Vec<Post>>,
}

impl Outside for Receiver {
    async fn post(&self, post: &Post) -> Result<Reply, Unreached> {
        self.posts.borrow_mut().push(post.clone());
        let body = Some(self.answer.borrow().clone().into_bytes());
        Ok(Reply { status: self.status.get(), retry_after: None, body })
    }

    fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    async fn pause_ms(&self, _: i64) {}
}

impl Desk {
    /// Nobody is told of anything, and nobody takes orders.
    fn open() -> Self {
        Self::of(CONFIG)
    }

    /// Two webhooks, of which the second is told of balances alone, and a hook that takes orders.
    fn told() -> Self {
        Self::of(&format!("{CONFIG}{HOOKS}"))
    }

    fn of(config: &str) -> Self {
        let signing = format!("whsec_{}", "QUJD".repeat(8));
        let secret = |name: &str| Some(if name == "signing" { signing.clone() } else { format!("{name}-token") });
        let config = check(config, &secret).unwrap();
        let receiver = Receiver {
            status: Cell::new(200),
            answer: RefCell::new(r#"{"status":"pending"}"#.to_owned()),
            now_ms: Cell::new(NEW_YEAR_MS),
            posts: RefCell::default(),
        };
        Self { book: Book::new(memory(), config.terms()), config, now_ms: NEW_YEAR_MS, receiver }
    }

    fn send(&self, method: &str, target: &str, authorization: Option<&str>, body: &str) -> Response {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let authorization = authorization.map(str::as_bytes);
        let request = Request { method, path, query, authorization, body: body.as_bytes() };
        self.receiver.now_ms.set(self.now_ms);
        block_on(handle(&self.book, &self.config, &self.receiver, &request, self.now_ms))
    }

    /// Sends with the admin token, below `/_tollgate/v1`.
    fn ask(&self, method: &str, target: &str, body: &str) -> Response {
        self.send(method, &format!("/_tollgate/v1{target}"), Some("Bearer admin-token"), body)
    }

    /// What a path shows.
    fn get(&self, target: &str) -> Value {
        let response = self.ask("GET", target, "");
        assert_eq!(response.status, 200, "{target}: {}", response.body);
        serde_json::from_str(&response.body).unwrap()
    }

    /// What a write answers.
    fn write(&self, method: &str, target: &str, body: &str) -> Value {
        let response = self.ask(method, target, body);
        assert_eq!(response.status, 200, "{method} {target}: {}", response.body);
        serde_json::from_str(&response.body).unwrap()
    }

    /// Delivers what is due, and answers what the tick says.
    fn tick(&self) -> Value {
        self.write("POST", "/tick", "")
    }

    fn grant(&self, package_id: &str, customer_id: &str, product_id: &str, quantity: &str) {
        let body = format!(r#"{{"customer_id":"{customer_id}","product_id":"{product_id}","quantity":"{quantity}"}}"#);
        let response = self.ask("PUT", &format!("/packages/{package_id}"), &body);
        assert_eq!(response.status, 201, "{}", response.body);
    }

    fn submit(&self, customer_id: &str, product_id: &str, command: Command) {
        let reply = block_on(self.book.submit(&key(customer_id, product_id), command, self.now_ms)).unwrap();
        reply.result.unwrap();
    }

    /// A call that is on its way until its lease ends.
    fn hold(&self, customer_id: &str, product_id: &str, request_id: &str) {
        let command = Command::Admit(Claim {
            request_id: RequestId::new(request_id).unwrap(),
            fingerprint: Fingerprint::of("GET", "/", None),
            hold: Quantity::ONE,
            lease_ends_ms: self.now_ms + 30_000,
            replay_limit: 1,
            idempotency_key: None,
        });
        self.submit(customer_id, product_id, command);
    }

    fn settle(&self, customer_id: &str, product_id: &str, request_id: &str, charge: Quantity) {
        let settlement = Settlement {
            request_id: RequestId::new(request_id).unwrap(),
            attempt: 1,
            charge,
            status: Some(200),
            usage_missing: false,
        };
        self.submit(customer_id, product_id, Command::Settle(settlement));
    }

    /// A call that was charged.
    fn call(&self, customer_id: &str, product_id: &str, request_id: &str) {
        self.hold(customer_id, product_id, request_id);
        self.settle(customer_id, product_id, request_id, Quantity::ONE);
    }

    /// Goes through a list page by page, and answers its items' values of one member and the number of pages.
    fn walk(&self, target: &str, items: &str, member: &str) -> (Vec<String>, usize) {
        let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = self.get(&format!("{target}{cursor}"));
            pages += 1;
            seen.extend(page[items].as_array().unwrap().iter().map(|item| item[member].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (seen, pages),
            }
        }
    }
}

fn key(customer_id: &str, product_id: &str) -> AccountKey {
    AccountKey { customer_id: CustomerId::new(customer_id).unwrap(), product_id: ProductId::new(product_id).unwrap() }
}

/// The status and problem code of a refusal.
fn refusal(response: &Response) -> (u16, String) {
    assert_eq!(response.content_type, "application/problem+json", "{}", response.body);
    let problem: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(problem["status"], response.status);
    (response.status, problem["code"].as_str().unwrap().to_owned())
}
