//! The merchant's side of what the gateway sends by itself: webhooks and orders.
//!
//! It records every request with what the official Standard Webhooks library says of its signature, and answers as it was told to for
//! that customer and type of event. Like the backend it is a real server on a real socket.

use super::script::{Script, Step};
use super::stage::{Gate, Next, Stage};
use super::wire::{Headers, Wire, WireError};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;

/// The paths of the suite's config: every event, one type of event, orders.
pub(crate) const HOOKS: &str = "/hooks";
pub(crate) const ONLY_LOW: &str = "/only-low";
pub(crate) const ORDERS: &str = "/orders";
/// The secret of every endpoint in the suite's config.
pub(crate) const SECRET: &str = "whsec_dG9sbGdhdGUtY29udHJhY3Qtc3VpdGUtc2VjcmV0";
/// The secret that replaces it in cases that rotate.
pub(crate) const NEXT_SECRET: &str = "whsec_dG9sbGdhdGUtY29udHJhY3Qtc3VpdGUtcm90YXRl";

/// Whether the official library accepts a request under a secret.
pub(crate) fn verify(secret: &str, headers: &Headers, body: &[u8]) -> Result<(), String> {
    let mut signed = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = headers.one(name).ok_or_else(|| format!("no {name}"))?;
        signed.insert(name, HeaderValue::from_str(&value).map_err(|error| error.to_string())?);
    }
    let library = Webhook::new(secret).map_err(|error| error.to_string())?;
    library.verify(body, &signed).map_err(|error| error.to_string())
}

/// A webhook or an order that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) path: String,
    pub(crate) headers: Headers,
    pub(crate) raw: Vec<u8>,
    pub(crate) body: Value,
    pub(crate) at: Instant,
    /// The whole answer was written.
    pub(crate) answered: bool,
    /// The gateway closed the connection on which an answer was not to come.
    pub(crate) given_up: bool,
}

impl Delivery {
    pub(crate) fn id(&self) -> String {
        self.headers.one("webhook-id").unwrap()
    }

    pub(crate) fn repurchase_id(&self) -> String {
        self.body["data"]["repurchase_id"].as_str().unwrap().to_owned()
    }
}

/// How a request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// As the script says, whatever was sent.
    Script(Script),
    /// The order succeeded, and this is its package: see [`package_of`].
    Package,
    /// The same, once a gate is open.
    PackageAfter(Step),
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Script(Script::status(status))
    }

    pub(crate) fn json(body: &Value) -> Self {
        Self::Script(json_script(body))
    }

    pub(crate) fn pending() -> Self {
        Self::json(&json!({ "status": "pending" }))
    }

    pub(crate) fn succeeded() -> Self {
        Self::json(&json!({ "status": "succeeded" }))
    }

    pub(crate) fn failed(reason: &str) -> Self {
        Self::json(&json!({ "status": "failed", "reason": reason }))
    }
}

fn json_script(body: &Value) -> Script {
    Script::text(&body.to_string()).header("content-type", "application/json")
}

/// The package that an order is for: named after it, of the quantity that was ordered.
pub(crate) fn package_of(order: &Value) -> Value {
    let id = order["repurchase_id"].as_str().unwrap();
    json!({ "package_id": format!("package-{id}"), "quantity": order["quantity"] })
}

type Plan = (String, String, String);

#[derive(Default)]
struct Shared {
    deliveries: Mutex<Vec<Delivery>>,
    plans: Mutex<HashMap<Plan, VecDeque<Answer>>>,
}

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    stage: Stage,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) async fn listen(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), stage: Stage::default(), shared: Arc::default() };
        let accepting = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = accepting.clone();
                tokio::spawn(async move { receiver.serve(Wire::new(stream)).await });
            }
        });
        receiver
    }

    pub(crate) fn gate(&self) -> Gate {
        self.stage.gate()
    }

    /// How a customer's events of a type are answered at a path, in order of arrival; the last answer stands for all that follow.
    pub(crate) fn plan(&self, path: &str, customer_id: &str, kind: &str, answers: impl IntoIterator<Item = Answer>) {
        let key = (path.to_owned(), customer_id.to_owned(), kind.to_owned());
        self.shared.plans.lock().unwrap().insert(key, answers.into_iter().collect());
    }

    /// What arrived at a path about a customer, in order of arrival. All of it must bear a good signature.
    pub(crate) fn of(&self, path: &str, customer_id: &str) -> Vec<Delivery> {
        let deliveries = self.shared.deliveries.lock().unwrap();
        let theirs = deliveries.iter().filter(|one| one.path == path && one.body["data"]["customer_id"] == customer_id);
        let theirs: Vec<_> = theirs.cloned().collect();
        for one in &theirs {
            verify(SECRET, &one.headers, &one.raw).unwrap_or_else(|error| panic!("{error}: {one:?}"));
        }
        theirs
    }

    /// As [`Receiver::of`], whatever it was signed with.
    pub(crate) fn unverified(&self, path: &str) -> Vec<Delivery> {
        self.shared.deliveries.lock().unwrap().iter().filter(|one| one.path == path).cloned().collect()
    }

    async fn serve(&self, mut wire: Wire) {
        while matches!(self.exchange(&mut wire).await, Ok(Next::Request)) {}
    }

    async fn exchange(&self, wire: &mut Wire) -> Result<Next, WireError> {
        let Some(head) = wire.request_head().await? else { return Ok(Next::Close) };
        let mut framing = head.request_framing()?;
        let mut raw = Vec::new();
        while let Some(piece) = wire.piece(&mut framing).await? {
            raw.extend(piece);
        }
        let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
        let script = self.script(&head.target, &body);
        let index = {
            let mut deliveries = self.shared.deliveries.lock().unwrap();
            let (path, headers) = (head.target, head.headers);
            deliveries.push(Delivery { path, headers, raw, body, at: Instant::now(), answered: false, given_up: false });
            deliveries.len() - 1
        };
        let next = self.stage.answer(wire, &script, false).await;
        let delivery = &mut self.shared.deliveries.lock().unwrap()[index];
        delivery.answered = matches!(next, Ok(Next::Request));
        delivery.given_up = matches!(next, Ok(Next::Abandoned));
        next
    }

    fn script(&self, path: &str, body: &Value) -> Script {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = (path.to_owned(), text(&body["data"]["customer_id"]), text(&body["type"]));
        let answer = match self.shared.plans.lock().unwrap().get_mut(&key) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None => None,
        };
        let package = || {
            let order = &body["data"];
            json_script(&json!({ "status": "succeeded", "repurchase_id": order["repurchase_id"], "package": package_of(order) }))
        };
        match answer {
            Some(Answer::Script(script)) => script,
            Some(Answer::Package) => package(),
            Some(Answer::PackageAfter(gate)) => package().first(gate),
            None if path == ORDERS => json_script(&json!({ "status": "pending" })),
            None => Script::status(204),
        }
    }
}
