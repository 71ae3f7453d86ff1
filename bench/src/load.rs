//! The load: a number of connections, each with one call at a time, for a while. Every reply must be a 200.

use crate::error::BenchError;
use crate::http::{self, HEAD_LIMIT_BYTES, head_length, status};
use std::io::Write;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A call that takes longer has failed.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(20);
const CUSTOMER_ID: &str = "customer-000";

/// The customer's id that the n-th call uses.
pub(crate) fn customer_id(n: u64) -> String {
    format!("customer-{n:03}")
}

/// What one round measured.
pub(crate) struct Round {
    pub(crate) calls_per_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) replies: u64,
}

/// What a call asks for.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) path: &'static str,
    /// JSON, or nothing.
    pub(crate) body: &'static str,
}

/// A call with a small reply.
pub(crate) const SMALL: Asking = Asking { path: "/translate/hello?to=fr", body: "" };

/// What to drive: `customers` are used in turn; `sequence` makes every request id of a run another one.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) asking: Asking,
    pub(crate) customers: u64,
    pub(crate) sequence: Arc<AtomicU64>,
}

/// Drives one server for a while; calls begun in time are waited for and counted.
pub(crate) async fn drive(load: &Load, connections: usize, duration: Duration) -> Result<Round, BenchError> {
    let begin = Instant::now();
    let end = begin + duration;
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(connection(load.clone(), end))).collect();
    let mut latencies_us: Vec<u32> = Vec::new();
    for task in tasks {
        let measured = task.await.map_err(|error| BenchError::Io("a connection's task", std::io::Error::other(error)))?;
        latencies_us.extend(measured?);
    }
    let elapsed = begin.elapsed();
    latencies_us.sort_unstable();
    let replies = u64::try_from(latencies_us.len()).unwrap_or(u64::MAX);
    Ok(Round {
        calls_per_s: latencies_us.len() as f64 / elapsed.as_secs_f64(),
        p50_ms: percentile_ms(&latencies_us, 50),
        p99_ms: percentile_ms(&latencies_us, 99),
        replies,
    })
}

fn percentile_ms(sorted_us: &[u32], percent: usize) -> f64 {
    sorted_us.get(sorted_us.len() * percent / 100).map_or(0.0, |us| f64::from(*us) / 1000.0)
}

/// The bytes of a request, with the places that change from call to call.
pub(crate) struct Request {
    bytes: Vec<u8>,
    customer: Range<usize>,
    id: Range<usize>,
}

impl Request {
    pub(crate) fn new(address: SocketAddr, Asking { path, body }: Asking) -> Self {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let before = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Customer-Id: ");
        let between = "\r\nX-Request-Id: ";
        let id = "0000000000000000";
        let customer = before.len()..before.len() + CUSTOMER_ID.len();
        let start = customer.end + between.len();
        let about_body = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        };
        let bytes = format!("{before}{CUSTOMER_ID}{between}{id}\r\n{about_body}\r\n{body}").into_bytes();
        Self { bytes, customer, id: start..start + id.len() }
    }

    /// The bytes of the n-th call.
    pub(crate) fn set(&mut self, n: u64, customers: u64) -> &[u8] {
        let customer = n.checked_rem(customers).unwrap_or(0);
        // Both ranges lie within the bytes and have the width that is written.
        if let Some(mut place) = self.bytes.get_mut(self.customer.clone()) {
            let _ = write!(place, "customer-{customer:03}");
        }
        if let Some(mut place) = self.bytes.get_mut(self.id.clone()) {
            let _ = write!(place, "{n:016x}");
        }
        &self.bytes
    }
}

async fn connection(load: Load, end: Instant) -> Result<Vec<u32>, BenchError> {
    let io = |error| BenchError::WrongReply { name: load.name.clone(), what: format!("{error}") };
    let mut stream = TcpStream::connect(load.address).await.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    let mut request = Request::new(load.address, load.asking);
    let mut buffer = Vec::with_capacity(8192);
    let mut latencies_us = Vec::with_capacity(65536);
    let mut begin = Instant::now();
    while begin < end {
        let n = load.sequence.fetch_add(1, Ordering::Relaxed);
        let call = async {
            stream.write_all(request.set(n, load.customers)).await.map_err(io)?;
            reply(&mut stream, &mut buffer, &load.name).await
        };
        tokio::time::timeout(STALL_LIMIT, call).await.map_err(|_| BenchError::Stalled(load.name.clone()))??;
        let now = Instant::now();
        latencies_us.push(u32::try_from((now - begin).as_micros()).unwrap_or(u32::MAX));
        begin = now;
    }
    Ok(latencies_us)
}

/// Reads one reply to its end and checks it.
async fn reply(stream: &mut TcpStream, buffer: &mut Vec<u8>, name: &str) -> Result<(), BenchError> {
    let wrong = |what: String| BenchError::WrongReply { name: name.to_owned(), what };
    buffer.clear();
    let mut whole = None;
    loop {
        if stream.read_buf(buffer).await.map_err(|error| wrong(error.to_string()))? == 0 {
            return Err(wrong(format!("the connection ended after {}", String::from_utf8_lossy(buffer))));
        }
        if whole.is_none() {
            whole = whole_length(buffer).map_err(wrong)?;
        }
        match whole {
            Some(length) if buffer.len() >= length => break,
            None if buffer.len() > HEAD_LIMIT_BYTES => return Err(wrong("a head without end".into())),
            _ => {}
        }
    }
    if status(buffer) == Some(200) { Ok(()) } else { Err(wrong(String::from_utf8_lossy(buffer).into_owned())) }
}

/// The length of head and body, once the head is there.
fn whole_length(buffer: &[u8]) -> Result<Option<usize>, String> {
    let Some(head_bytes) = head_length(buffer) else { return Ok(None) };
    let head = buffer.get(..head_bytes).unwrap_or_default();
    let without_length = || format!("a reply without content-length: {}", String::from_utf8_lossy(head));
    http::whole_length(head).map(Some).ok_or_else(without_length)
}
