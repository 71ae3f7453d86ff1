//! Streams through the metered gateway beside forwarded ones: how much later the first byte comes, and how much later each event.
//!
//! Backend and callers are one process with one clock: each event holds the time at which it was written, and its delay ends when it was read here.

use crate::args::Args;
use crate::backend::{Backend, EVENTS, STAMP_DIGITS, STAMP_MARK};
use crate::bodies::UNITS;
use crate::error::BenchError;
use crate::gateway::{self, BY_CALL, CUSTOMERS, Edge, Gateway, Metered};
use crate::http::status;
use crate::load::{Asking, Request, STALL_LIMIT};
use crate::report::{median, spread};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Few, so that delay is measured and not load.
const CONNECTIONS: usize = 4;
const STREAM: Asking = Asking { path: "/translate/stream", body: "{\"stream\":true}" };
const USAGE: &[u8] = b"\"completion_tokens\"";
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The most that an event may come later than forwarded, at the median.
const ADDED_EVENT_US_MAX: f64 = 100.0;

/// A server that streams pass through.
struct Subject {
    name: &'static str,
    gateway: Gateway,
    is_metered: bool,
    /// Whether the caller gets the event that tells the usage.
    has_usage: bool,
    rounds: Vec<Round>,
    streams: u64,
}

/// The medians of one round.
struct Round {
    first_byte_us: f64,
    event_us: f64,
}

impl Subject {
    fn of(&self, value: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(value).collect()
    }

    fn first_byte_us(&self) -> f64 {
        median(&self.of(|round| round.first_byte_us))
    }

    fn event_us(&self) -> f64 {
        median(&self.of(|round| round.event_us))
    }
}

/// Measures and prints; returns the bounds that were missed.
pub(crate) async fn run(args: &Args, backend: Backend, work: &Path) -> Result<Vec<String>, BenchError> {
    let mut subjects = start(backend, work).await?;
    let sequence = Arc::new(AtomicU64::new(1));
    for subject in &mut subjects {
        subject.drive(Duration::from_millis(500), backend, &sequence).await?;
        subject.rounds.clear();
    }
    let (rounds, duration) = args.short_rounds();
    for n in 1..=rounds {
        println!("round {n} of {rounds} with {CONNECTIONS} streams at a time");
        for subject in &mut subjects {
            subject.drive(duration, backend, &sequence).await?;
        }
    }
    for subject in subjects.iter().filter(|subject| subject.is_metered) {
        let units = subject.streams * UNITS;
        subject.gateway.check_charges(units).await?;
        println!("{}: {units} units used, each charged once; the audit balances", subject.name);
    }
    Ok(print(&subjects))
}

