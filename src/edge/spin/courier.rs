//! The courier on Spin: how it posts, and the task that runs it beside the calls.
//!
//! No call waits for it and it wakes no other task: it finds what is due by looking. It runs while something is to be sent, and the one that sends stays
//! on while a retry is near, so that early retries need no traffic.

use spin_sdk::wasip3;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Method, Request, RequestOptions, Scheme};
use wasip3::{wit_future, wit_stream};

use super::body::{Clock, Incoming};
use super::instance::{Instance, now_ms, sleep_ms};
use super::log;
use super::wire::{BodyEnding, fields};
use crate::courier::{self, Outside, POST_TIMEOUT_MS, Post, REPLY_LENGTH_MAX, Reply, RunLimits, Unreached};
use crate::relay::read_whole;

/// What one run of the task does. It is begun anew where more is left.
const LIMITS: RunLimits = RunLimits { items_max: usize::MAX, time_max_ms: 600_000, stay_ms: 60_000 };

/// Between two runs: while another instance sends, or the ledger cannot be used.
const INTERVAL_MS: i64 = 1_000;

/// How often in a row a run may post nothing while something is due: another instance sends, or its lease would have ended. An instance that only waits need
/// not live on.
const IDLE_RUNS_MAX: u32 = 10;

/// How often a run may fail in a row before what waits is left to other instances and to ticks: ten minutes.
const FAILURES_MAX: u32 = 600;

/// What the courier needs of the world, as Spin has it.
pub(super) struct SpinOutside;

impl Outside for SpinOutside {
    async fn post(&self, post: &Post) -> Result<Reply, Unreached> {
        let request = request(post).map_err(|_| Unreached::Failed("the message cannot be sent".to_owned()))?;
        let response = client::send(request).await.map_err(|error| unreached(&error))?;
        let status = response.get_status_code();
        let retry_after = response.get_headers().get("retry-after").into_iter().next();
        let body = read_whole::<Clock>(Incoming::of_reply(response), REPLY_LENGTH_MAX as u64, POST_TIMEOUT_MS).await;
        Ok(Reply { status, retry_after: retry_after.and_then(|value| String::from_utf8(value).ok()), body: body.ok() })
    }

    fn now_ms(&self) -> i64 {
        now_ms()
    }

    async fn pause_ms(&self, ms: i64) {
        sleep_ms(ms).await;
    }
}

/// Sees to it that the instance's courier runs.
pub(super) fn start(instance: &'static Instance) {
    if !instance.is_courier_running.replace(true) {
        wasip3::spawn(async move {
            carry(instance).await;
            instance.is_courier_running.set(false);
        });
    }
}

/// Starts the courier where something is due that other instances, or this one long ago, left behind.
pub(super) fn start_if_due(instance: &'static Instance) {
    if instance.is_courier_running.get() {
        return;
    }
    match courier::is_due(&instance.book, &instance.config, now_ms()) {
        Ok(true) => start(instance),
        Ok(false) => {}
        Err(error) => log::line(format!("deliveries cannot be looked for: {error}")),
    }
}

/// Runs until nothing is to be sent now. No await lies between the last look and the end, so that what is written after it starts the courier anew.
async fn carry(instance: &'static Instance) {
    let (mut failures, mut idle_runs) = (0, 0);
    loop {
        if instance.is_ledger_left_alone() {
            sleep_ms(INTERVAL_MS).await;
            continue;
        }
        match courier::run(&instance.book, &instance.config, &SpinOutside, LIMITS).await {
            Ok(report) if !report.more => return,
            Ok(report) => {
                failures = 0;
                idle_runs = if report.delivered + report.failed == 0 { idle_runs + 1 } else { 0 };
                if idle_runs > IDLE_RUNS_MAX {
                    return;
                }
            }
            Err(error) => {
                instance.leave_ledger_alone();
                if failures == 0 {
                    log::line(format!("deliveries cannot be made: {error}"));
                }
                failures += 1;
                if failures > FAILURES_MAX {
                    return;
                }
            }
        }
        sleep_ms(INTERVAL_MS).await;
    }
}

/// A request of the runtime, whose body is on its way.
fn request(post: &Post) -> Result<Request, ErrorCode> {
    let options = RequestOptions::new();
    let timeout_ns = Some(u64::try_from(POST_TIMEOUT_MS).unwrap_or(0).saturating_mul(1_000_000));
    // A runtime that keeps no times says so here; the courier keeps its own.
    let _ = options.set_connect_timeout(timeout_ns);
    let _ = options.set_first_byte_timeout(timeout_ns);
    let _ = options.set_between_bytes_timeout(timeout_ns);
    let mut headers: Vec<_> = post.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect();
    headers.push(("content-length".to_owned(), post.body.len().to_string().into_bytes()));
    let (ending, trailers) = wit_future::new::<BodyEnding>(|| Ok(None));
    let (mut chunks, reader) = wit_stream::new();
    let request = Request::new(fields(&headers)?, Some(reader), trailers, Some(options)).0;
    let scheme = if post.https { Scheme::Https } else { Scheme::Http };
    let refused = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_method(&Method::Post).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    request.set_path_with_query(Some(&post.target)).map_err(refused)?;
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(&post.authority)).map_err(refused)?;
    let body = post.body.clone().into_bytes();
    wasip3::spawn(async move {
        // A receiver that reads no further may have answered already.
        let _ = chunks.write_all(body).await;
        drop(chunks);
        drop(ending);
    });
    Ok(request)
}

/// Why there was no answer, in words that say nothing of the URL.
fn unreached(error: &ErrorCode) -> Unreached {
    let reason = match error {
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => return Unreached::TimedOut,
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => "the host is not allowed in spin.toml",
        ErrorCode::ConnectionRefused => "the connection was refused",
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => "the host was not found",
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            "no TLS connection could be made"
        }
        _ => "the connection failed",
    };
    Unreached::Failed(reason.to_owned())
}
