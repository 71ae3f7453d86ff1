//! What the worker and the objects say to each other: JSON over the objects' own fetch, never over the internet.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tollgate::control;
use tollgate::ids::{AccountKey, CustomerId, PackageId, ProductId, RepurchaseId, RequestId};
use tollgate::quantity::Quantity;
use tollgate::relay::within;
use wasm_bindgen::JsValue;
use worker::{Method, Request, RequestInit, Response, Stub};

use crate::clock::{Clock, sleep_ms};
use crate::log;
use crate::replica::Telling;

/// Pauses before an object is asked again that was overloaded or restarted.
const RETRY_PAUSES_MS: [i64; 3] = [20, 100, 400];

/// What a call asks of its customer's object.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CallMessage {
    pub(crate) customer_id: CustomerId,
    pub(crate) product_id: ProductId,
    pub(crate) request_id: RequestId,
    /// It was sent before, and whether it was heard is not known.
    pub(crate) is_repeat: bool,
    pub(crate) step: Step,
}

/// A step of a call.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Step {
    Probe {
        hold: Quantity,
    },
    Admit {
        fingerprint: String,
        hold: Quantity,
        lease_ends_ms: i64,
        replay_limit: u32,
        idempotency_key: u64,
        /// After this, in unix milliseconds, nobody waits for the answer: what arrives later is not admitted.
        valid_until_ms: i64,
    },
    /// Whoever asked for admission with this key got no answer and forwards nothing.
    Abandon {
        idempotency_key: u64,
    },
    Renew {
        attempt: u32,
        lease_ends_ms: i64,
    },
    Settle {
        attempt: u32,
        charge: Quantity,
        status: Option<u16>,
        usage_missing: bool,
        outcome: String,
        hold_us: u64,
        settle_us: Option<u64>,
    },
}

impl Step {
    /// Its name in counters.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Probe { .. } => "probe",
            Self::Admit { .. } => "admit",
            Self::Abandon { .. } => "abandon",
            Self::Renew { .. } => "renew",
            Self::Settle { .. } => "settle",
        }
    }
}

/// What the object answers.
#[derive(Serialize, Deserialize)]
pub(crate) struct CallAnswer {
    pub(crate) verdict: Verdict,
    pub(crate) granted: Quantity,
    pub(crate) available: Quantity,
    pub(crate) is_unmetered: bool,
}

/// What it decided.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Done,
    /// The call has ended, now or before.
    Ended {
        charge: Quantity,
    },
    Held {
        attempt: u32,
        hold: Quantity,
    },
    Replay,
    Exhausted {
        needed: Quantity,
        available: Quantity,
    },
    Expired,
    Frozen,
    NoPackage,
    InFlight,
    Replayed,
    Reused,
    /// The ledger cannot be used now. Retry later.
    Unavailable,
    /// Refused for another reason: the log has it.
    Failed,
}

/// A request of the control API, on its way to an object.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ControlMessage {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

impl ControlMessage {
    pub(crate) fn request(&self) -> control::Request<'_> {
        control::Request {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            authorization: self.authorization.as_deref().map(str::as_bytes),
            body: self.body.as_bytes(),
        }
    }

    pub(crate) fn is_write(&self) -> bool {
        self.method != "GET" && self.method != "HEAD"
    }
}

impl CallAnswer {
    pub(crate) fn of(verdict: Verdict) -> Self {
        Self { verdict, granted: Quantity::ZERO, available: Quantity::ZERO, is_unmetered: false }
    }
}

