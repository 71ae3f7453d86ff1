//! A call, from its head to the end of its reply: identify, admit, forward, settle (contract section 2). Its customer's object is asked twice.

use std::pin::pin;
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::{Either, select};
use tollgate::config::Meter;
use tollgate::gateway::{Head, Headers, Identified, Metering, RateLimit, Refused, identify, least_hold, refusal_problem};
use tollgate::ids::RequestId;
use tollgate::ledger::{Admission, Balance, Fingerprint};
use tollgate::problem::{Code, Problem};
use tollgate::relay::{BodyError, look_ahead, read_whole};
use worker::{Context, Env};

use crate::answer;
use crate::body::Incoming;
use crate::clock::{Clock, now_ms, sleep_ms};
use crate::forward::{Failed, RequestBody, forward};
use crate::log;
use crate::message::{CallAnswer, CallMessage, Step, Unanswered, Verdict};
use crate::settings::Settings;
use crate::settle::{Hold, ask_patiently, refusal};
use crate::wire;

/// Up to this length a declared body is read before admission, so that its digest is part of what a request id stands for (contract section 3).
const FINGERPRINTED_BODY_BYTES_MAX: u64 = 64 * 1024;

/// How long an object that does not answer is asked again before the call is refused.
const ADMIT_PATIENCE_MS: i64 = 1500;

/// How far the clocks of a Worker and of an object may lie apart without a claim being heard after it was abandoned.
const CLOCK_SKEW_MS_MAX: i64 = 1000;

/// For how long an object is told of a claim that was abandoned: a Worker may outlive its caller by 30 s.
const ABANDON_PATIENCE_MS: i64 = 24_000;

/// How long a body may take to arrive before the packages are looked at without it.
const SLOW_BODY_MS: i64 = 200;

/// What a request is served with.
pub(crate) struct Gateway {
    pub(crate) settings: &'static Settings,
    pub(crate) env: Env,
    pub(crate) context: Context,
}

/// A call whose hold is durable.
struct Admitted {
    rate_limit: Option<RateLimit>,
    hold: Hold,
}

/// A call that goes no further, with what its caller reads.
pub(crate) struct Stopped {
    problem: Problem,
    headers: Headers,
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self { problem, headers: Vec::new() }
    }
}

/// Serves one call, to its end even where its caller leaves: Workers stop what nobody waits for.
pub(crate) async fn call(gateway: Gateway, request: web_sys::Request, head: Head) -> web_sys::Response {
    let gateway = Rc::new(gateway);
    let (served, response) = oneshot::channel();
    let serving = Rc::clone(&gateway);
    gateway.context.wait_until(async move {
        let response = serve(serving, &request, head).await;
        // A caller who has left needs no reply.
        let _ = served.send(response);
    });
    response.await.unwrap_or_else(|_| wire::problem(&wire::internal(), None, Vec::new()))
}

async fn serve(gateway: Rc<Gateway>, request: &web_sys::Request, head: Head) -> web_sys::Response {
    let identified = match identify(&gateway.settings.config, &head, now_ms()) {
        Ok(identified) => identified,
        Err(refused) => return unidentified(&refused),
    };
    let (read, arriving) = match read_before_admission(&gateway, request, &head, &identified).await {
        Ok(bodies) => bodies,
        Err(stopped) => return stop(&identified, stopped),
    };
    let metering = Metering::of(&identified.product.meter, read.as_deref());
    // Where there is no body, that is what the request id stands for.
    let is_known_empty = arriving.is_none() || head.content_length() == Some(0);
    let known_body = read.as_deref().or_else(|| is_known_empty.then_some(&[]));
    let Admitted { rate_limit, hold } = match admit(&gateway, &head, &identified, &metering, known_body).await {
        Ok(admitted) => admitted,
        Err(stopped) => return stop(&identified, stopped),
    };
    let replied = hold
        .kept_during(async {
            let read = match &metering {
                Metering::Usage(_, reading) => read.map(|body| reading.body_for_backend(body)),
                Metering::Call(_) => read,
            };
            let body = request_body(&head, &identified, read, arriving).await.map_err(Failed::Body)?;
            forward(&head, &identified, body).await
        })
        .await;
    match replied {
        Ok(reply) => answer::answer(&gateway, &identified, (hold, rate_limit), metering, reply).await,
        Err(error) => give_up(&identified, rate_limit, hold, error).await,
    }
}

