//! The control API: packages, balances, calls, rules, orders and events for whoever runs the gateway (contract section 5).
//!
//! [`handle`] takes one request and answers it. What always holds: nothing is looked at before the bearer token is right, a write's answer is given
//! only after the write is durable, and no answer carries the text of an inner error. The border: a request whose body was read and bounded comes
//! in, a status and a text go out; sockets, `HEAD` and request ids are the edge's.

mod audit;
mod body;
mod calls;
mod customers;
mod events;
mod failure;
mod json;
mod metrics;
mod packages;
mod query;
mod repurchases;
mod routes;
mod rules;
mod scope;
mod time;
mod upkeep;
mod webhooks;

#[cfg(test)]
mod tests;

pub use audit::AuditPage;
pub use routes::ROUTES;
pub use scope::{Scope, scope};
pub use upkeep::{UpkeepReport, upkeep};

use std::fmt;

use crate::book::Book;
use crate::config::{Config, Gateway};
use crate::courier::Outside;
use crate::problem::{Code, Problem};
use crate::store::{Database, StoreError};
use failure::Failure;
use query::{PathIds, Query};
use routes::{Action, Routed};

/// One request to the control API.
pub struct Request<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path as it arrived, without the query.
    pub path: &'a str,
    /// The query as it arrived, where there is one.
    pub query: Option<&'a str>,
    /// The `Authorization` header, where there is exactly one.
    pub authorization: Option<&'a [u8]>,
    /// The body, bounded by the edge.
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

/// One answer of the control API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type` of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// A line for the log, where something failed that the client is not told about.
    pub log: Option<String>,
}

impl Response {
    fn ok(content_type: &'static str, body: String) -> Self {
        Self { status: 200, content_type, body, headers: Vec::new(), log: None }
    }
}

/// What every action works with.
struct Context<'a, D> {
    book: &'a Book<D>,
    config: &'a Config,
    access: Access,
    now_ms: i64,
}

impl<D: Database> Context<'_, D> {
    /// For reading.
    fn tables(&self) -> Result<&D, StoreError> {
        self.book.tables()
    }
}

/// Answers one request. Time is unix milliseconds; a tick delivers to the outside.
pub async fn handle<D: Database>(
    book: &Book<D>,
    config: &Config,
    outside: &impl Outside,
    request: &Request<'_>,
    now_ms: i64,
) -> Response {
    let mut context = Context { book, config, access: Access::Read, now_ms };
    answer(&mut context, outside, request).await.unwrap_or_else(Failure::into_response)
}

async fn answer<D: Database>(
    context: &mut Context<'_, D>,
    outside: &impl Outside,
    request: &Request<'_>,
) -> Result<Response, Failure> {
    let Admitted { action, path_ids, access } = admit(&context.config.gateway, request)?;
    context.access = access;
    run(context, outside, action, &path_ids, request).await
}

/// A request whose token, path and method are right.
struct Admitted {
    action: Action,
    path_ids: PathIds,
    access: Access,
}

/// Decides by token, path and method alone.
fn admit(gateway: &Gateway, request: &Request<'_>) -> Result<Admitted, Failure> {
    // Without its body, which the edge drops, the answer to HEAD is that to GET.
    let method = if request.method == "HEAD" { "GET" } else { request.method };
    let routed = routes::find(method, request.path);
    let access = if routed.is_open() { Access::Read } else { access(gateway, request.authorization)? };
    match routed {
        Routed::Found { .. } if access == Access::Read && method != "GET" => {
            Err(Problem::new(Code::Unauthorized, "This token may only read.").with_status(403).into())
        }
        Routed::Found { action, path_ids } => Ok(Admitted { action, path_ids, access }),
        Routed::WrongMethod { allow, .. } => Err(Failure::WrongMethod { allow }),
        Routed::Unknown => Err(Problem::new(Code::NotFound, "The control API has no such path.").into()),
    }
}

