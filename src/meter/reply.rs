//! The reply's side: reads what a body says was used while it passes.
//!
//! What always holds: a body that is only read goes on as it came ([`ReplyMeter::feed`]); where the backend was asked for usage that the caller did not
//! ask for, the one event that carries it is taken out ([`ReplyMeter::pass`]) and nothing else is changed. Memory does not grow with the body.

use std::sync::Arc;

use super::coding::CodedBody;
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
#[derive(Debug)]
pub struct ReplyMeter {
    tariff: Arc<Tariff>,
    request: RequestReading,
    body: CodedBody,
}

/// The reader of a body without content coding.
#[derive(Debug)]
pub(super) struct BodyReader {
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
        let body = CodedBody::Plain(BodyReader { format, scanner: Scanner::new(plan) });
        Self { tariff, request, body }
    }

    /// The same for a body with this `Content-Encoding`, which is decoded for reading alone.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Option<&str>) -> Self {
        self.body = self.body.coded(encoding);
        self
    }

    /// True where [`ReplyMeter::pass`] may change what the caller gets; where it is false, chunks need not be owned to be read.
    #[must_use]
    pub const fn is_gated(&self) -> bool {
        matches!(self.body, CodedBody::Plain(BodyReader { format: Format::GatedEvents(..), .. }))
    }

    /// Reads a chunk and leaves in it what goes on to the caller now: nearly always all of it, sometimes nothing.
    pub fn pass(&mut self, chunk: &mut Vec<u8>) {
        match &mut self.body {
            CodedBody::Plain(BodyReader { format: Format::GatedEvents(reader, gate), scanner }) => {
                gate.pass(reader, scanner, chunk)
            }
            body => body.feed(chunk),
        }
    }

    /// The body has ended, well or not: adds to `chunk` what [`ReplyMeter::pass`] still held back. Bytes that were held back are of an event without
    /// an end, so that there is something only where the backend broke off.
    pub fn release(&mut self, chunk: &mut Vec<u8>) {
        if let CodedBody::Plain(BodyReader { format: Format::GatedEvents(_, gate), .. }) = &mut self.body {
            gate.release(chunk);
        }
    }

    /// Reads a chunk that goes on as it is, or that goes nowhere because the caller has left.
    pub fn feed(&mut self, chunk: &[u8]) {
        self.body.feed(chunk);
    }

    /// What was used, as far as it was read. Of a JSON body that is every value that was read to its end; of a stream of events, those of the events
    /// whose JSON was.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let BodyReader { format, scanner } = self.body.reader();
        if matches!(format, Format::Json) && !scanner.is_between_documents() {
            let mut scanner = scanner.clone();
            scanner.close();
            return self.tariff.usage(&self.request, scanner.values());
        }
        self.tariff.usage(&self.request, scanner.values())
    }
}

impl BodyReader {
    pub(super) fn feed(&mut self, chunk: &[u8]) {
        match &mut self.format {
            Format::Json => self.scanner.feed(chunk),
            Format::Lines => feed_lines(&mut self.scanner, chunk),
            Format::Events(reader) | Format::GatedEvents(reader, _) => feed_events(reader, &mut self.scanner, chunk),
            Format::Opaque => {}
        }
    }

    /// The same without a gate: what goes on is not what is read.
    pub(super) fn without_gate(self) -> Self {
        match self.format {
            Format::GatedEvents(reader, _) => Self { format: Format::Events(reader), ..self },
            format => Self { format, ..self },
        }
    }

    /// One that reads nothing.
    pub(super) fn opaque(self) -> Self {
        Self { format: Format::Opaque, ..self }
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