fn unidentified(refused: &Refused) -> web_sys::Response {
    if let Some(line) = &refused.log {
        log::line(line);
    }
    wire::problem(&refused.problem, refused.request_id.as_ref().map(RequestId::as_str), Vec::new())
}

pub(crate) fn stop(identified: &Identified<'_>, stopped: Stopped) -> web_sys::Response {
    wire::problem(&stopped.problem, Some(identified.request_id.as_str()), stopped.headers)
}

/// The body of a usage-metered call, and of another one with a small declared length, whole; of every other one, as it arrives. One that is too large is
/// refused after the packages.
async fn read_before_admission(
    gateway: &Rc<Gateway>,
    request: &web_sys::Request,
    head: &Head,
    identified: &Identified<'_>,
) -> Result<(Option<Vec<u8>>, Option<Incoming>), Stopped> {
    let product = identified.product;
    let declared = head.content_length();
    let length_max = product.max_request_body_bytes;
    let Some(stream) = request.body() else { return Ok((None, None)) };
    if matches!(head.method.as_str(), "GET" | "HEAD") {
        return Err(Problem::new(Code::Invalid, "Workers cannot forward the body of a GET or HEAD request.").into());
    }
    let is_read_first = match product.meter {
        Meter::Usage(_) => true,
        Meter::Call { .. } => declared.is_some_and(|length| length > 0 && length <= FINGERPRINTED_BODY_BYTES_MAX),
    };
    let read = match declared {
        Some(length) if length > length_max => Err(BodyError::TooLarge),
        _ if !is_read_first => return Ok((None, Some(Incoming::of(&stream)))),
        _ => {
            let read = pin!(read_whole::<Clock>(Incoming::of(&stream), length_max, product.idle_timeout_ms));
            match select(read, pin!(sleep_ms(SLOW_BODY_MS))).await {
                Either::Left((read, _)) => read,
                // Who cannot pay is not asked for the rest of the body.
                Either::Right(((), read)) => {
                    refuse_unless_admissible(gateway, identified).await?;
                    read.await
                }
            }
        }
    };
    match read {
        Ok(body) if declared.is_none_or(|length| body.len() as u64 == length) => Ok((Some(body), None)),
        Ok(_) => Err(BodyError::Cut.problem().into()),
        Err(error) => {
            if error == BodyError::TooLarge {
                refuse_unless_admissible(gateway, identified).await?;
            }
            Err(error.problem().into())
        }
    }
}

/// Asks the customer's object whether the call could be paid at all: one more time than a call needs as a rule.
async fn refuse_unless_admissible(gateway: &Rc<Gateway>, identified: &Identified<'_>) -> Result<(), Stopped> {
    let step = Step::Probe { hold: least_hold(&identified.product.meter) };
    let told = ask_patiently(gateway, message(identified, step), ADMIT_PATIENCE_MS).await.map_err(unavailable)?;
    refuse_unless_admitted(identified, &told)
}

fn message(identified: &Identified<'_>, step: Step) -> CallMessage {
    CallMessage {
        customer_id: identified.account.customer_id.clone(),
        product_id: identified.account.product_id.clone(),
        request_id: identified.request_id.clone(),
        is_repeat: false,
        step,
    }
}

fn unavailable(error: Unanswered) -> Stopped {
    log::line(&format!("the ledger is unavailable: {}", error.0));
    Problem::new(Code::LedgerUnavailable, "The ledger cannot be written now. Nothing was forwarded.").with_retry_after_s(1).into()
}

fn rate_limit(identified: &Identified<'_>, told: &CallAnswer) -> Option<RateLimit> {
    let balance =
        Balance { granted: told.granted, available: told.available, is_unmetered: told.is_unmetered, ..Balance::default() };
    RateLimit::new(&identified.product.id, &balance)
}

