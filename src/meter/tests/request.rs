//! What is held before a call is forwarded, and how a backend is asked for usage.

use super::{hold_rule, item, meter, settings, tokens};
use crate::meter::{Factor, HoldRule, Item, Measure, Source, UsageMeter, UsageSettings};

fn hold(rule: HoldRule, body: &str) -> String {
    let meter = UsageMeter::new(UsageSettings { hold: rule, ..settings(tokens()) });
    meter.read_request(body.as_bytes()).hold().to_string()
}

#[test]
fn the_hold_is_the_largest_valid_field_times_n_and_the_body_and_at_least_the_minimum() {
    let rule = |input_weight: &str, min: &str| HoldRule {
        input_weight: Factor::parse(input_weight).unwrap(),
        min: min.parse().unwrap(),
        ..hold_rule()
    };
    for (body, expected) in [
        ("{}", "12288"),
        ("", "12288"),
        ("not json", "12288"),
        (r#"{"max_tokens":100}"#, "300"),
        (r#"{"max_tokens":100,"max_completion_tokens":10}"#, "300"),
        (r#"{"max_tokens":100,"max_completion_tokens":1000}"#, "3000"),
        (r#"{"max_tokens":-1,"max_completion_tokens":10}"#, "30"),
        (r#"{"max_tokens":-1}"#, "12288"),
        (r#"{"max_tokens":null}"#, "12288"),
        (r#"{"max_tokens":"many"}"#, "12288"),
        (r#"{"max_tokens":1e300}"#, "12288"),
        (r#"{"max_tokens":0}"#, "1"),
        (r#"{"max_tokens":0.00001}"#, "1"),
        (r#"{"max_tokens":10.5}"#, "31.5"),
        (r#"{"max_tokens":100,"n":4}"#, "1200"),
        (r#"{"n":2}"#, "24576"),
        (r#"{"max_tokens":100,"n":0}"#, "300"),
        (r#"{"max_tokens":100,"n":-2}"#, "300"),
        (r#"{"max_tokens":100,"n":1.5}"#, "300"),
        (r#"{"max_tokens":100,"n":null}"#, "300"),
        (r#"{"max_tokens":100,"n":"x"}"#, "300"),
        (r#"{"max_tokens":100,"n":2.0}"#, "600"),
        (r#"{"max_tokens":100,"n":1000000000000}"#, "300"),
        (r#"{"max_tokens":900000000000,"n":1000000}"#, "900000000000"),
        (r#"{"options":{"max_tokens":5}}"#, "12288"),
        (r#"{"max_tokens":5,"max_tokens":6}"#, "18"),
    ] {
        assert_eq!(hold(rule("0", "1"), body), expected, "{body}");
    }
    assert_eq!(hold(rule("0.25", "1"), r#"{"max_tokens":1}"#), "7", "3 + 16 bytes / 4");
    assert_eq!(hold(rule("0.3333", "1"), r#"{"max_tokens":1} "#), "8.6661");
    assert_eq!(hold(rule("0.25", "50"), r#"{"max_tokens":1}"#), "50");
    assert_eq!(hold(rule("0.00001", "0"), r#"{"max_tokens":0}"#), "0.0002", "rounded up");
}

/// The body that a backend gets of one that asks for usage where `request_usage` is set.
fn asked(body: &str) -> String {
    let meter = UsageMeter::new(UsageSettings { request_usage: true, ..settings(tokens()) });
    let reading = meter.read_request(body.as_bytes());
    let edited = String::from_utf8(reading.body_for_backend(body.as_bytes().to_vec())).unwrap();
    assert_eq!(reading.asks_for_usage(), edited != body);
    edited
}

#[test]
fn a_stream_without_the_question_for_usage_gets_it_and_keeps_every_other_byte() {
    for (body, expected) in [
        (
            "{ \"model\": \"m\",\n \"stream\": true, \"n\": 1.0e0 }\n",
            "{\"stream_options\":{\"include_usage\":true}, \"model\": \"m\",\n \"stream\": true, \"n\": 1.0e0 }\n",
        ),
        (r#" {"stream":true}"#, r#" {"stream_options":{"include_usage":true},"stream":true}"#),
        (r#"{"\u0073tream":true}"#, r#"{"stream_options":{"include_usage":true},"\u0073tream":true}"#),
        (r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
        (r#"{"stream_options": {},"stream":true}"#, r#"{"stream_options": {"include_usage":true},"stream":true}"#),
        (r#"{"stream":true,"stream_options":{ }}"#, r#"{"stream":true,"stream_options":{"include_usage":true }}"#),
        (
            r#"{"stream":true,"stream_options":{ "include_obfuscation":false}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true, "include_obfuscation":false}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage": false ,"a":1}}"#,
            r#"{"stream":true,"stream_options":{"include_usage": true ,"a":1}}"#,
        ),
        (
            r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":true},"stream":true,"stream_options":{"a":1}}"#,
            r#"{"stream_options":{"include_usage":true},"stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
        ),
        (r#"{"stream":false,"stream":true}"#, r#"{"stream_options":{"include_usage":true},"stream":false,"stream":true}"#),
    ] {
        assert_eq!(asked(body), expected);
        let parsed: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(parsed["stream_options"]["include_usage"], true, "{expected}");
    }
}

#[test]
fn any_other_body_stays_as_it_is() {
    for body in [
        "",
        "{}",
        "not json",
        r#"{"stream":false}"#,
        r#"{"stream":null}"#,
        r#"{"stream":"true"}"#,
        r#"{"stream":[true]}"#,
        r#"{"stream":true,"stream_options":[null]}"#,
        r#"{"stream":true,"stream_options":{"include_usage":[false]}}"#,
        r#"{"stream":true,"stream":false}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":"none"}"#,
        r#"{"stream":true,"stream_options":{"include_usage":"yes"}}"#,
        r#"{"stream":true,"input":"a question to the Responses API"}"#,
        r#"{"stream":true"#,
        r#"{"stream":true} {"stream":true}"#,
        r#"[{"stream":true}]"#,
        r#"{"options":{"stream":true}}"#,
    ] {
        assert_eq!(asked(body), body);
    }
    let silent = meter(tokens()).read_request(br#"{"stream":true}"#);
    assert!(!silent.asks_for_usage(), "request_usage is off");
}

#[test]
fn asking_for_usage_does_not_change_what_is_held_or_metered_of_the_request() {
    let input = Item { source: Source::Request, measure: Measure::Bytes, ..item(&["prompt"], "1") };
    let body = br#"{"stream":true,"prompt":"hello","max_tokens":7}"#;
    let read = |request_usage| {
        let meter = UsageMeter::new(UsageSettings { request_usage, ..settings(vec![input.clone()]) });
        let reading = meter.read_request(body);
        (reading.hold(), meter.read_reply(reading, None).usage())
    };
    assert_eq!(read(true), read(false));
}
