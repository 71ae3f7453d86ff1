//! A call, from its head to its reply: identify, admit, forward, and hand over to what ends it (contract section 2).

use spin_sdk::wasip3::http::types::{ErrorCode, Request, Response};

use super::background::{self, LeaseGuard};
use super::body::{Clock, Incoming};
use super::forward::{Failed, RequestBody, forward};
use super::instance::{Instance, monotonic_ns, now_ms};
use super::settle::{self, Unsettled};
use super::{answer, log, wire};
use crate::book::metrics::Step;
use crate::book::{LedgerError, Reply};
use crate::config::Meter;
use crate::gateway::{Head, Headers, Identified, Metering, Outcome, RateLimit, Refused, identify, least_hold, refusal_problem};
use crate::ledger::{Admission, Claim, Command, Fingerprint, Outcome as LedgerOutcome};
use crate::problem::{Code, Problem};
use crate::relay::{BodyError, look_ahead, read_whole};

/// Up to this length a declared body is read before admission, so that its digest is part of what a request id stands for (contract section 3).
const FINGERPRINTED_BODY_BYTES_MAX: u64 = 64 * 1024;

/// A call whose hold is durable.
pub(super) struct Admitted {
    pub(super) admission: Admission,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) lease: Option<LeaseGuard>,
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
    let (read, arriving) = match read_before_admission(instance, request, &head, &identified).await {
        Ok(bodies) => bodies,
        Err(stopped) => return stop(instance, &identified, stopped),
    };
    let metering = Metering::of(&identified.product.meter, read.as_deref());
    let known_body = read.as_deref().or_else(|| is_known_empty(&head).then_some(&[]));
    let admitted = match admit(instance, &head, &identified, &metering, known_body).await {
        Ok(admitted) => admitted,
        Err(stopped) => return stop(instance, &identified, stopped),
    };
    let replied = match request_body(&head, &identified, &metering, read, arriving).await {
        Ok(body) => forward(&head, &identified, body).await,
        Err(error) => Err(Failed::Body(error)),
    };
    match replied {
        Ok(reply) => answer::answer(instance, &identified, admitted, metering, reply).await,
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

/// The body of a call whose product is metered by usage, or that declares a small one, whole; of another, as it arrives. Packages come first: who cannot
/// pay, or sends too much, is told before the body is read, as far as is known without asking the ledger twice.
async fn read_before_admission(
    instance: &'static Instance,
    request: Request,
    head: &Head,
    identified: &Identified<'_>,
) -> Result<(Option<Vec<u8>>, Option<Request>), Stopped> {
    let product = identified.product;
    let declared = head.content_length();
    let is_small = declared.is_some_and(|length| length <= FINGERPRINTED_BODY_BYTES_MAX);
    let is_too_large = declared.is_some_and(|length| length > product.max_request_body_bytes);
    let is_metered = matches!(product.meter, Meter::Usage(_));
    let is_read_first = is_metered || (is_small && declared != Some(0));
    let probe = Command::Probe { request_id: identified.request_id.clone(), hold: least_hold(&product.meter) };
    let must_ask = is_too_large || (is_metered && !is_small && !is_bodiless(head));
    if must_ask || (is_read_first && instance.book.looks_refused(&identified.account, &probe, now_ms())) {
        let reply = submit(instance, identified, probe, now_ms(), monotonic_ns()).await?;
        refuse_unless_admitted(identified, &reply)?;
    }
    if is_too_large {
        return Err(BodyError::TooLarge.problem().into());
    }
    if !is_read_first {
        return Ok((None, Some(request)));
    }
    let length_max = declared.unwrap_or(product.max_request_body_bytes);
    match read_whole::<Clock>(Incoming::of_request(request), length_max, product.idle_timeout_ms).await {
        Ok(body) => Ok((Some(body), None)),
        Err(error) => Err(error.problem().into()),
    }
}

/// True where the headers tell of no body, and the method has none as a rule.
fn is_bodiless(head: &Head) -> bool {
    head.content_length().is_none() && matches!(head.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE" | "TRACE")
}

/// True where there is no body, as far as the headers tell: that is what a request id stands for then.
fn is_known_empty(head: &Head) -> bool {
    head.content_length() == Some(0) || is_bodiless(head)
}

async fn submit(
    instance: &'static Instance,
    identified: &Identified<'_>,
    command: Command,
    now_ms: i64,
    started_ns: u64,
) -> Result<Reply, Stopped> {
    let reply = instance.book.submit(&identified.account, command, now_ms).await;
    settle::account_for_riders(instance, started_ns);
    reply.map_err(|error| match error {
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
    metering: &Metering<'_>,
    body: Option<&[u8]>,
) -> Result<Admitted, Stopped> {
    // Each look at a clock is a call to the host, of about a microsecond.
    let (now, started_ns) = (now_ms(), monotonic_ns());
    let command = Command::Admit(Claim {
        request_id: identified.request_id.clone(),
        fingerprint: Fingerprint::of(&head.method, &head.target(), body),
        hold: metering.hold(),
        lease_ends_ms: now + instance.config.gateway.hold_lease_ms,
        replay_limit: identified.product.replay_limit,
        idempotency_key: None,
    });
    let reply = submit(instance, identified, command, now, started_ns).await?;
    refuse_unless_admitted(identified, &reply)?;
    let admitted_ns = monotonic_ns();
    instance.book.count(|meters| meters.latency(Step::Hold, admitted_ns.saturating_sub(started_ns) / 1000));
    let rate_limit = RateLimit::new(&identified.product.id, &reply.balance);
    let Ok(LedgerOutcome::Admitted(admission)) = reply.result else {
        return Err(Problem::new(Code::Internal, "The gateway failed.").into());
    };
    let lease = match admission {
        Admission::Held { attempt, .. } => {
            let (account, request_id) = (identified.account.clone(), identified.request_id.clone());
            Some(background::keep_lease(instance, account, request_id, attempt, admitted_ns))
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
    metering: &Metering<'_>,
    read: Option<Vec<u8>>,
    arriving: Option<Request>,
) -> Result<RequestBody, BodyError> {
    let Some(request) = arriving else {
        let body = match (read, metering) {
            (Some(body), Metering::Usage(_, reading)) => Some(reading.body_for_backend(body)),
            (body, _) => body,
        };
        return Ok(body.filter(|body| !body.is_empty()).map_or(RequestBody::None, RequestBody::Whole));
    };
    match head.content_length() {
        _ if is_known_empty(head) => Ok(RequestBody::Untouched(request)),
        Some(_) => Ok(RequestBody::Arriving(Incoming::of_request(request), None)),
        None => {
            let mut incoming = Incoming::of_request(request);
            let first = look_ahead::<Clock>(&mut incoming, identified.product.idle_timeout_ms).await?;
            Ok(first.map_or(RequestBody::None, |chunk| RequestBody::Arriving(incoming, Some(chunk))))
        }
    }
}

/// The backend gave no reply: nothing is charged, and the caller is told once that is durable.
async fn give_up(
    instance: &'static Instance,
    identified: &Identified<'_>,
    admitted: Admitted,
    error: Failed,
) -> Result<Response, ErrorCode> {
    let rate_limit = admitted.rate_limit.clone();
    if Unsettled::new(instance, identified, admitted).settle(Outcome::Released, None).await.is_none() {
        return Err(ErrorCode::InternalError(None));
    }
    let problem = match error {
        Failed::Backend(problem) => problem,
        Failed::Body(error) => error.problem(),
        Failed::Runtime(error) => {
            log::line(format!("the call could not be forwarded: {error:?}"));
            Problem::new(Code::Internal, "The gateway failed.")
        }
    };
    let headers = rate_limit.map(|rate_limit| rate_limit.headers()).unwrap_or_default();
    stop(instance, identified, Stopped { problem, headers })
}