fn refuse_unless_admitted(identified: &Identified<'_>, told: &CallAnswer) -> Result<(), Stopped> {
    let Some(refusal) = refusal(&told.verdict) else { return Ok(()) };
    let headers = rate_limit(identified, told).map(|rate_limit| rate_limit.headers()).unwrap_or_default();
    Err(Stopped { problem: refusal_problem(&refusal, identified.product), headers })
}

/// Claims the request id and reserves.
async fn admit(
    gateway: &Rc<Gateway>,
    head: &Head,
    identified: &Identified<'_>,
    metering: &Metering<'_>,
    body: Option<&[u8]>,
) -> Result<Admitted, Stopped> {
    let started_ms = now_ms();
    let lease_ms = gateway.settings.config.gateway.hold_lease_ms;
    // A hold that is answered for has most of its lease before it.
    let patience_ms = ADMIT_PATIENCE_MS.min(lease_ms / 2);
    let idempotency_key = idempotency_key();
    let step = Step::Admit {
        fingerprint: Fingerprint::of(&head.method, &head.target(), body).to_hex(),
        hold: metering.hold(),
        lease_ends_ms: started_ms + lease_ms,
        replay_limit: identified.product.replay_limit,
        idempotency_key,
        valid_until_ms: started_ms + patience_ms + CLOCK_SKEW_MS_MAX,
    };
    let told = match ask_patiently(gateway, message(identified, step), patience_ms).await {
        Ok(told) => told,
        Err(error) => {
            abandon(gateway, message(identified, Step::Abandon { idempotency_key }));
            return Err(unavailable(error));
        }
    };
    refuse_unless_admitted(identified, &told)?;
    let admission = match told.verdict {
        Verdict::Held { attempt, hold } => Admission::Held { attempt, hold },
        Verdict::Replay => Admission::Replay,
        _ => return Err(wire::internal().into()),
    };
    Ok(Admitted { rate_limit: rate_limit(identified, &told), hold: Hold::new(gateway, identified, admission, started_ms) })
}

/// Names a claim. Below 2^53, for whoever reads it as a number.
fn idempotency_key() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1 & ((1 << 53) - 1)
}

/// A claim that nobody answered may have been heard, and nothing is forwarded for it: it costs nothing.
fn abandon(gateway: &Rc<Gateway>, message: CallMessage) {
    let serving = Rc::clone(gateway);
    gateway.context.wait_until(async move {
        sleep_ms(CLOCK_SKEW_MS_MAX).await;
        if let Err(error) = ask_patiently(&serving, message, ABANDON_PATIENCE_MS).await {
            log::line(&format!("a claim that was abandoned is left to its lease: {}", error.0));
        }
    });
}

/// What the backend is sent. Of a body of unknown length the first chunk is awaited, because only it tells whether there is a body.
async fn request_body(
    head: &Head,
    identified: &Identified<'_>,
    fingerprinted: Option<Vec<u8>>,
    arriving: Option<Incoming>,
) -> Result<RequestBody, BodyError> {
    let Some(mut incoming) = arriving else {
        return Ok(fingerprinted.map_or(RequestBody::None, RequestBody::Whole));
    };
    match head.content_length() {
        Some(0) => Ok(RequestBody::None),
        Some(length) => Ok(RequestBody::Arriving(incoming, None, Some(length))),
        None => {
            let first = look_ahead::<Clock>(&mut incoming, identified.product.idle_timeout_ms).await?;
            Ok(first.map_or(RequestBody::None, |chunk| RequestBody::Arriving(incoming, Some(chunk), None)))
        }
    }
}

/// The backend gave no reply: nothing is charged, and the caller is told once that is durable.
async fn give_up(identified: &Identified<'_>, rate_limit: Option<RateLimit>, hold: Hold, error: Failed) -> web_sys::Response {
    let problem = match error {
        Failed::Backend(problem) => problem,
        Failed::Body(error) => error.problem(),
        Failed::Runtime(error) => {
            log::line(&format!("the call could not be forwarded: {}", log::describe(&error)));
            wire::internal()
        }
    };
    if !hold.release(problem.code.as_str()).await {
        return stop(identified, wire::internal().into());
    }
    let headers = rate_limit.map(|rate_limit| rate_limit.headers()).unwrap_or_default();
    stop(identified, Stopped { problem, headers })
}
