//! A call, from its head to the end of its reply: identify, admit, forward, settle (contract section 2).

use spin_sdk::wasip3;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::{wit_future, wit_stream};

use super::background::{self, LeaseGuard};
use super::body::{BodyError, Incoming, Outgoing, download, look_ahead, read_whole};
use super::forward::{ForwardError, RequestBody, forward};
use super::instance::{Instance, elapsed_us, monotonic_ns, now_ms, sleep_ms};
use super::log;
use super::wire::{self, BodyEnding, accepted, internal};
use crate::book::metrics::Step;
use crate::book::{LedgerError, Reply};
use crate::config::LostHold;
use crate::gateway::{
    HOLD, Head, Headers, Identified, Outcome, RateLimit, Refused, identify, outcome, refusal_problem, reply_headers,
};
use crate::ids::AccountKey;
use crate::ledger::{Admission, Command, Fingerprint, Outcome as LedgerOutcome, Settlement};
use crate::problem::{Code, Problem};
use crate::quantity::Quantity;

/// Up to this length a declared body is read before admission, so that its digest is part of what a request id stands for (contract section 3).
const FINGERPRINTED_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Up to this length a declared reply is over almost with its headers.
const SHORT_REPLY_BYTES_MAX: u64 = 64 * 1024;

/// How long settling may take before the reply is aborted (contract section 2).
const SETTLE_PATIENCE_MS: i64 = 5000;

/// Between two tries to settle.
const SETTLE_RETRY_MS: i64 = 50;

/// A call whose hold is durable.
struct Admitted {
    admission: Admission,
    rate_limit: Option<RateLimit>,
    lease: Option<LeaseGuard>,
}

/// A call that goes no further, with what its caller reads.
struct Stopped {
    problem: Problem,
    headers: Headers,
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: Vec::new() }
    }
}

/// Serves one call.
pub(super) async fn call(instance: &'static Instance, request: Request, head: Head) -> Result<Response, ErrorCode> {
    let identified = match identify(&instance.config, &head, now_ms()) {
        Ok(identified) => identified,
        Err(refused) => return unidentified(refused),
    };
    let (fingerprinted, arriving) = match read_before_admission(instance, request, &head, &identified).await {
        Ok(bodies) => bodies,
        Err(stopped) => return stop(instance, &identified, stopped),
    };
    let admitted = match admit(instance, &head, &identified, fingerprinted.as_deref()).await {
        Ok(admitted) => admitted,
        Err(stopped) => return stop(instance, &identified, stopped),
    };
    let replied = match request_body(&head, &identified, fingerprinted, arriving).await {
        Ok(body) => forward(&head, &identified, body).await,
        Err(error) => Err(ForwardError::Body(error)),
    };
    match replied {
        Ok(reply) => answer(instance, &head, &identified, admitted, reply).await,
        Err(error) => give_up(instance, &identified, admitted, error).await,
    }
}

fn unidentified(refused: Refused) -> Result<Response, ErrorCode> {
    if let Some(line) = &refused.log {
        log::line(line.to_owned());
    }
    wire::problem(&refused.problem, refused.request_id.as_ref().map(crate::ids::RequestId::as_str), Vec::new())
}

fn stop(instance: &'static Instance, identified: &Identified<'_>, stopped: Stopped) -> Result<Response, ErrorCode> {
    instance.book.count(|meters| meters.call(&identified.product.id, stopped.problem.code.as_str()));
    background::start(instance);
    wire::problem(&stopped.problem, Some(identified.request_id.as_str()), stopped.headers)
}

/// The body of a call with a small declared length, whole; of another, as it arrives. Packages come first: who cannot pay, or sends too much, is told before
/// the body is read, as far as is known without asking the ledger twice.
async fn read_before_admission(
    instance: &'static Instance,
    request: Request,
    head: &Head,
    identified: &Identified<'_>,
) -> Result<(Option<Vec<u8>>, Option<Incoming>), Stopped> {
    let product = identified.product;
    let declared = head.content_length();
    let is_too_large = declared.is_some_and(|length| length > product.max_request_body_bytes);
    let is_read_first = declared.is_some_and(|length| length > 0 && length <= FINGERPRINTED_BODY_BYTES_MAX);
    let probe = Command::Probe { request_id: identified.request_id.clone(), hold: HOLD };
    if is_too_large || (is_read_first && instance.book.looks_refused(&identified.account, &probe, now_ms())) {
        let reply = submit(instance, identified, probe).await?;
        refuse_unless_admitted(identified, &reply)?;
    }
    if is_too_large {
        return Err(BodyError::TooLarge.problem().into());
    }
    match declared {
        Some(length) if is_read_first => match read_whole(request, length, product.idle_timeout_ms).await {
            Ok(body) => Ok((Some(body), None)),
            Err(error) => Err(error.problem().into()),
        },
        _ => Ok((None, Some(Incoming::of(request)))),
    }
}

