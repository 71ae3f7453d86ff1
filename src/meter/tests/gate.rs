//! The usage-only event is kept from a caller that did not ask for it, and nothing else is changed or delayed.

use super::producers::{anthropic, data_events, openai_chat};
use super::{EVENTS, JSON, charged, settings, tokens};
use crate::meter::{ReplyMeter, UsageMeter, UsageSettings};

const ASKING: &[u8] = br#"{"model":"m","stream":true,"messages":[]}"#;
const USAGE_ONLY: &str =
    r#"{"id":"1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":16,"completion_tokens":300}}"#;
const CONTENT: &str = r#"{"id":"1","choices":[{"index":0,"delta":{"content":"a"}}],"usage":null}"#;

fn asking_meter() -> UsageMeter {
    UsageMeter::new(UsageSettings { request_usage: true, ..settings(tokens()) })
}

fn gated() -> ReplyMeter {
    let meter = asking_meter();
    let reply = meter.read_reply(meter.read_request(ASKING), Some(EVENTS));
    assert!(reply.is_gated());
    reply
}

/// What goes on to the caller, and what was used.
fn passed<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<u8>, String) {
    let (mut reply, mut all) = (gated(), Vec::new());
    for chunk in chunks {
        let mut chunk = chunk.to_vec();
        reply.pass(&mut chunk);
        all.extend(chunk);
    }
    let mut rest = Vec::new();
    reply.release(&mut rest);
    all.extend(rest);
    (all, charged(reply.usage()))
}

fn passed_at_every_cut(stream: &str) -> (String, String) {
    let (whole, charge) = passed([stream.as_bytes()]);
    for at in 0..=stream.len() {
        let (first, second) = stream.as_bytes().split_at(at);
        let (cut, cut_charge) = passed([first, second]);
        assert_eq!((String::from_utf8_lossy(&cut), &cut_charge), (String::from_utf8_lossy(&whole), &charge), "cut at {at}");
    }
    assert_eq!(passed(stream.as_bytes().chunks(1)), (whole.clone(), charge.clone()), "byte by byte");
    (String::from_utf8(whole).unwrap(), charge)
}

#[test]
fn the_usage_only_event_is_dropped_whatever_its_lines_end_with() {
    for ending in ["\n", "\r\n", "\r"] {
        let event = |data: &str| format!("data: {data}{ending}{ending}");
        let before = event(CONTENT) + &event(CONTENT);
        for usage_only in [
            event(USAGE_ONLY),
            format!("event: x{ending}id: 1{ending}{}retry: 2{ending}{ending}", event(USAGE_ONLY).trim_end().to_owned() + ending),
            event(&USAGE_ONLY.replace(",\"usage", &format!(",{ending}data: \"usage"))),
        ] {
            let stream = format!("{before}{usage_only}{}", event("[DONE]"));
            let (seen, charge) = passed_at_every_cut(&stream);
            assert_eq!((seen, charge.as_str()), (format!("{before}{}", event("[DONE]")), "916"), "{stream:?}");
        }
    }
}

#[test]
fn a_recorded_stream_loses_its_usage_only_event_and_nothing_else() {
    let stream = openai_chat();
    let usage_only = stream.rfind("data: {").unwrap();
    let expected = format!("{}data: [DONE]\n\n", &stream[..usage_only]);
    for size in [1, 2, 5, 100, 333, 4096, 100_000] {
        let (seen, charge) = passed(stream.as_bytes().chunks(size));
        assert!(seen == expected.as_bytes(), "chunks of {size}");
        assert_eq!(charge, "916");
    }
}