/// Its answer.
#[derive(Serialize, Deserialize)]
pub(crate) struct ControlAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl From<control::Response> for ControlAnswer {
    fn from(response: control::Response) -> Self {
        if let Some(line) = &response.log {
            log::line(line);
        }
        Self {
            status: response.status,
            content_type: response.content_type.to_owned(),
            body: response.body,
            headers: response.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// An account.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Key {
    customer_id: CustomerId,
    product_id: ProductId,
}

impl From<AccountKey> for Key {
    fn from(key: AccountKey) -> Self {
        Self { customer_id: key.customer_id, product_id: key.product_id }
    }
}

impl From<Key> for AccountKey {
    fn from(key: Key) -> Self {
        Self { customer_id: key.customer_id, product_id: key.product_id }
    }
}

/// What the index is asked.
#[derive(Serialize, Deserialize)]
pub(crate) enum IndexMessage {
    /// Puts an account into the directory: before its first write.
    Enter(Key),
    /// Reserves a package's name for an account, and puts that into the directory.
    Claim {
        package_id: PackageId,
        key: Key,
    },
    /// Gives a name back whose package was refused or is not there. A claim that was renewed since it was judged stays.
    Disclaim {
        package_id: PackageId,
        customer_id: CustomerId,
        claimed_at_ms: i64,
    },
    OwnerOfPackage(PackageId),
    OwnerOfRepurchase(RepurchaseId),
    /// The customers where something is due.
    Due {
        now_ms: i64,
        limit: usize,
    },
    /// A page of the directory.
    Customers {
        after: String,
        limit: usize,
    },
    /// What a customer's object has to tell.
    Learn(Box<Telling>),
}

/// What it answers.
#[derive(Serialize, Deserialize)]
pub(crate) enum IndexAnswer {
    Done,
    /// Whether the name is the account's now, was nobody's before, and was claimed long enough ago for its package to be there.
    Claimed {
        is_granted: bool,
        is_new: bool,
        is_old: bool,
        /// Of the claim that holds now, whosoever it is. No two claims of a name have the same.
        at_ms: i64,
    },
    Owner(Option<CustomerId>),
    Page {
        customers: Vec<CustomerId>,
        next: Option<String>,
    },
    /// The number of the newest telling of the customer that is known. Where it is another one's, nothing was learnt.
    Learnt {
        number: i64,
    },
    Failed,
}

/// Why there is no answer: the object is overloaded, was restarted, or answered what cannot be read. Retry later.
#[derive(Debug)]
pub(crate) struct Unanswered(pub(crate) String);

impl From<worker::Error> for Unanswered {
    fn from(error: worker::Error) -> Self {
        Self(error.to_string())
    }
}

/// Asks an object once, and waits for its answer no longer than this.
pub(crate) async fn ask_within<A: DeserializeOwned>(
    stub: &Stub,
    path: &str,
    message: &impl Serialize,
    timeout_ms: i64,
) -> Result<A, Unanswered> {
    let late = || Unanswered("no answer in time".to_owned());
    within::<Clock, _>(ask(stub, path, message), timeout_ms).await.ok_or_else(late)?
}

async fn ask<A: DeserializeOwned>(stub: &Stub, path: &str, message: &impl Serialize) -> Result<A, Unanswered> {
    let text = serde_json::to_string(message).map_err(|error| Unanswered(error.to_string()))?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&text)));
    let request = Request::new_with_init(&format!("https://object{path}"), &init)?;
    let mut response = stub.fetch_with_request(request).await?;
    let text = response.text().await?;
    serde_json::from_str(&text).map_err(|_| Unanswered(format!("status {} from an object", response.status_code())))
}

/// The longest that a question waits for its answer.
const ANSWER_MS_MAX: i64 = 10_000;

/// Asks an object, a few times where it does not answer. The message must be one that may arrive twice.
pub(crate) async fn ask_again<A: DeserializeOwned>(
    stub: impl Fn() -> worker::Result<Stub>,
    path: &str,
    message: &impl Serialize,
) -> Result<A, Unanswered> {
    let mut pauses = RETRY_PAUSES_MS.into_iter();
    loop {
        // A stub that has failed once fails for ever.
        let error = match ask_within(&stub()?, path, message, ANSWER_MS_MAX).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(pause_ms) = pauses.next() else { return Err(error) };
        sleep_ms(pause_ms).await;
    }
}

/// What an object was asked.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> worker::Result<T> {
    serde_json::from_str(text).map_err(|error| worker::Error::RustError(error.to_string()))
}

/// An object's answer.
pub(crate) fn answer(answer: &impl Serialize) -> worker::Result<Response> {
    let text = serde_json::to_string(answer).map_err(|error| worker::Error::RustError(error.to_string()))?;
    Response::ok(text)
}
