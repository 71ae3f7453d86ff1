//! The control API: which object answers, and what several of them answer together.

use futures::future::join_all;
use serde::Deserialize;
use tollgate::control::{self, AuditPage, Scope, UpkeepReport};
use tollgate::gateway::Head;
use tollgate::ids::{AccountKey, CustomerId, PackageId};
use tollgate::problem::{Code, Problem};
use tollgate::relay::{BodyError, read_whole, within};
use worker::Env;

use crate::body::Incoming;
use crate::clock::{Clock, now_ms};
use crate::message::{ControlAnswer, ControlMessage, IndexAnswer, IndexMessage, Unanswered, ask_again};
use crate::settings::Settings;
use crate::{log, wire};

/// The longest pause between two chunks of a control request's body.
const IDLE_TIMEOUT_MS: i64 = 10_000;

/// So many customers are ticked by one tick, and so many objects asked at once.
const TICKED_MAX: usize = 32;
const ASKED_AT_ONCE: usize = 16;

/// How long an object is waited for: its tick posts for 20 s at most.
const ASKED_MS_MAX: i64 = 30_000;

/// What matters of an event that is delivered again.
#[derive(Default, Deserialize)]
struct Event {
    #[serde(rename = "type", default)]
    event_type: String,
    #[serde(default)]
    data: EventData,
    #[serde(default)]
    deliveries: Vec<Delivery>,
}

#[derive(Default, Deserialize)]
struct EventData {
    #[serde(default)]
    customer_id: Option<CustomerId>,
}

#[derive(Deserialize)]
struct Delivery {
    webhook: serde_json::Value,
    state: String,
}

impl Event {
    /// Whose order is posted again. An order that stays delivered is not: only another endpoint missed the event.
    fn orderer(self) -> Option<CustomerId> {
        let stays_delivered =
            self.deliveries.iter().any(|delivery| delivery.webhook == "repurchase" && delivery.state == "delivered");
        self.data.customer_id.filter(|_| self.event_type == "repurchase.requested" && !stays_delivered)
    }
}

/// Answers one request.
pub(crate) async fn control(
    settings: &'static Settings,
    env: &Env,
    request: &web_sys::Request,
    head: &Head,
) -> web_sys::Response {
    let mut authorizations = head.values("authorization");
    let authorization = authorizations.next().filter(|_| authorizations.next().is_none());
    let (method, path, query) = (&head.method, &head.path, head.query.as_deref());
    // Whom it concerns is asked only where the request may be made: a scope can reserve names.
    if let Some(refused) = control::refused(&settings.config, &control::Request { method, path, query, authorization, body: &[] })
    {
        return wire::control_reply(refused.into(), method);
    }
    let body = match read_body(request).await {
        Ok(body) => body,
        Err(error) => return wire::problem(&error.problem(), None, Vec::new()),
    };
    let scope = control::scope(&control::Request { method, path, query, authorization, body: &body });
    let message = ControlMessage {
        method: head.method.clone(),
        path: head.path.clone(),
        query: head.query.clone(),
        authorization: authorization.map(|value| value.iter().map(|byte| char::from(*byte)).collect()),
        // What is no text is no JSON, and neither is this.
        body: String::from_utf8(body.clone()).unwrap_or_else(|_| "\0".to_owned()),
    };
    let objects = Objects { settings, env };
    match objects.answer(scope, &message).await {
        Ok(answer) => wire::control_reply(answer, method),
        Err(error) => {
            log::line(&format!("an object does not answer: {}", error.0));
            // An object may have done it all the same, and only its answer was lost.
            let problem = Problem::new(Code::LedgerUnavailable, "Whether it was done is not known. Try again.");
            wire::control_reply(refusal(problem.with_retry_after_s(1)), method)
        }
    }
}

fn refusal(problem: Problem) -> ControlAnswer {
    control::Response::from(problem).into()
}

