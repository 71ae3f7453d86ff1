//! The backend of every server under test: the cheapest honest HTTP/1.1 responder, on a thread of its own. And an endpoint that never answers.
//!
//! What it answers is chosen by the path: a stream where it holds `/stream`, a large reply where it holds `/large`, else a small one.

use crate::bodies::{DONE, large_reply, openai_event, openai_usage};
use crate::error::BenchError;
use crate::http::{HEAD_LIMIT_BYTES, head_length, header};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How many events of a stream carry the time at which they were sent.
pub(crate) const EVENTS: usize = 25;
const EVENT_INTERVAL: Duration = Duration::from_millis(4);
/// Before and after the nanoseconds in an event, and how many digits they have.
pub(crate) const STAMP_MARK: u8 = b'@';
pub(crate) const STAMP_DIGITS: usize = 16;

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n{\"translation\":\"bonjour !\"}";
const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A started backend; it serves until the process ends.
#[derive(Clone, Copy)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// What the times in streams are counted from.
    pub(crate) epoch: Instant,
}

/// Listens on a free port of the loopback interface.
pub(crate) fn start() -> Result<Backend, BenchError> {
    let (listener, address) = listen()?;
    listener.set_nonblocking(true).map_err(|error| BenchError::Io("the backend's socket", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| BenchError::Io("the backend's runtime", error))?;
    let epoch = Instant::now();
    std::thread::spawn(move || runtime.block_on(serve(listener, epoch)));
    Ok(Backend { address, epoch })
}

fn listen() -> Result<(std::net::TcpListener, SocketAddr), BenchError> {
    let bound = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| BenchError::Io("a port of the benchmark", error))
}

/// An endpoint that takes connections and never answers.
pub(crate) struct Hanging {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Hanging {
    /// Listens on a free port of the loopback interface, until the process ends.
    pub(crate) fn start() -> Result<Self, BenchError> {
        let (listener, address) = listen()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        std::thread::spawn(move || {
            // Kept open, and never read. Each delivery that hangs is one of a bounded number.
            let mut open = Vec::new();
            for stream in listener.incoming() {
                open.push(stream);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { address, connections })
    }

    /// How many connections it has taken.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve(listener: std::net::TcpListener, epoch: Instant) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let body = large_reply();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let large: Arc<[u8]> = (head + body).into_bytes().into();
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&large), epoch));
    }
}

/// Answers until the peer leaves or sends what is no request.
async fn answer(mut stream: TcpStream, large: Arc<[u8]>, epoch: Instant) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::with_capacity(4096);
    loop {
        while let Some(request_bytes) = request_length(&buffer) {
            let asked = asked(&buffer);
            buffer.drain(..request_bytes);
            match asked {
                Asked::Small => stream.write_all(REPLY).await.ok()?,
                Asked::Large => stream.write_all(&large).await.ok()?,
                Asked::Stream => send_events(&mut stream, epoch).await.ok()?,
            }
        }
        if buffer.len() > HEAD_LIMIT_BYTES || stream.read_buf(&mut buffer).await.ok()? == 0 {
            return None;
        }
    }
}

enum Asked {
    Small,
    Large,
    Stream,
}

fn asked(request: &[u8]) -> Asked {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let has = |word: &[u8]| line.windows(word.len()).any(|window| window == word);
    match (has(b"/stream"), has(b"/large")) {
        (true, _) => Asked::Stream,
        (_, true) => Asked::Large,
        _ => Asked::Small,
    }
}

/// A chat completion at an even pace; each event holds the time at which it was written.
async fn send_events(stream: &mut TcpStream, epoch: Instant) -> std::io::Result<()> {
    stream.write_all(STREAM_HEAD.as_bytes()).await?;
    let (mark, mut chunk) = (char::from(STAMP_MARK), String::with_capacity(1024));
    for n in 0..EVENTS {
        if n > 0 {
            tokio::time::sleep(EVENT_INTERVAL).await;
        }
        let stamp = format!("{mark}{:0STAMP_DIGITS$}{mark}", epoch.elapsed().as_nanos());
        write_chunk(&mut chunk, &openai_event(&stamp));
        stream.write_all(chunk.as_bytes()).await?;
    }
    write_chunk(&mut chunk, &(openai_usage() + DONE));
    chunk.push_str("0\r\n\r\n");
    stream.write_all(chunk.as_bytes()).await
}

fn write_chunk(chunk: &mut String, data: &str) {
    chunk.clear();
    // Writing to a string cannot fail.
    let _ = write!(chunk, "{:x}\r\n{data}\r\n", data.len());
}

/// The length of the first request with its body, once it is all there.
fn request_length(buffer: &[u8]) -> Option<usize> {
    let head_bytes = head_length(buffer)?;
    let (head, rest) = buffer.split_at_checked(head_bytes)?;
    let body_bytes = if header(head, "transfer-encoding").is_some() {
        rest.windows(5).position(|window| window == b"0\r\n\r\n")? + 5
    } else {
        header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    };
    (rest.len() >= body_bytes).then_some(head_bytes + body_bytes)
}
