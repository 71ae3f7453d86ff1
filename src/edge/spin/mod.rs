//! The Spin edge: a WASIp3 component that exports `wasi:http/handler`.
//!
//! It owns the sockets' side of a call: reading heads, moving bodies, timers, background work, and the connection to SQLite. An instance serves many
//! requests, several at once, and is one of several: what it keeps ([`instance`]) is a cache or a queue, never a request's own.
//!
//! The border: which rule applies is decided in `gateway`, `control` and `ledger`.

mod answer;
mod background;
mod body;
mod call;
mod courier;
mod forward;
mod instance;
mod log;
mod settle;
mod sqlite;
mod wire;

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Request, Response};

use crate::control;
use crate::gateway::Head;
use crate::problem::{Code, Problem};
use crate::relay::read_whole;
use instance::{Instance, NotReady};

struct Component;

wasip3::http::service::export!(Component);

impl wasip3::exports::http::handler::Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let head = wire::read_head(&request);
        if !control::owns(&head.path) {
            return match Instance::get().await {
                Ok(instance) => call::call(instance, request, head).await,
                Err(reason) => wire::problem(&not_ready(&reason), None, Vec::new()),
            };
        }
        if let Some(healthy) = control::health_check(&head.method, &head.path) {
            return wire::control_response(healthy, &head.method);
        }
        match Instance::get().await {
            Ok(instance) => control_request(instance, request, &head).await,
            Err(reason) => wire::problem(&not_ready(&reason), None, Vec::new()),
        }
    }
}

fn not_ready(reason: &NotReady) -> Problem {
    match reason {
        NotReady::Config => Problem::new(Code::ConfigInvalid, "The gateway's configuration is not valid. Its log says why."),
        NotReady::Ledger => Problem::new(Code::LedgerUnavailable, "The ledger cannot be used now.").with_retry_after_s(1),
    }
}

async fn control_request(instance: &'static Instance, request: Request, head: &Head) -> Result<Response, ErrorCode> {
    let mut authorizations = head.values("authorization");
    let authorization = authorizations.next().filter(|_| authorizations.next().is_none());
    let (method, path, query) = (&head.method, &head.path, head.query.as_deref());
    // Nobody's body is read whose request is refused whatever is in it.
    if let Some(refused) = control::refused(&instance.config, &control::Request { method, path, query, authorization, body: &[] })
    {
        return wire::control_response(refused, method);
    }
    let incoming = body::Incoming::of_request(request);
    let body = match read_whole::<body::Clock>(incoming, control::BODY_LENGTH_MAX, instance::CONTROL_IDLE_TIMEOUT_MS).await {
        Ok(body) => body,
        Err(error) => return wire::problem(&error.problem(), None, Vec::new()),
    };
    let asked = control::Request { method, path, query, authorization, body: &body };
    // What this instance knows to have ended is shown as ended. Where it cannot be written now, the ledger as it is is shown.
    if !control::is_open(&asked) {
        let _ = instance.book.flush_deferred(instance::now_ms());
    }
    let response = control::handle(&instance.book, &instance.config, &courier::SpinOutside, &asked, instance::now_ms()).await;
    if response.status == 503 {
        instance.leave_ledger_alone();
    }
    background::start(instance);
    if response.status < 400 && !matches!(head.method.as_str(), "GET" | "HEAD") {
        // What an enabled endpoint or a redelivery makes due is no event that the background would notice.
        courier::start_if_due(instance);
    }
    if let Some(line) = &response.log {
        log::line(line.to_owned());
    }
    wire::control_response(response, &head.method)
}
