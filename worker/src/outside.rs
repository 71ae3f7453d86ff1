//! The courier on Workers: how it posts.

use futures::FutureExt;
use tollgate::courier::{Outside, POST_TIMEOUT_MS, Post, REPLY_LENGTH_MAX, Reply, Unreached};
use tollgate::relay::read_whole;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::AbortController;
use worker::{AbortSignal, Fetch, Headers, Method, Request, RequestInit, RequestRedirect, Response};

use crate::body::Incoming;
use crate::clock::{self, Clock};

/// What the courier needs of the world, as Workers have it.
pub(crate) struct WorkersOutside;

impl Outside for WorkersOutside {
    async fn post(&self, post: &Post) -> Result<Reply, Unreached> {
        // The reason of an exception may name the URL, which may be a secret.
        let failed = || Unreached::Failed("the connection failed".to_owned());
        let abort = AbortOnDrop(AbortController::new().map_err(|_| failed())?);
        let response = send(post, &abort.0.signal().into()).await.map_err(|_| failed())?;
        let retry_after = response.headers().get("retry-after").ok().flatten();
        let status = response.status_code();
        let response: web_sys::Response = response.into();
        let body = match response.body() {
            Some(stream) => read_whole::<Clock>(Incoming::of(&stream), REPLY_LENGTH_MAX as u64, POST_TIMEOUT_MS).await.ok(),
            None => Some(Vec::new()),
        };
        Ok(Reply { status, retry_after, body })
    }

    fn now_ms(&self) -> i64 {
        clock::now_ms()
    }

    async fn pause_ms(&self, ms: i64) {
        clock::sleep_ms(ms).boxed_local().await;
    }
}

/// Aborts a post when it is dropped. The courier gives one up by dropping it; the runtime would wait on, and an invocation has six connections that wait for
/// a reply's head. To a post that is over it does nothing.
struct AbortOnDrop(AbortController);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(post: &Post, signal: &AbortSignal) -> worker::Result<Response> {
    let headers = Headers::new();
    for (name, value) in &post.headers {
        headers.append(name, value)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Post)
        .with_headers(headers)
        .with_body(Some(JsValue::from_str(&post.body).unchecked_into()))
        .with_redirect(RequestRedirect::Manual);
    let scheme = if post.https { "https" } else { "http" };
    let request = Request::new_with_init(&format!("{scheme}://{}{}", post.authority, post.target), &init)?;
    Fetch::Request(request).send_with_signal(signal).await
}
