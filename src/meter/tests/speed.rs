//! How fast bodies are read: a measurement and no check, so it runs by name alone, in a release build.

use std::time::{Duration, Instant};

use super::producers::{anthropic, gemini, openai_chat};
use super::{EVENTS, JSON, meter, reply, settings, tokens};
use crate::meter::{UsageMeter, UsageSettings};

/// As large as the replies that forwarding is measured with.
const BODY_BYTES: usize = 64 * 1024;

/// How long all the slices of one measurement take, and one of them.
const MEASURED: Duration = Duration::from_millis(400);
const SLICE: Duration = Duration::from_millis(2);

/// Reads a body again and again, and tells the best of many short slices of time: the others were spent with what else the machine does.
fn measure(name: &str, body: &str, mut read: impl FnMut(&[u8])) {
    let started = Instant::now();
    let mut best = 0_f64;
    while started.elapsed() < MEASURED {
        let (slice_started, mut bytes) = (Instant::now(), 0);
        while slice_started.elapsed() < SLICE {
            read(body.as_bytes());
            bytes += body.len();
        }
        best = best.max(bytes as f64 / 1e6 / slice_started.elapsed().as_secs_f64());
    }
    println!("bench: scanner name={name} body_bytes={} mb_per_s={best:.0}", body.len());
}

fn repeated(element: &str) -> String {
    let count = BODY_BYTES / (element.len() + 1);
    vec![element; count].join(",")
}

#[test]
#[ignore = "a measurement, for release builds"]
fn speed() {
    let meter = meter(tokens());
    let usage = r#""usage":{"prompt_tokens":19,"completion_tokens":10}}"#;
    let text = "It is a truth universally acknowledged,\\nthat a single man ".repeat(BODY_BYTES / 60);
    let message = repeated(r#"{"role":"user","content":"Tell me more of it.","index":1,"logprobs":null}"#);
    let numbers = repeated("-0.009327292");
    for (name, body) in [
        ("json_text", format!(r#"{{"choices":[{{"message":{{"content":"{text}"}}}}],{usage}"#)),
        ("json_objects", format!(r#"{{"choices":[{message}],{usage}"#)),
        ("json_numbers", format!(r#"{{"data":[{{"embedding":[{numbers}]}}],{usage}"#)),
        (
            "json_pretty",
            serde_json::to_string_pretty(
                &serde_json::from_str::<serde_json::Value>(&format!(r#"{{"choices":[{message}],{usage}"#)).unwrap(),
            )
            .unwrap(),
        ),
    ] {
        measure(name, &body, |body| {
            let mut reply = reply(&meter, JSON);
            body.chunks(16 * 1024).for_each(|chunk| reply.feed(chunk));
            assert_eq!(super::charged(reply.usage()), "49");
        });
    }
    for (name, body) in [("sse_openai", openai_chat()), ("sse_anthropic", anthropic()), ("sse_gemini", gemini())] {
        measure(name, &body, |body| {
            let mut reply = reply(&meter, EVENTS);
            body.chunks(16 * 1024).for_each(|chunk| reply.feed(chunk));
            assert!(reply.usage().is_readable);
        });
    }
    let asking = UsageMeter::new(UsageSettings { request_usage: true, ..settings(tokens()) });
    let mut buffer = Vec::with_capacity(32 * 1024);
    measure("sse_openai_gated", &openai_chat(), |body| {
        let mut reply = asking.read_reply(asking.read_request(br#"{"stream":true}"#), Some(EVENTS));
        for chunk in body.chunks(16 * 1024) {
            buffer.clear();
            buffer.extend_from_slice(chunk);
            reply.pass(&mut buffer);
        }
        assert!(reply.usage().is_readable);
    });
}
