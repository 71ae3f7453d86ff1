//! What the meter reads, of whom, cut anywhere.

mod billing;
mod coding;
mod documents;
mod fuzz;
mod gate;
mod producers;
mod request;
mod speed;
mod sse;

use super::{Factor, HoldRule, Item, Measure, Overrun, Path, ReplyMeter, ShortHold, Source, Usage, UsageMeter, UsageSettings};

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// An item of the reply.
fn item(fields: &[&str], weight: &str) -> Item {
    Item {
        fields: fields.iter().map(|field| Path::parse(field).unwrap()).collect(),
        source: Source::Reply,
        measure: Measure::Number,
        scale: Factor::ONE,
        weight: Factor::parse(weight).unwrap(),
    }
}

/// What tokens cost in the contract's example: 1 for each that goes in, 3 for each that comes out.
fn tokens() -> Vec<Item> {
    vec![
        item(&["usage.prompt_tokens", "usage.input_tokens"], "1"),
        item(&["usage.completion_tokens", "usage.output_tokens"], "3"),
    ]
}

fn hold_rule() -> HoldRule {
    HoldRule {
        fields: ["max_completion_tokens", "max_tokens"].map(|field| Path::parse(field).unwrap()).into(),
        weight: Factor::parse("3").unwrap(),
        default: Factor::parse("4096").unwrap(),
        input_weight: Factor::parse("0.25").unwrap(),
        min: "1".parse().unwrap(),
    }
}

fn settings(items: Vec<Item>) -> UsageSettings {
    UsageSettings {
        unit: "token".to_owned(),
        items,
        hold: hold_rule(),
        short_hold: ShortHold::Admit,
        overrun: Overrun::Absorb,
        request_usage: false,
    }
}

fn meter(items: Vec<Item>) -> UsageMeter {
    UsageMeter::new(settings(items))
}

/// The reader of a reply to an empty request.
fn reply(meter: &UsageMeter, content_type: &str) -> ReplyMeter {
    meter.read_reply(meter.read_request(b""), Some(content_type))
}

/// What was used by a body that comes in these chunks.
fn usage<'c>(meter: &UsageMeter, content_type: &str, chunks: impl IntoIterator<Item = &'c [u8]>) -> Usage {
    let mut reply = reply(meter, content_type);
    for chunk in chunks {
        reply.feed(chunk);
    }
    reply.usage()
}

/// What was used, as text: `none` where nothing was read.
fn charged(usage: Usage) -> String {
    usage.quantity.map_or_else(|| "none".to_owned(), |quantity| quantity.to_string())
}

/// What a whole body says was used; the same cut in two at every byte, and byte by byte.
fn charged_at_every_cut(meter: &UsageMeter, content_type: &str, body: &str) -> String {
    let body = body.as_bytes();
    let whole = usage(meter, content_type, [body]);
    for at in 0..=body.len() {
        let (first, second) = body.split_at(at);
        assert_eq!(usage(meter, content_type, [first, second]), whole, "cut at {at}: {}", String::from_utf8_lossy(first));
    }
    assert_eq!(usage(meter, content_type, body.chunks(1)), whole, "byte by byte");
    charged(whole)
}