#[test]
fn every_other_event_goes_on() {
    for stream in [
        data_events([CONTENT, "[DONE]"]),
        data_events([r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#, CONTENT]),
        data_events([r#"{"choices":[],"usage":null}"#, r#"{"choices":[]}"#, r#"{"usage":{"prompt_tokens":1}}"#, "{}", "[]", "7"]),
        data_events([r#"{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}"#]),
        data_events([
            r#"{"choices":{},"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[],"usage":[]}"#,
            r#"{"choices":[],"usage":"{}"}"#,
        ]),
        data_events([
            r#"[{"choices":[],"usage":{}}]"#,
            r#"{"a":{"choices":[],"usage":{}}}"#,
            "not json",
            r#"{"choices":[],"usage":{}"#,
        ]),
        format!("data: {USAGE_ONLY}\ndata: {USAGE_ONLY}\n\n"),
        format!("data: {USAGE_ONLY}\ndata: @\n\n"),
        data_events([
            r#"{"usage":null,"choices":[],"usage":{"prompt_tokens":1}}"#,
            r#"{"choices":[{}],"choices":[],"usage":{}}"#,
        ]),
        format!(": {USAGE_ONLY}\n\n:\n\nevent: {USAGE_ONLY}\n\n\n\n"),
        format!("\u{feff}data: {CONTENT}\r\n\r\n"),
        format!("data: {CONTENT}\n\ndata: {USAGE_ONLY}"),
        format!("data: {CONTENT}\n\ndata: {USAGE_ONLY}\n"),
        anthropic(),
    ] {
        assert_eq!(passed_at_every_cut(&stream).0, stream);
    }
}

#[test]
fn comments_before_a_dropped_event_stay() {
    let stream = format!(": keep-alive\n\n: a\ndata: {USAGE_ONLY}\n\n: b\n\n");
    assert_eq!(passed_at_every_cut(&stream).0, ": keep-alive\n\n: a\n: b\n\n");
}

#[test]
fn bytes_wait_only_while_their_event_may_be_the_one() {
    let mut reply = gated();
    let mut pass = |bytes: &str| {
        let mut chunk = bytes.as_bytes().to_vec();
        reply.pass(&mut chunk);
        String::from_utf8(chunk).unwrap()
    };
    assert_eq!(pass(": comment\n"), ": comment\n");
    assert_eq!(pass("data: {\"choices\":["), "");
    assert_eq!(pass("{\"delta\":"), "data: {\"choices\":[{\"delta\":", "its choices are not empty");
    assert_eq!(pass("{}}]"), "{}}]");
    assert_eq!(pass(",\"usage\":{}}\n\ndata: {\"usage\":"), ",\"usage\":{}}\n\n", "the event before does not wait");
    assert_eq!(pass("nul"), "data: {\"usage\":nul", "its usage is no object");
    assert_eq!(pass("l}\n"), "l}\n");
    assert_eq!(pass("\ndata: {\"choices\":[],"), "\n");
    let long = format!("\"a\":\"{}\"", "x".repeat(20_000));
    assert_eq!(pass(&long), format!("data: {{\"choices\":[],{long}"), "too long to be the one");
    assert_eq!(pass(",\"usage\":{}}\n\n"), ",\"usage\":{}}\n\n");
    assert_eq!(pass(&format!("data: {{{long}")), format!("data: {{{long}"));
    assert_eq!(pass("}\n\n: c\ndata: {\"choices\":[]"), "}\n\n: c\n");
    assert_eq!(pass(",\"usage\":{\"prompt_tokens\":1}}\r\n\r"), "");
    assert_eq!(pass("\ndata: [D"), "data: [D", "the line feed belonged to the event that was dropped");
}

#[test]
fn only_a_stream_that_was_asked_for_usage_on_behalf_of_a_caller_who_was_not_asking_is_gated() {
    let meter = asking_meter();
    let is_gated =
        |request: &str, content_type| meter.read_reply(meter.read_request(request.as_bytes()), Some(content_type)).is_gated();
    assert!(is_gated(r#"{"stream":true}"#, EVENTS));
    assert!(!is_gated(r#"{"stream":true}"#, JSON));
    assert!(!is_gated(r#"{"stream":false}"#, EVENTS));
    assert!(!is_gated(r#"{"stream":true,"stream_options":{"include_usage":true}}"#, EVENTS));
    let mut reply =
        meter.read_reply(meter.read_request(br#"{"stream":true,"stream_options":{"include_usage":true}}"#), Some(EVENTS));
    let mut chunk = format!("data: {USAGE_ONLY}\n\n").into_bytes();
    let whole = chunk.clone();
    reply.pass(&mut chunk);
    assert_eq!(chunk, whole, "whoever asks gets it");
    assert_eq!(charged(reply.usage()), "916");
}

#[test]
fn a_caller_that_left_is_metered_on() {
    let mut reply = gated();
    let stream = format!("data: {CONTENT}\n\ndata: {USAGE_ONLY}\n\n");
    let (first, second) = stream.as_bytes().split_at(100);
    reply.pass(&mut first.to_vec());
    reply.feed(second);
    assert_eq!(charged(reply.usage()), "916");
}
