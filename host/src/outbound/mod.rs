//! `wasi:http/client`: the component's requests to its backends.
//!
//! Connections are kept alive and shared by all instances. A request whose bytes may have reached the
//! backend is never sent a second time: it fails, and what to do about it is the component's decision.
//! Where the manifest does not allow the target, nothing is sent.

mod connection;
mod exchange;
mod pool;
mod reply;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::allowed_hosts::AllowedHosts;
use connection::{Connection, Sent, Target};
use exchange::Exchange;
pub(crate) use exchange::Exchanges;
use pool::Pool;
use reply::ReplyBody;

/// Spin's default for every time-out that a request does not set itself.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// The most bytes taken from a guest's body at once.
const GUEST_CHUNK_BYTES: usize = 64 * 1024;

/// The client, shared by all instances; clones are handles of the same pool.
#[derive(Debug, Clone)]
pub(crate) struct Outbound {
    allowed: Arc<AllowedHosts>,
    pool: Arc<Pool>,
    exchanges: Exchanges,
}

type IoResult = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(http::Response<WasiBody>, IoResult), Error>;

impl Outbound {
    pub(crate) fn new(allowed: AllowedHosts, exchanges: Exchanges) -> Self {
        Self { allowed: Arc::new(allowed), pool: Arc::new(Pool::default()), exchanges }
    }

    async fn send(self, mut request: http::Request<WasiBody>, options: RequestOptions) -> SendResult {
        if !self.allowed.allow(request.uri()) {
            return Err(Error::HttpRequestDenied);
        }
        let exchange = self.exchanges.begin();
        let target = Target::of(request.uri())?;
        let path = request.uri().path_and_query().map_or("/", |path| if path.as_str().is_empty() { "/" } else { path.as_str() });
        *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        let (mut request, upload) = Upload::watch(request);

        let first_byte_timeout = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        loop {
            let pooled = self.pool.take(&target);
            let was_pooled = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                None => Connection::open(&target, options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT), &self.pool).await?,
            };
            let sent = tokio::time::timeout(first_byte_timeout, connection.send(request)).await;
            let mut response = match sent.map_err(|_| Error::ConnectionReadTimeout)? {
                Sent::Replied(response) => response,
                // Only a pooled connection can have been closed before it was used, and each try takes one from the pool.
                Sent::Unwritten(returned, _) if was_pooled => {
                    request = returned;
                    continue;
                }
                Sent::Unwritten(_, error) | Sent::Failed(error) => return Err(error),
            };
            if !crate::framing::normalise_reply(response.headers_mut()) {
                return Err(Error::HttpResponseTransferCoding(None));
            }
            crate::hop_by_hop::remove_named(response.headers_mut());
            let between_bytes_timeout = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
            let way = (connection, target, exchange);
            return Ok(self.deliver(response, way, upload.is_done(), between_bytes_timeout));
        }
    }

    /// Hands the reply over. Its body drives the connection while it is read; where the request's body is still on
    /// its way, a task of its own must drive it, since the reply may not be read before the upload ends.
    fn deliver(
        self,
        response: http::Response<hyper::body::Incoming>,
        (connection, target, exchange): (Connection, Target, Exchange),
        upload_done: bool,
        between_bytes_timeout: Duration,
    ) -> (http::Response<WasiBody>, IoResult) {
        if upload_done {
            let body =
                |incoming| ReplyBody::new(incoming, Some((connection, self.pool, target)), between_bytes_timeout, exchange);
            (response.map(|incoming| body(incoming).boxed_unsync()), Box::new(std::future::ready(Ok(()))))
        } else {
            let body = |incoming| ReplyBody::new(incoming, None, between_bytes_timeout, exchange);
            (response.map(|incoming| body(incoming).boxed_unsync()), Box::new(connection.drive()))
        }
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        Box::new(self.clone().send(request, options.unwrap_or_default()))
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        GUEST_CHUNK_BYTES
    }

    fn p3_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            ErrorCode::ConnectionTerminated
        } else if error.is_user() {
            ErrorCode::InternalError(Some("the request's body failed".to_owned()))
        } else if error.is_parse() {
            ErrorCode::HttpProtocolError
        } else {
            ErrorCode::ConnectionTerminated
        }
    }

    fn p3_error_from_connect(&mut self, error: &std::io::Error) -> ErrorCode {
        match error.kind() {
            std::io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            std::io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::DestinationUnavailable,
        }
    }

    fn p3_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}

/// Tells whether a request's body has been taken whole.
struct Upload(Option<Arc<AtomicBool>>);

impl Upload {
    fn watch(request: http::Request<WasiBody>) -> (http::Request<WasiBody>, Self) {
        use http_body::Body as _;
        if request.body().is_end_stream() {
            return (request, Self(None));
        }
        let done = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&done);
        (request.map(|body| WatchedBody { body, done: watched }.boxed_unsync()), Self(Some(done)))
    }

    fn is_done(&self) -> bool {
        self.0.as_ref().is_none_or(|done| done.load(Ordering::Acquire))
    }
}

/// hyper drops a body as soon as it has written its end.
struct WatchedBody {
    body: WasiBody,
    done: Arc<AtomicBool>,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
    }
}

impl http_body::Body for WatchedBody {
    type Data = bytes::Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