/// What [`handle`] answers to a request that it refuses by its token, path or method, whatever its body and the ledger say: for an edge whose ledger is in
/// parts, which asks none of them for such a request. None where the ledger answers.
#[must_use]
pub fn refused(config: &Config, request: &Request<'_>) -> Option<Response> {
    admit(&config.gateway, request).err().map(Failure::into_response)
}

/// Whether anybody may ask this, without a token.
#[must_use]
pub fn is_open(request: &Request<'_>) -> bool {
    routes::find(request.method, request.path).is_open()
}

async fn run<D: Database>(
    context: &Context<'_, D>,
    outside: &impl Outside,
    action: Action,
    ids: &PathIds,
    request: &Request<'_>,
) -> Result<Response, Failure> {
    let (query, body) = (Query(request.query), request.body);
    match action {
        Action::Health => Ok(healthy()),
        Action::Ready => upkeep::ready(context),
        Action::PutPackage => packages::put(context, ids, query, body).await,
        Action::GetPackage => packages::get(context, ids, query),
        Action::ListPackages => packages::list(context, query),
        Action::PatchPackage => packages::patch(context, ids, query, body).await,
        Action::FreezePackage | Action::UnfreezePackage | Action::ReleasePackage => {
            packages::change_standing(context, action, ids, query, body).await
        }
        Action::AdjustPackage => packages::adjust(context, ids, query, body).await,
        Action::ListCustomers => customers::list(context, query),
        Action::GetBalance => customers::balance(context, ids, query),
        Action::ListCalls => calls::list(context, ids, query),
        Action::GetCall => calls::get(context, ids, query),
        Action::RefundCall => calls::refund(context, ids, query, body).await,
        Action::PutRules => rules::put(context, ids, query, body).await,
        Action::GetRules => rules::get(context, ids, query),
        Action::ListRepurchases => repurchases::list(context, query),
        Action::GetRepurchase => repurchases::get(context, ids, query),
        Action::ConcludeRepurchase => repurchases::conclude(context, ids, query, body).await,
        Action::ListEvents => events::list(context, query),
        Action::RedeliverEvent => events::redeliver(context, ids, query, body),
        Action::ListWebhooks => webhooks::list(context, query),
        Action::EnableWebhook => webhooks::enable(context, ids, query, body),
        Action::Tick => upkeep::tick(context, outside, query, body).await,
        Action::Audit => audit::page(context, query).await,
        Action::Metrics => metrics::page(context, query),
    }
}

/// What a token opens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Everything,
    Read,
}

fn access(gateway: &Gateway, authorization: Option<&[u8]>) -> Result<Access, Failure> {
    let token = authorization.and_then(bearer_token).ok_or_else(unauthorized)?;
    if gateway.admin_token.matches(token) {
        Ok(Access::Everything)
    } else if gateway.read_token.as_ref().is_some_and(|read_token| read_token.matches(token)) {
        Ok(Access::Read)
    } else {
        Err(unauthorized())
    }
}

fn bearer_token(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

fn unauthorized() -> Failure {
    Problem::new(Code::Unauthorized, "Send the admin token as \"Authorization: Bearer ...\".").into()
}

/// The longest body of a control request that is read.
pub const BODY_LENGTH_MAX: u64 = 64 * 1024;

/// True where a path is the control API's and no product's. One with a dot segment is nobody's. An id is one segment, whatever it has in it: no id is a dot segment.
#[must_use]
pub fn owns(path: &str) -> bool {
    let is_own = |below: &str| (below.is_empty() || below.starts_with('/')) && !below.split('/').any(is_dot_segment);
    path.strip_prefix("/_tollgate").is_some_and(is_own)
}

fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// The answer to a health check, which needs neither configuration nor ledger. None where the request is none.
#[must_use]
pub fn health_check(method: &str, path: &str) -> Option<Response> {
    let is_health_check = path == "/_tollgate/healthz" && matches!(method, "GET" | "HEAD");
    is_health_check.then(healthy)
}

fn healthy() -> Response {
    Response::ok(json::CONTENT_TYPE, r#"{"status":"ok"}"#.to_owned())
}