async fn submit(instance: &'static Instance, identified: &Identified<'_>, command: Command) -> Result<Reply, Stopped> {
    instance.book.submit(&identified.account, command, now_ms()).await.map_err(|error| match error {
        LedgerError::Unavailable(reason) => {
            log::line(format!("the ledger is unavailable: {reason}"));
            Problem::new(Code::LedgerUnavailable, "The ledger cannot be written now. Nothing was forwarded.")
                .with_retry_after_s(1)
                .into()
        }
        LedgerError::Corrupt(reason) => {
            log::line(format!("the ledger is corrupt: {reason}"));
            Problem::new(Code::Internal, "The gateway failed.").into()
        }
    })
}

fn refuse_unless_admitted(identified: &Identified<'_>, reply: &Reply) -> Result<(), Stopped> {
    let Err(refusal) = &reply.result else { return Ok(()) };
    let rate_limit = RateLimit::new(&identified.product.id, &reply.balance);
    let headers = rate_limit.map(|rate_limit| rate_limit.headers()).unwrap_or_default();
    Err(Stopped { problem: refusal_problem(refusal, identified.product), headers })
}

/// Claims the request id and reserves.
async fn admit(
    instance: &'static Instance,
    head: &Head,
    identified: &Identified<'_>,
    body: Option<&[u8]>,
) -> Result<Admitted, Stopped> {
    let started_ns = monotonic_ns();
    let command = Command::Admit {
        request_id: identified.request_id.clone(),
        fingerprint: Fingerprint::of(&head.method, &head.target(), body),
        hold: HOLD,
        lease_ends_ms: now_ms() + instance.config.gateway.hold_lease_ms,
        replay_limit: identified.product.replay_limit,
    };
    let reply = submit(instance, identified, command).await?;
    refuse_unless_admitted(identified, &reply)?;
    instance.book.count(|meters| meters.latency(Step::Hold, elapsed_us(started_ns)));
    let rate_limit = RateLimit::new(&identified.product.id, &reply.balance);
    let Ok(LedgerOutcome::Admitted(admission)) = reply.result else {
        return Err(Problem::new(Code::Internal, "The gateway failed.").into());
    };
    let lease = match admission {
        Admission::Held { attempt } => {
            let (account, request_id) = (identified.account.clone(), identified.request_id.clone());
            Some(background::keep_lease(instance, account, request_id, attempt))
        }
        Admission::Replay => None,
    };
    Ok(Admitted { admission, rate_limit, lease })
}

/// What the backend is sent. Of a body of unknown length the first chunk is awaited, because only it tells whether there is a body; with methods that
/// have none as a rule it is handed over unread.
async fn request_body(
    head: &Head,
    identified: &Identified<'_>,
    fingerprinted: Option<Vec<u8>>,
    arriving: Option<Incoming>,
) -> Result<RequestBody, BodyError> {
    let Some(incoming) = arriving else {
        return Ok(fingerprinted.map_or(RequestBody::None, RequestBody::Whole));
    };
    match head.content_length() {
        Some(0) => Ok(RequestBody::Untouched(incoming)),
        Some(_) => Ok(RequestBody::Arriving(incoming, None)),
        None if matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE" | "TRACE") => {
            Ok(RequestBody::Untouched(incoming))
        }
        None => {
            let body = look_ahead(incoming, identified.product.idle_timeout_ms).await?;
            Ok(body.map_or(RequestBody::None, |(incoming, chunk)| RequestBody::Arriving(incoming, Some(chunk))))
        }
    }
}

/// The backend gave no reply: nothing is charged, and the caller is told once that is durable.
async fn give_up(
    instance: &'static Instance,
    identified: &Identified<'_>,
    admitted: Admitted,
    error: ForwardError,
) -> Result<Response, ErrorCode> {
    let is_settled = settle(instance, identified, &admitted, Quantity::ZERO, None).await;
    drop(admitted.lease);
    if !is_settled {
        return Err(ErrorCode::InternalError(None));
    }
    let problem = match error {
        ForwardError::Backend(problem) => problem,
        ForwardError::Body(error) => error.problem(),
        ForwardError::Runtime(error) => {
            log::line(format!("the call could not be forwarded: {error:?}"));
            Problem::new(Code::Internal, "The gateway failed.")
        }
    };
    let headers = admitted.rate_limit.map(|rate_limit| rate_limit.headers()).unwrap_or_default();
    stop(instance, identified, Stopped { problem, headers })
}

