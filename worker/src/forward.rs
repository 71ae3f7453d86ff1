//! The way to the backend and back, as far as the reply's headers.

use futures::channel::oneshot;
use js_sys::Uint8Array;
use tollgate::config::Meter;
use tollgate::gateway::{Head, Identified, ReplyHead, backend_headers};
use tollgate::relay::{ForwardError, upload, while_arriving, within};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{AbortController, Request, RequestInit, RequestRedirect, Response};

use crate::body::{Incoming, Outgoing, ignore};
use crate::clock::Clock;
use crate::{log, wire};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn fetch(request: &Request) -> js_sys::Promise;
}

/// Why there is no reply.
pub(crate) type Failed = ForwardError<JsValue>;

/// What the backend is sent as a body.
pub(crate) enum RequestBody {
    /// Nothing.
    None,
    /// What was read before admission.
    Whole(Vec<u8>),
    /// What is still arriving, with the chunk that was read already and the length that is declared.
    Arriving(Incoming, Option<Vec<u8>>, Option<u64>),
}

/// Sends a call to its backend and waits for the reply's headers, which the caller can be given.
pub(crate) async fn forward(
    head: &Head,
    identified: &Identified<'_>,
    body: RequestBody,
) -> Result<(ReplyHead, Response), Failed> {
    let reply = exchange(head, identified, body).await?;
    match ReplyHead::new(head, reply.status(), wire::read_headers(&reply.headers())) {
        Ok(reply_head) => Ok((reply_head, reply)),
        Err(reason) => {
            log::line(&format!("the backend of {} sent a reply that cannot be passed on: {reason}", identified.product.id));
            if let Some(body) = reply.body() {
                // The backend need not send what nobody reads.
                ignore(body.cancel());
            }
            Err(Failed::unsendable())
        }
    }
}

async fn exchange(head: &Head, identified: &Identified<'_>, body: RequestBody) -> Result<Response, Failed> {
    let product = identified.product;
    let abort = AbortController::new()?;
    let init = RequestInit::new();
    init.set_method(&head.method);
    let metered_body_bytes = match (&product.meter, &body) {
        (Meter::Call { .. }, _) => None,
        (Meter::Usage(_), RequestBody::Whole(bytes)) => Some(bytes.len()),
        (Meter::Usage(_), _) => Some(0),
    };
    let headers = wire::write_headers(&backend_headers(head, identified, metered_body_bytes))?;
    init.set_headers(&headers);
    init.set_redirect(RequestRedirect::Manual);
    init.set_signal(Some(&abort.signal()));
    let sent = match body {
        RequestBody::None => Sent::of(head, identified, &init)?,
        RequestBody::Whole(bytes) => {
            init.set_body(&Uint8Array::from(bytes.as_slice()));
            Sent::of(head, identified, &init)?
        }
        RequestBody::Arriving(incoming, first, length) => {
            let (outgoing, readable) = Outgoing::new(length)?;
            init.set_body(&readable);
            let sent = Sent::of(head, identified, &init)?;
            let (length_max, idle_timeout_ms) = (product.max_request_body_bytes, product.idle_timeout_ms);
            let (verdict, uploaded) = oneshot::channel();
            spawn_local(async move {
                let result = upload::<Clock, _, _>(incoming, outgoing, first, length_max, idle_timeout_ms).await;
                // Nobody waits for it any more once the reply is there.
                let _ = verdict.send(result);
            });
            let replied = while_arriving::<Clock, _, _>(sent.reply(), uploaded, product.timeout_ms).await;
            return replied.inspect_err(|_| abort.abort());
        }
    };
    match within::<Clock, _>(sent.reply(), product.timeout_ms).await {
        Some(replied) => replied,
        None => {
            abort.abort();
            Err(Failed::timed_out())
        }
    }
}

/// A request on its way.
struct Sent<'a> {
    promise: js_sys::Promise,
    product_id: &'a str,
}

impl<'a> Sent<'a> {
    fn of(head: &Head, identified: &'a Identified<'_>, init: &RequestInit) -> Result<Self, JsValue> {
        let product = identified.product;
        let scheme = if product.backend.https { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", product.backend.authority, identified.backend_target);
        let request = Request::new_with_str_and_init(&url, init)?;
        debug_assert_eq!(request.method(), head.method);
        Ok(Self { promise: fetch(&request), product_id: product.id.as_str() })
    }

    async fn reply(&self) -> Result<Response, Failed> {
        match JsFuture::from(self.promise.clone()).await {
            Ok(response) => Ok(response.unchecked_into()),
            Err(error) => {
                log::line(&format!("the backend of {} cannot be reached: {}", self.product_id, log::describe(&error)));
                Err(Failed::unreachable())
            }
        }
    }
}
