//! The HTTP server in front of the instances.
//!
//! Each connection is a task. At a shutdown no connection is accepted any more, idle ones close at once, and
//! the others after the call they are in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tollgate::problem::{Code, Problem};
use wasmtime_wasi_http::WasiBody;

use crate::dispatch::{DispatchError, Dispatcher};
use crate::instances::Placement;
use crate::reply::Reply;

/// How long a connection may take over a request's head, and stay idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The wait after a failed accept: out of file descriptors, most likely.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

const SPIN_PATH_INFO: HeaderName = HeaderName::from_static("spin-path-info");
const SPIN_FULL_URL: HeaderName = HeaderName::from_static("spin-full-url");
const SPIN_MATCHED_ROUTE: HeaderName = HeaderName::from_static("spin-matched-route");
const SPIN_BASE_PATH: HeaderName = HeaderName::from_static("spin-base-path");
const SPIN_RAW_COMPONENT_ROUTE: HeaderName = HeaderName::from_static("spin-raw-component-route");
const SPIN_COMPONENT_ROUTE: HeaderName = HeaderName::from_static("spin-component-route");
const SPIN_CLIENT_ADDR: HeaderName = HeaderName::from_static("spin-client-addr");

/// What every connection needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) shutdown: CancellationToken,
    /// Held by every connection, so that a shutdown can wait for them.
    pub(crate) alive: mpsc::Sender<Infallible>,
}

impl Server {
    /// Accepts connections until the shutdown.
    pub(crate) async fn accept(self, listener: TcpListener) {
        let mut accepting = true;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    accepting = true;
                    tokio::spawn(self.clone().serve(stream, peer));
                }
                Err(error) => {
                    if accepting {
                        crate::log(&format_args!("cannot accept connections: {error}"));
                    }
                    accepting = false;
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        let Self { dispatcher, shutdown, alive: _alive } = self;
        // A connection that is gone already says so at its first read.
        _ = stream.set_nodelay(true);
        let Ok(peer) = HeaderValue::try_from(peer.to_string()) else {
            return;
        };
        let service = service_fn(move |request| answer(dispatcher.clone(), peer.clone(), request));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
        );
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended
            && error.is_user()
        {
            crate::log(&format_args!("a reply was cut: {}", root_cause(&error)));
        }
    }
}

async fn answer(dispatcher: Dispatcher, peer: HeaderValue, request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    if let Some(problem) = crate::framing::refusal(request.method(), request.headers()) {
        return Ok(refused(&problem));
    }
    let Some(request) = prepare(request, peer) else {
        let detail = "The request's host is missing, malformed, or named twice and differently.";
        return Ok(refused(&Problem::new(Code::Invalid, detail)));
    };
    let placement = Placement::default();
    match dispatcher.call(request, &placement).await {
        Ok(response) => Ok(response.map(|body| Reply::of_guest(body, placement))),
        Err(error) => Ok(refused(&match &error {
            DispatchError::Full => Problem::new(Code::Overloaded, "Try again. Nothing was forwarded.").with_retry_after_s(1),
            DispatchError::Instance => failed(),
            DispatchError::Guest(_) => {
                crate::log(&format_args!("a request failed: {error}"));
                failed()
            }
        })),
    }
}

/// Gives the request the full URL that the guest expects and the headers that Spin adds. `None` where its host is
/// missing, malformed or contradicts itself.
fn prepare(request: Request<Incoming>, peer: HeaderValue) -> Option<Request<WasiBody>> {
    let (mut parts, body) = request.into_parts();
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    let host = match parts.headers.get(http::header::HOST) {
        Some(host) => Some(Authority::try_from(host.as_bytes()).ok()?),
        None => None,
    };
    let authority = match (host, uri.authority.take()) {
        (Some(host), Some(named)) if host != named => return None,
        (Some(host), _) => host,
        (None, named) => named?,
    };
    let path = uri.path_and_query.clone()?;
    let full_url = HeaderValue::try_from(format!("http://{authority}{path}")).ok()?;
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority);
    parts.uri = Uri::from_parts(uri).ok()?;
    let headers = &mut parts.headers;
    crate::hop_by_hop::remove_named(headers);
    headers.insert(SPIN_PATH_INFO, HeaderValue::from_str(path.path()).ok()?);
    headers.insert(SPIN_FULL_URL, full_url);
    headers.insert(SPIN_MATCHED_ROUTE, HeaderValue::from_static("/..."));
    headers.insert(SPIN_BASE_PATH, HeaderValue::from_static("/"));
    headers.insert(SPIN_RAW_COMPONENT_ROUTE, HeaderValue::from_static("/..."));
    headers.insert(SPIN_COMPONENT_ROUTE, HeaderValue::from_static(""));
    headers.insert(SPIN_CLIENT_ADDR, peer);
    Some(Request::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
}

fn failed() -> Problem {
    Problem::new(Code::Internal, "The gateway failed.")
}

/// What a caller reads where no instance has answered, as it reads the gateway's own refusals.
fn refused(problem: &Problem) -> Response<Reply> {
    let mut response = Response::new(Reply::of_runner(problem.to_json(None)));
    *response.status_mut() = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

fn root_cause(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_is_told_when_to_try_again() {
        let response = refused(&Problem::new(Code::Overloaded, "Try again.").with_retry_after_s(1));
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((header(CONTENT_TYPE), header(RETRY_AFTER)), (Some("application/problem+json"), Some("1")));
    }
}
