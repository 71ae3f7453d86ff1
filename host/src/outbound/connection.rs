//! One HTTP/1.1 connection to a backend.
//!
//! Whoever waits for something drives the connection itself: no task stands between a request and its
//! reply, which saves two wake-ups a request. A connection nobody waits on does nothing.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::uri::{Authority, Scheme};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wasmtime_wasi_http::{Error, WasiBody};

use super::pool::Pool;

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    pub(crate) authority: Authority,
}

impl Target {
    pub(crate) fn of(uri: &http::Uri) -> Result<Self, Error> {
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        Ok(Self { tls: uri.scheme() == Some(&Scheme::HTTPS), authority: authority.clone() })
    }

    fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

/// What became of a request.
pub(crate) enum Sent {
    Replied(http::Response<Incoming>),
    /// The connection was found closed before a byte of the request was written: it may be sent on another.
    Unwritten(http::Request<WasiBody>, Error),
    /// The backend may have seen the request: it must not be sent again.
    Failed(Error),
}

/// A stream that HTTP can be spoken over.
trait Transport: hyper::rt::Read + hyper::rt::Write + Send + Unpin {}
impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin> Transport for T {}

/// An open connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<WasiBody>,
    driver: http1::Connection<Box<dyn Transport>, WasiBody>,
}

impl Connection {
    /// Connects, with TLS where the target asks for it, within `timeout`.
    pub(crate) async fn open(target: &Target, timeout: Duration, pool: &Pool) -> Result<Self, Error> {
        tokio::time::timeout(timeout, Self::connect(target, pool)).await.map_err(|_| Error::ConnectionTimeout)?
    }

    async fn connect(target: &Target, pool: &Pool) -> Result<Self, Error> {
        let port = target.authority.port_u16().unwrap_or(if target.tls { 443 } else { 80 });
        let addresses = tokio::net::lookup_host((target.host(), port)).await.map_err(|_| dns_error())?;
        let addresses: Vec<_> = addresses.collect();
        if addresses.is_empty() {
            return Err(dns_error());
        }
        let stream = TcpStream::connect(addresses.as_slice()).await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        let transport: Box<dyn Transport> = if target.tls {
            let name = rustls::pki_types::ServerName::try_from(target.host().to_owned()).map_err(|_| dns_error())?;
            let connector = tokio_rustls::TlsConnector::from(Arc::clone(pool.tls()?));
            Box::new(TokioIo::new(connector.connect(name, stream).await.map_err(Error::Tls)?))
        } else {
            Box::new(TokioIo::new(stream))
        };
        let (sender, driver) = http1::handshake(transport).await?;
        Ok(Self { sender, driver })
    }

    /// Sends `request` and waits for the head of its reply. A cancelled wait must drop the connection.
    pub(crate) async fn send(&mut self, request: http::Request<WasiBody>) -> Sent {
        let Self { sender, driver } = self;
        let mut reply = pin!(sender.try_send_request(request));
        let mut driver_error = None;
        let mut closed = false;
        let answered = poll_fn(|context| {
            if !closed && let Poll::Ready(end) = Pin::new(&mut *driver).poll(context) {
                closed = true;
                driver_error = end.err();
            }
            // The reply changes only while the connection is driven, which is here: it need not wake anyone.
            match reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending if closed => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match answered {
            Some(Ok(response)) => Sent::Replied(response),
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => Sent::Unwritten(request, error.into_error().into()),
                None => Sent::Failed(error.into_error().into()),
            },
            None => Sent::Failed(driver_error.map_or(Error::ConnectionTerminated, Error::from)),
        }
    }

    /// Moves bytes. Ready means that the connection has ended and must not be driven again.
    pub(crate) fn poll_drive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.driver).poll(context).map(|_| ())
    }

    /// Drives the connection to its end.
    pub(crate) async fn drive(self) -> Result<(), Error> {
        let Self { sender, driver } = self;
        // Without a sender the connection closes after the exchange it is in.
        drop(sender);
        driver.await.map_err(Error::from)
    }

    /// Whether another request may be sent; looks at what has arrived meanwhile, a close above all.
    pub(crate) fn is_idle(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.poll_drive(&mut context).is_pending() && matches!(self.sender.poll_ready(&mut context), Poll::Ready(Ok(())))
    }
}

fn dns_error() -> Error {
    Error::DnsError { rcode: Some("address not available".to_owned()), info_code: None }
}
