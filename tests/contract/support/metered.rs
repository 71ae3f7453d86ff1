//! Calls that are metered by usage: what backends say was used, and what became of the call.

use super::buyer::{Buyer, units};
use super::call::{Call, Reply};
use super::script::{Script, Step};
use serde_json::{Value, json};

pub(crate) const JSON: &str = "application/json";
pub(crate) const EVENTS: &str = "text/event-stream";
pub(crate) const LINES: &str = "application/x-ndjson";

/// A reply of a content type with Content-Length.
pub(crate) fn reply_of(content_type: &str, body: &str) -> Script {
    Script::text(body).header("content-type", content_type)
}

/// A JSON reply with Content-Length.
pub(crate) fn json_of(body: &str) -> Script {
    reply_of(JSON, body)
}

/// A reply that says that so many tokens were used.
pub(crate) fn used(prompt: u64, completion: u64) -> Script {
    json_of(&json!({ "id": "1", "usage": { "prompt_tokens": prompt, "completion_tokens": completion } }).to_string())
}

/// The beginning of a stream of events.
pub(crate) fn stream() -> Script {
    Script::chunked().header("content-type", EVENTS)
}

/// An event that says that so many tokens were used.
pub(crate) fn usage_event(prompt: u64, completion: u64) -> Step {
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": prompt, "completion_tokens": completion } });
    Step::Text(format!("data: {usage}\n\n"))
}

/// An event with text.
pub(crate) fn text_event(text: &str) -> Step {
    Step::Text(format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": text } }] })))
}

/// What a call was charged, by the ledger.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Charged {
    pub(crate) state: String,
    pub(crate) charge: String,
    pub(crate) usage_missing: bool,
}

impl Charged {
    pub(crate) fn settled(charge: &str) -> Self {
        Self { state: "settled".into(), charge: charge.into(), usage_missing: false }
    }

    pub(crate) fn released() -> Self {
        Self { state: "released".into(), charge: "0".into(), usage_missing: false }
    }

    /// Its hold, for want of readable usage.
    pub(crate) fn hold(charge: &str) -> Self {
        Self { usage_missing: true, ..Self::settled(charge) }
    }
}

impl Buyer {
    /// A POST with a JSON body, answered by a script.
    pub(crate) fn ask(&self, body: &Value, script: &Script) -> Call {
        self.post(body.to_string()).header("content-type", JSON).script(script)
    }

    /// What a call was charged, once it is not live any more.
    pub(crate) async fn charged(&self, call: &Call) -> Charged {
        let id = call.request_id();
        super::eventually(&format!("{id} has ended"), || async { self.call_record(&id).await["state"] != "held" }).await;
        self.charged_now(&id).await
    }

    /// What a call was charged, as the ledger says right now.
    pub(crate) async fn charged_now(&self, request_id: &str) -> Charged {
        let record = self.call_record(request_id).await;
        let text = |name: &str| record[name].as_str().unwrap_or_else(|| panic!("{name} of {record}")).to_owned();
        assert_eq!(record["lost"], false, "{record}");
        let usage_missing = record["usage_missing"].as_bool().unwrap();
        Charged { state: text("state"), charge: text("charge"), usage_missing }
    }

    /// Sends a call whose whole reply must arrive, and checks at once what it was charged.
    pub(crate) async fn expect_charge(&self, call: &Call, charged: &Charged) -> Reply {
        let reply = call.send().await;
        let seen = || format!("{} {:.300}", reply.status, reply.text().escape_debug().to_string());
        assert!(reply.whole, "{}", seen());
        assert_eq!(self.charged_now(&call.request_id()).await, *charged, "{}", seen());
        if let Some(told) = reply.headers.one("tollgate-charge") {
            assert_eq!(told, charged.charge);
        }
        reply
    }

    /// What a live call holds.
    pub(crate) async fn hold_of(&self, request_id: &str) -> String {
        let record = self.call_record(request_id).await;
        assert_eq!(record["state"], "held", "{record}");
        record["hold"].as_str().unwrap().to_owned()
    }

    /// Checks that nothing is held, that charges and balances agree, and that the books balance.
    pub(crate) async fn expect_balanced(&self) {
        let balance = self.balance().await;
        assert_eq!(balance["held"], "0", "{balance}");
        let charged: i64 = self.calls().await.iter().map(|call| units(&call["charge"])).sum();
        assert_eq!(units(&balance["used"]), charged, "{balance}");
        self.gateway.assert_balanced(&self.id).await;
    }
}