async fn start(backend: Backend, work: &Path) -> Result<Vec<Subject>, BenchError> {
    let subject =
        |name, gateway, is_metered, has_usage| Subject { name, gateway, is_metered, has_usage, rounds: Vec::new(), streams: 0 };
    let forward = gateway::forward(Edge::Runner, "stream_forward", "handed_over", backend.address, work)?;
    let mut subjects = vec![subject("stream_forward", forward, false, true)];
    // The second one asks the backend for usage on its own account, and keeps from the caller the event that tells it.
    for (name, meter, has_usage) in [
        ("stream_metered", r#"{ unit = "token" }"#, true),
        ("stream_metered_asking", r#"{ unit = "token", request_usage = true }"#, false),
    ] {
        let gateway = gateway::metered(Edge::Runner, name, &Metered { meter, ..BY_CALL }, backend.address, work).await?;
        subjects.push(subject(name, gateway, true, has_usage));
    }
    Ok(subjects)
}

fn print(subjects: &[Subject]) -> Vec<String> {
    let Some(forward) = subjects.first() else { return Vec::new() };
    println!("\n{:<24} {:>14} {:>10} {:>10} {:>10} {:>7}", "", "first byte us", "added", "event us", "added", "spread");
    for subject in subjects {
        println!(
            "{:<24} {:>14.0} {:>10.0} {:>10.0} {:>10.0} {:>6.0}%",
            subject.name,
            subject.first_byte_us(),
            subject.first_byte_us() - forward.first_byte_us(),
            subject.event_us(),
            subject.event_us() - forward.event_us(),
            spread(&subject.of(|round| round.event_us)) * 100.0,
        );
    }
    println!("\nMedians of the rounds' medians; added: to forwarding; spread: of the events' delays between rounds.\n");
    let mut missed = Vec::new();
    for subject in subjects {
        let Subject { name, .. } = subject;
        let added_us = subject.event_us() - forward.event_us();
        println!(
            "bench: {name} connections={CONNECTIONS} first_byte_us={:.0} added_first_byte_us={:.0} event_us={:.0} added_event_us={added_us:.0}",
            subject.first_byte_us(),
            subject.first_byte_us() - forward.first_byte_us(),
            subject.event_us(),
        );
        if added_us >= ADDED_EVENT_US_MAX {
            missed.push(format!("{name}: an event comes {added_us:.0} us later, {ADDED_EVENT_US_MAX} are too many"));
        }
    }
    missed
}

/// Delays of one connection, in nanoseconds.
#[derive(Default)]
struct Delays {
    first_byte_ns: Vec<u64>,
    event_ns: Vec<u64>,
}

impl Subject {
    /// Streams for a while; those begun in time are waited for.
    async fn drive(&mut self, duration: Duration, backend: Backend, sequence: &Arc<AtomicU64>) -> Result<(), BenchError> {
        let end = Instant::now() + duration;
        let (name, has_usage, address) = (self.name, self.has_usage, self.gateway.address);
        let connection = |_| {
            let sequence = Arc::clone(sequence);
            tokio::spawn(async move { Connection::open(name, has_usage, address, backend).await?.drive(end, &sequence).await })
        };
        let tasks: Vec<_> = (0..CONNECTIONS).map(connection).collect();
        let mut all = Delays::default();
        for task in tasks {
            let delays = task.await.map_err(|error| BenchError::Io("a stream's task", std::io::Error::other(error)))??;
            all.first_byte_ns.extend(delays.first_byte_ns);
            all.event_ns.extend(delays.event_ns);
        }
        self.streams += all.first_byte_ns.len() as u64;
        let median_us = |ns: &[u64]| median(&ns.iter().map(|ns| *ns as f64 / 1000.0).collect::<Vec<_>>());
        self.rounds.push(Round { first_byte_us: median_us(&all.first_byte_ns), event_us: median_us(&all.event_ns) });
        Ok(())
    }
}

/// One stream after the other.
struct Connection {
    name: &'static str,
    has_usage: bool,
    backend: Backend,
    stream: TcpStream,
    request: Request,
    buffer: Vec<u8>,
    delays: Delays,
}

impl Connection {
    async fn open(name: &'static str, has_usage: bool, address: SocketAddr, backend: Backend) -> Result<Self, BenchError> {
        let io = |error| BenchError::Io("a stream's connection", error);
        let stream = TcpStream::connect(address).await.map_err(io)?;
        stream.set_nodelay(true).map_err(io)?;
        let (request, buffer) = (Request::new(address, STREAM), Vec::with_capacity(64 * 1024));
        Ok(Self { name, has_usage, backend, stream, request, buffer, delays: Delays::default() })
    }

    async fn drive(mut self, end: Instant, sequence: &AtomicU64) -> Result<Delays, BenchError> {
        while Instant::now() < end {
            let n = sequence.fetch_add(1, Ordering::Relaxed);
            let name = self.name;
            tokio::time::timeout(STALL_LIMIT, self.one(n)).await.map_err(|_| BenchError::Stalled(name.to_owned()))??;
        }
        Ok(self.delays)
    }

    /// Reads one stream to its end and checks it.
    async fn one(&mut self, n: u64) -> Result<(), BenchError> {
        let name = self.name;
        let wrong = |what: String| BenchError::WrongReply { name: name.to_owned(), what };
        let io = |error: std::io::Error| BenchError::WrongReply { name: name.to_owned(), what: error.to_string() };
        self.buffer.clear();
        let begin = Instant::now();
        self.stream.write_all(self.request.set(n, CUSTOMERS)).await.map_err(io)?;
        let (mut events, mut looked_at) = (0, 0);
        while !self.buffer.ends_with(LAST_CHUNK) {
            if self.stream.read_buf(&mut self.buffer).await.map_err(io)? == 0 {
                return Err(wrong("a stream without end".to_owned()));
            }
            let now_ns = u64::try_from(self.backend.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
            while let Some((sent_ns, after)) = next_stamp(&self.buffer, looked_at) {
                looked_at = after;
                events += 1;
                // The first one waited for the headers.
                if events == 1 {
                    self.delays.first_byte_ns.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
                } else {
                    self.delays.event_ns.push(now_ns.saturating_sub(sent_ns));
                }
            }
        }
        let has_usage = self.buffer.windows(USAGE.len()).any(|window| window == USAGE);
        if status(&self.buffer) != Some(200) || events != EVENTS || has_usage != self.has_usage {
            return Err(wrong(String::from_utf8_lossy(&self.buffer).into_owned()));
        }
        Ok(())
    }
}

/// The next time in the bytes from there on, and where it ends.
fn next_stamp(bytes: &[u8], from: usize) -> Option<(u64, usize)> {
    let begin = from + bytes.get(from..)?.iter().position(|byte| *byte == STAMP_MARK)? + 1;
    let end = begin + STAMP_DIGITS;
    let digits = bytes.get(begin..end).filter(|_| bytes.get(end) == Some(&STAMP_MARK))?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, end + 1))
}
