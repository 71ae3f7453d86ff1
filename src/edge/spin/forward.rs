//! The way to the backend and back, as far as the reply's headers.

use futures::channel::oneshot;
use spin_sdk::wasip3;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Request, RequestOptions, Response, Scheme};
use wasip3::{wit_future, wit_stream};

use super::body::{Clock, Incoming, Outgoing};
use super::log;
use super::wire::{BodyEnding, accepted, fields, internal};
use crate::config::{Meter, Product};
use crate::gateway::{Head, Identified, ReplyHead, backend_headers};
use crate::relay::{ForwardError, upload, while_arriving};

/// The longest upload, for the runtime's time-outs.
const UPLOAD_MS_MAX: i64 = 24 * 3600 * 1000;

/// Why there is no reply.
pub(super) type Failed = ForwardError<ErrorCode>;

/// What the backend is sent as a body.
pub(super) enum RequestBody {
    /// Nothing.
    None,
    /// What the caller sent, handed over unread: nothing, as far as its headers tell.
    Untouched(Request),
    /// What was read before admission.
    Whole(Vec<u8>),
    /// What is still arriving, with the chunk that was read already.
    Arriving(Incoming, Option<Vec<u8>>),
}

/// Sends a call to its backend and waits for the reply's headers, which the caller can be given.
pub(super) async fn forward(
    head: &Head,
    identified: &Identified<'_>,
    body: RequestBody,
) -> Result<(ReplyHead, Response), Failed> {
    let reply = exchange(head, identified, body).await?;
    match ReplyHead::new(head, reply.get_status_code(), reply.get_headers().copy_all()) {
        Ok(reply_head) => Ok((reply_head, reply)),
        Err(reason) => {
            log::line(format!("the backend of {} sent a reply that cannot be passed on: {reason}", identified.product.id));
            Err(Failed::unsendable())
        }
    }
}

async fn exchange(head: &Head, identified: &Identified<'_>, body: RequestBody) -> Result<Response, Failed> {
    let product = identified.product;
    let metered_body_bytes = match (&product.meter, &body) {
        (Meter::Usage(_), RequestBody::Whole(bytes)) => Some(bytes.len()),
        (Meter::Usage(_), _) => Some(0),
        (Meter::Call { .. }, _) => None,
    };
    let headers = fields(&backend_headers(head, identified, metered_body_bytes))?;
    let options = options(product, matches!(body, RequestBody::Arriving(..)));
    match body {
        RequestBody::None => {
            let (_, trailers) = wit_future::new::<BodyEnding>(|| Ok(None));
            send(Request::new(headers, None, trailers, Some(options)).0, head, identified).await
        }
        RequestBody::Untouched(from_caller) => {
            let (chunks, ending) = Request::consume_body(from_caller, accepted());
            let request = Request::new(headers, Some(chunks), ending, Some(options)).0;
            send(request, head, identified).await
        }
        RequestBody::Whole(bytes) => {
            let (ending, trailers) = wit_future::new::<BodyEnding>(|| Ok(None));
            let (mut chunks, reader) = wit_stream::new();
            wasip3::spawn(async move {
                // A backend that reads no further may have answered already.
                let _ = chunks.write_all(bytes).await;
                drop(chunks);
                drop(ending);
            });
            send(Request::new(headers, Some(reader), trailers, Some(options)).0, head, identified).await
        }
        RequestBody::Arriving(incoming, first) => {
            let (to, reader, trailers) = Outgoing::new(|| Err(ErrorCode::HttpRequestBodySize(None)));
            let (length_max, idle_timeout_ms) = (product.max_request_body_bytes, product.idle_timeout_ms);
            let (verdict, uploaded) = oneshot::channel();
            wasip3::spawn(async move {
                let result = upload::<Clock, _, _>(incoming, to, first, length_max, idle_timeout_ms).await;
                // Nobody waits for it any more once the reply is there.
                let _ = verdict.send(result);
            });
            let request = Request::new(headers, Some(reader), trailers, Some(options)).0;
            while_arriving::<Clock, _, _>(send(request, head, identified), uploaded, product.timeout_ms).await
        }
    }
}

/// Times that the runtime keeps. Of a body that is still arriving nobody knows yet when it ends; there the gateway keeps the
/// time-out of the first byte itself.
fn options(product: &Product, is_arriving: bool) -> RequestOptions {
    let nanoseconds = |ms: i64| u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000);
    let options = RequestOptions::new();
    // A runtime that keeps no times says so here, and the gateway does without.
    let _ = options.set_connect_timeout(Some(nanoseconds(product.timeout_ms)));
    let first_byte_timeout_ms = if is_arriving { UPLOAD_MS_MAX } else { product.timeout_ms };
    let _ = options.set_first_byte_timeout(Some(nanoseconds(first_byte_timeout_ms)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(product.idle_timeout_ms)));
    options
}

async fn send(request: Request, head: &Head, identified: &Identified<'_>) -> Result<Response, Failed> {
    address(&request, head, identified)?;
    client::send(request).await.map_err(|error| backend_error(&error, identified.product))
}

fn address(request: &Request, head: &Head, identified: &Identified<'_>) -> Result<(), ErrorCode> {
    let backend = &identified.product.backend;
    let scheme = if backend.https { Scheme::Https } else { Scheme::Http };
    let refused = |()| internal("the runtime refuses the backend's address");
    request.set_method(&super::wire::method(&head.method)).map_err(|()| ErrorCode::HttpRequestMethodInvalid)?;
    request.set_path_with_query(Some(&identified.backend_target)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_scheme(Some(&scheme)).map_err(refused)?;
    request.set_authority(Some(&backend.authority)).map_err(refused)
}

fn backend_error(error: &ErrorCode, product: &Product) -> Failed {
    match error {
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => Failed::timed_out(),
        other => {
            log::line(format!("the backend of {} cannot be reached: {other:?}", product.id));
            Failed::unreachable()
        }
    }
}