/// The backend's reply for the caller. A short one, whose charge is durable with its hold, is handed through untouched and settled soon after; of every
/// other one the end is seen here, and waits until the charge is durable.
async fn answer(
    instance: &'static Instance,
    head: &Head,
    identified: &Identified<'_>,
    admitted: Admitted,
    reply: Response,
) -> Result<Response, ErrorCode> {
    let status = reply.get_status_code();
    let outcome = outcome(&identified.product.meter, &admitted.admission, status);
    instance.book.count(|meters| meters.call(&identified.product.id, outcome.label()));
    let from_backend = reply.get_headers().copy_all();
    let length = content_length(&from_backend);
    let has_body = head.method != "HEAD" && !matches!(status, 204 | 304) && length != Some(0);
    let is_short = !has_body || length.is_some_and(|length| length <= SHORT_REPLY_BYTES_MAX);
    let headers = reply_headers(from_backend, identified, outcome, admitted.rate_limit.clone());
    let ending = Ending::new(instance, identified, admitted, outcome, status);
    let headers = match wire::fields(&headers) {
        Ok(headers) => headers,
        Err(error) => {
            // The backend has answered and is paid, even if its answer cannot be passed on. Where that fails too, the hold's lease decides.
            let _ = ending.settle().await;
            return Err(error);
        }
    };
    let (chunks, trailers) = Response::consume_body(reply, accepted());
    let response = if !has_body || (is_short && ending.is_durable_already) {
        if !ending.settle().await {
            return Err(ErrorCode::InternalError(None));
        }
        Response::new(headers, Some(chunks), trailers).0
    } else {
        let (ending_writer, ending_reader) = wit_future::new::<BodyEnding>(|| Err(ErrorCode::HttpResponseIncomplete));
        let (chunk_writer, chunk_reader) = wit_stream::new();
        let to = Outgoing { chunks: chunk_writer, ending: ending_writer };
        let from = Incoming { chunks, ending: trailers };
        wasip3::spawn(download(from, to, length, identified.product.idle_timeout_ms, ending.settle()));
        Response::new(headers, Some(chunk_reader), ending_reader).0
    };
    response.set_status_code(status).map_err(|()| internal("the backend's status cannot be sent"))?;
    Ok(response)
}

fn content_length(headers: &Headers) -> Option<u64> {
    let (_, value) = headers.iter().find(|(name, _)| name == "content-length")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// How a call whose backend has answered is settled, when its reply ends.
struct Ending {
    instance: &'static Instance,
    account: AccountKey,
    /// None for a replay, which was settled before.
    command: Option<Command>,
    /// A crash right now would leave what is charged: a hold that is charged as it is even if it is lost.
    is_durable_already: bool,
    lease: Option<LeaseGuard>,
}

impl Ending {
    fn new(instance: &'static Instance, identified: &Identified<'_>, admitted: Admitted, outcome: Outcome, status: u16) -> Self {
        let is_charged_if_lost = instance.config.gateway.lost_hold == LostHold::Charge;
        Self {
            instance,
            account: identified.account.clone(),
            command: settlement(identified, &admitted.admission, outcome.charge(), Some(status)),
            is_durable_already: match outcome {
                Outcome::Replayed => true,
                Outcome::Charged(quantity) => quantity == HOLD && is_charged_if_lost,
                Outcome::Released => false,
            },
            lease: admitted.lease,
        }
    }

    /// Settles; false where the charge is not durable in time.
    async fn settle(self) -> bool {
        let Some(command) = self.command else { return true };
        if !self.is_durable_already {
            let is_settled = settle_durably(self.instance, &self.account, command).await;
            drop(self.lease);
            return is_settled;
        }
        if let Err(error) = self.instance.book.defer(&self.account, command) {
            log::line(format!("a settle is left to its hold's lease: {error}"));
        }
        background::start(self.instance);
        true
    }
}

fn settlement(identified: &Identified<'_>, admission: &Admission, charge: Quantity, status: Option<u16>) -> Option<Command> {
    let Admission::Held { attempt } = *admission else { return None };
    let request_id = identified.request_id.clone();
    Some(Command::Settle(Settlement { request_id, attempt, charge, status, usage_missing: false }))
}

async fn settle(
    instance: &'static Instance,
    identified: &Identified<'_>,
    admitted: &Admitted,
    charge: Quantity,
    status: Option<u16>,
) -> bool {
    match settlement(identified, &admitted.admission, charge, status) {
        Some(command) => settle_durably(instance, &identified.account, command).await,
        None => true,
    }
}

/// Settles, trying again while the ledger is unavailable; false where it took too long. The settle is then left to the background, and to the
/// hold's lease after it.
async fn settle_durably(instance: &'static Instance, account: &AccountKey, command: Command) -> bool {
    let started_ns = monotonic_ns();
    loop {
        let error = match instance.book.submit(account, command.clone(), now_ms()).await {
            Ok(reply) => {
                instance.book.count(|meters| meters.latency(Step::Settle, elapsed_us(started_ns)));
                if let Err(refusal) = &reply.result {
                    log::line(format!("a call that was admitted cannot be settled: {refusal:?}"));
                }
                return reply.result.is_ok();
            }
            Err(error) => error,
        };
        if elapsed_us(started_ns) / 1000 >= SETTLE_PATIENCE_MS.unsigned_abs() {
            log::line(format!("a settle is not durable in time: {error}"));
            if let Err(error) = instance.book.defer(account, command) {
                log::line(format!("a settle is left to its hold's lease: {error}"));
            }
            background::start(instance);
            return false;
        }
        sleep_ms(SETTLE_RETRY_MS).await;
    }
}