/// Does what is due, as a tick that nobody asked for.
pub(crate) async fn tick(settings: &'static Settings, env: &Env) {
    let message = ControlMessage {
        method: "POST".to_owned(),
        path: "/_tollgate/v1/tick".to_owned(),
        query: None,
        authorization: Some(format!("Bearer {}", settings.config.gateway.admin_token.expose())),
        body: String::new(),
    };
    match (Objects { settings, env }).tick(&message).await {
        Ok(answer) if answer.status == 200 => {}
        Ok(answer) => log::line(&format!("a tick was answered {}", answer.status)),
        Err(error) => log::line(&format!("an object does not answer: {}", error.0)),
    }
}

async fn read_body(request: &web_sys::Request) -> Result<Vec<u8>, BodyError> {
    let Some(stream) = request.body() else { return Ok(Vec::new()) };
    read_whole::<Clock>(Incoming::of(&stream), control::BODY_LENGTH_MAX, IDLE_TIMEOUT_MS).await
}

struct Objects<'a> {
    settings: &'static Settings,
    env: &'a Env,
}

impl Objects<'_> {
    async fn answer(&self, scope: Scope, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        match scope {
            Scope::Customer { customer_id, makes } => {
                if let Some(product_id) = makes {
                    self.index(&IndexMessage::Enter(AccountKey { customer_id: customer_id.clone(), product_id }.into())).await?;
                }
                self.of_customer(&customer_id, message).await
            }
            Scope::Grant { package_id, key } => self.grant(package_id, key, message).await,
            Scope::Package(package_id) => self.of_owner(&IndexMessage::OwnerOfPackage(package_id), message).await,
            Scope::Repurchase(id) => self.of_owner(&IndexMessage::OwnerOfRepurchase(id), message).await,
            Scope::IndexAfter(customer_id) => {
                self.tell(&customer_id).await?;
                self.of_index(message).await
            }
            Scope::Redeliver(_) => self.redeliver(message).await,
            Scope::Index => self.of_index(message).await,
            Scope::Tick => self.tick(message).await,
            Scope::AuditPage { after, limit } => self.audit(after, limit, message).await,
        }
    }

    /// Grants a package under a name that is the customer's alone.
    async fn grant(&self, package_id: PackageId, key: AccountKey, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        let customer_id = key.customer_id.clone();
        let claim = IndexMessage::Claim { package_id: package_id.clone(), key: key.into() };
        let mut claimed = self.index(&claim).await?;
        if let IndexAnswer::Claimed { is_granted: false, is_old: true, at_ms, .. } = claimed
            && let IndexAnswer::Owner(Some(owner)) = self.index(&IndexMessage::OwnerOfPackage(package_id.clone())).await?
        {
            // Whoever claimed it may have got no further.
            let question = ControlMessage { method: "GET".to_owned(), body: String::new(), ..message.clone() };
            if self.of_customer(&owner, &question).await?.status == 404 {
                self.index(&IndexMessage::Disclaim { package_id: package_id.clone(), customer_id: owner, claimed_at_ms: at_ms })
                    .await?;
                claimed = self.index(&claim).await?;
            }
        }
        let IndexAnswer::Claimed { is_granted: true, is_new, at_ms, .. } = claimed else {
            return Ok(refusal(Problem::new(Code::Conflict, "Another package was granted under this id.")));
        };
        let answer = self.of_customer(&customer_id, message).await?;
        if is_new && (400..500).contains(&answer.status) {
            self.index(&IndexMessage::Disclaim { package_id, customer_id, claimed_at_ms: at_ms }).await?;
        }
        Ok(answer)
    }

    async fn index(&self, message: &IndexMessage) -> Result<IndexAnswer, Unanswered> {
        match in_time(ask_again(|| self.settings.index(self.env), "/index", message)).await? {
            IndexAnswer::Failed => Err(Unanswered("the index failed".to_owned())),
            answer => Ok(answer),
        }
    }

    async fn of_index(&self, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        in_time(ask_again(|| self.settings.index(self.env), "/control", message)).await
    }

    async fn of_customer(&self, customer_id: &CustomerId, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        in_time(ask_again(|| self.settings.account(self.env, customer_id), "/control", message)).await
    }

    /// Whoever the index names; the index itself, which says that there is no such thing, where that is nobody.
    async fn of_owner(&self, question: &IndexMessage, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        match self.index(question).await? {
            IndexAnswer::Owner(Some(customer_id)) => self.of_customer(&customer_id, message).await,
            _ => self.of_index(message).await,
        }
    }

    /// Has a customer's object tell the index all that is new. A list without it would say that it did not happen.
    async fn tell(&self, customer_id: &CustomerId) -> Result<(), Unanswered> {
        match in_time(ask_again(|| self.settings.account(self.env, customer_id), "/tell", &())).await? {
            IndexAnswer::Done => Ok(()),
            _ => Err(Unanswered("a customer's object cannot tell the index what is new".to_owned())),
        }
    }

    async fn redeliver(&self, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        let answer = self.of_index(message).await?;
        let event: Event = serde_json::from_str(&answer.body).unwrap_or_default();
        match event.orderer() {
            // An order goes to its hook from its customer's object.
            Some(customer_id) => {
                let posted = self.of_customer(&customer_id, message).await?;
                Ok(if posted.status >= 500 { posted } else { answer })
            }
            None => Ok(answer),
        }
    }

    async fn tick(&self, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        let first = self.of_index(message).await?;
        // Who asks wrongly has nothing done. What the index alone fails at keeps no customer from its turn.
        if (400..500).contains(&first.status) {
            return Ok(first);
        }
        let due = self.index(&IndexMessage::Due { now_ms: now_ms(), limit: TICKED_MAX }).await?;
        let IndexAnswer::Page { customers, next } = due else { return Ok(first) };
        let mut sum: UpkeepReport = serde_json::from_str(&first.body).unwrap_or_default();
        sum.more |= next.is_some();
        for answer in self.of_customers(&customers, message).await {
            match answer.and_then(report) {
                Ok(report) => sum.add(&report),
                Err(error) => {
                    log::line(&format!("what is due of a customer is left: {}", error.0));
                    sum.more = true;
                }
            }
        }
        if first.status != 200 {
            return Ok(first);
        }
        let body = serde_json::to_string(&sum).map_err(|error| Unanswered(error.to_string()))?;
        Ok(ControlAnswer { body, ..first })
    }

    async fn audit(&self, after: String, limit: usize, message: &ControlMessage) -> Result<ControlAnswer, Unanswered> {
        let IndexAnswer::Page { customers, next } = self.index(&IndexMessage::Customers { after, limit }).await? else {
            return Err(Unanswered("the index answered with something else".to_owned()));
        };
        let mut page = AuditPage::empty(next.as_deref());
        for answer in self.of_customers(&customers, message).await {
            let answer = answer?;
            let found = serde_json::from_str(&answer.body).ok();
            let Some(found) = found.filter(|_| answer.status == 200) else { return Ok(answer) };
            page.add(found);
        }
        let body = serde_json::to_string(&page).map_err(|error| Unanswered(error.to_string()))?;
        Ok(ControlAnswer { status: 200, content_type: "application/json".to_owned(), body, headers: Vec::new() })
    }

    /// The same request to each customer, without what says which page of customers is meant.
    async fn of_customers(&self, customers: &[CustomerId], message: &ControlMessage) -> Vec<Result<ControlAnswer, Unanswered>> {
        let alone = ControlMessage { query: None, ..message.clone() };
        let mut answers = Vec::new();
        for some in customers.chunks(ASKED_AT_ONCE) {
            answers.extend(join_all(some.iter().map(|customer_id| self.of_customer(customer_id, &alone))).await);
        }
        answers
    }
}

/// An object's answer, which is not waited for for ever.
async fn in_time<T>(answer: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    let answered = within::<Clock, _>(answer, ASKED_MS_MAX).await;
    answered.unwrap_or_else(|| Err(Unanswered("no answer in time".to_owned())))
}

/// What a customer's object says that it did.
fn report(answer: ControlAnswer) -> Result<UpkeepReport, Unanswered> {
    let report = serde_json::from_str(&answer.body).ok();
    report.filter(|_| answer.status == 200).ok_or_else(|| Unanswered(format!("its tick was answered {}", answer.status)))
}
