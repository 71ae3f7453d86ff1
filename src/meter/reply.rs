//! The reply's side: reads what a body says was used while it passes.
//!
//! What always holds: a body that is only read goes on as it came ([`ReplyMeter::feed`]); where the backend was asked for usage that the caller did not
//! ask for, the one event that carries it is taken out ([`ReplyMeter::pass`]) and nothing else is changed. Memory does not grow with the body.

use std::sync::Arc;

use super::gate::Gate;
use super::plan::Plan;
use super::request::RequestReading;
use super::scanner::Scanner;
use super::sse::{Piece, SseReader};
use super::tariff::{Tariff, Usage};

/// What a body is made of.
#[derive(Clone, Debug)]
enum Format {
    /// One or more JSON documents.
    Json,
    /// A JSON document on each line.
    Lines,
    /// Server-sent events whose data are JSON documents.
    Events(SseReader),
    /// Server-sent events of which one is not for the caller.
    GatedEvents(SseReader, Gate),
    /// Nothing that is read.
    Opaque,
}

/// The reader of one reply.
#[derive(Clone, Debug)]
pub struct ReplyMeter {
    tariff: Arc<Tariff>,
    request: RequestReading,
    format: Format,
    scanner: Scanner,
}

impl ReplyMeter {
    pub(super) fn new(tariff: Arc<Tariff>, plan: Arc<Plan>, request: RequestReading, content_type: Option<&str>) -> Self {
        let format = match media_type(content_type) {
            MediaType::Events if request.asks_for_usage() => Format::GatedEvents(SseReader::new(), Gate::new()),
            MediaType::Events => Format::Events(SseReader::new()),
            MediaType::Lines => Format::Lines,
            MediaType::Json => Format::Json,
            MediaType::Other => Format::Opaque,
        };
        Self { tariff, request, format, scanner: Scanner::new(plan) }
    }

    /// True where [`ReplyMeter::pass`] may change what the caller gets; where it is false, chunks need not be owned to be read.
    #[must_use]
    pub const fn is_gated(&self) -> bool {
        matches!(self.format, Format::GatedEvents(..))
    }

    /// Reads a chunk and leaves in it what goes on to the caller now: nearly always all of it, sometimes nothing.
    pub fn pass(&mut self, chunk: &mut Vec<u8>) {
        match &mut self.format {
            Format::GatedEvents(reader, gate) => gate.pass(reader, &mut self.scanner, chunk),
            _ => self.feed(chunk),
        }
    }

    /// The body has ended, well or not: adds to `chunk` what [`ReplyMeter::pass`] still held back. Bytes that were held back are of an event without
    /// an end, so that there is something only where the backend broke off.
    pub fn release(&mut self, chunk: &mut Vec<u8>) {
        if let Format::GatedEvents(_, gate) = &mut self.format {
            gate.release(chunk);
        }
    }

    /// Reads a chunk that goes on as it is, or that goes nowhere because the caller has left.
    pub fn feed(&mut self, chunk: &[u8]) {
        match &mut self.format {
            Format::Json => self.scanner.feed(chunk),
            Format::Lines => feed_lines(&mut self.scanner, chunk),
            Format::Events(reader) | Format::GatedEvents(reader, _) => feed_events(reader, &mut self.scanner, chunk),
            Format::Opaque => {}
        }
    }

    /// What was used, as far as it was read. Of a JSON body that is every value that was read to its end; of a stream of events, those of the events
    /// whose JSON was.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let is_complete = match &self.format {
            Format::Events(reader) | Format::GatedEvents(reader, _) => reader.is_between_events(),
            _ => self.scanner.is_between_documents(),
        };
        if matches!(self.format, Format::Json) && !is_complete {
            let mut scanner = self.scanner.clone();
            scanner.close();
            return self.tariff.usage(&self.request.values, scanner.values(), is_complete);
        }
        self.tariff.usage(&self.request.values, self.scanner.values(), is_complete)
    }
}

fn feed_lines(scanner: &mut Scanner, chunk: &[u8]) {
    for line in chunk.split_inclusive(|byte| *byte == b'\n') {
        scanner.feed(line);
        if line.ends_with(b"\n") {
            scanner.end_document();
        }
    }
}

fn feed_events(reader: &mut SseReader, scanner: &mut Scanner, chunk: &[u8]) {
    let mut rest = chunk;
    while let Some(piece) = reader.next(&mut rest) {
        match piece {
            Piece::Data(data) => scanner.feed(data),
            Piece::End => scanner.end_document(),
            Piece::Comment | Piece::Field | Piece::LineFeed => {}
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MediaType {
    Events,
    Lines,
    Json,
    Other,
}

fn media_type(content_type: Option<&str>) -> MediaType {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/event-stream" => MediaType::Events,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => MediaType::Lines,
        "application/json" | "text/json" => MediaType::Json,
        other if other.ends_with("+json") => MediaType::Json,
        _ => MediaType::Other,
    }
}
