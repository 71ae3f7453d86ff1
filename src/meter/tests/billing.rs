//! Every billing item of the marketplace can be written, what is no usage is none, and a call is charged by how its reply ended.

use super::{JSON, charged, charged_at_every_cut, item, meter, tokens, usage};
use crate::meter::{Ending, Factor, Item, Measure, Source, Usage, charge};
use crate::quantity::Quantity;

fn quantity(text: &str) -> Quantity {
    text.parse().unwrap()
}

#[test]
fn every_item_of_the_marketplaces_table_can_be_metered() {
    let milliseconds =
        Item { scale: Factor::parse("0.001").unwrap(), ..item(&["transcripts.content_duration_in_milliseconds"], "1") };
    for (item, body, expected) in [
        (item(&["usage.prompt_tokens", "usage.input_tokens"], "1"), r#"{"usage":{"prompt_tokens":31}}"#, "31"),
        (item(&["usage.prompt_tokens", "usage.input_tokens"], "1"), r#"{"usage":{"input_tokens":32}}"#, "32"),
        (item(&["usage.completion_tokens", "usage.output_tokens"], "2.5"), r#"{"usage":{"output_tokens":3}}"#, "7.5"),
        (item(&["usage.image_count"], "40"), r#"{"usage":{"image_count":2}}"#, "80"),
        (item(&["usage.video_duration"], "1"), r#"{"usage":{"video_duration":5.04}}"#, "5.04"),
        (milliseconds.clone(), r#"{"transcripts":{"content_duration_in_milliseconds":3720}}"#, "3.72"),
        (
            milliseconds,
            r#"{"transcripts":[{"content_duration_in_milliseconds":3720},{"text":"a"},{"content_duration_in_milliseconds":"280"}]}"#,
            "4",
        ),
        (item(&["output.a.b.seconds"], "0.5"), r#"{"output":{"a":{"b":{"seconds":"7"}}}}"#, "3.5"),
    ] {
        assert_eq!(charged_at_every_cut(&meter(vec![item]), JSON, body), expected, "{body}");
    }
}

#[test]
fn bytes_and_characters_of_a_parameter_are_counted_in_the_request() {
    let counted = |measure, body: &str| {
        let item = Item { source: Source::Request, measure, ..item(&["input"], "1") };
        let meter = meter(vec![item]);
        let reply = meter.read_reply(meter.read_request(body.as_bytes()), Some(JSON));
        let usage = reply.usage();
        assert!(!usage.is_in_reply);
        charged(usage)
    };
    for (body, bytes, characters) in [
        (r#"{"input":"hello","voice":"a"}"#, "5", "5"),
        (r#"{"input":"你好"}"#, "6", "2"),
        (r#"{"input":"\u4f60\u597d\n\"\/"}"#, "9", "5"),
        (r#"{"input":"\ud83d\ude00 😀"}"#, "9", "3"),
        (r#"{"input":"\ud83d!"}"#, "4", "2"),
        (r#"{"input":["ab","c"]}"#, "3", "3"),
        (r#"{"input":""}"#, "0", "0"),
        (r#"{"input":7}"#, "none", "none"),
        (r#"{"input":null}"#, "none", "none"),
        ("input=hello", "none", "none"),
        ("", "none", "none"),
    ] {
        assert_eq!(counted(Measure::Bytes, body), bytes, "{body}");
        assert_eq!(counted(Measure::Characters, body), characters, "{body}");
    }
}

#[test]
fn a_long_text_is_counted_without_being_kept() {
    let item = Item { source: Source::Request, measure: Measure::Characters, ..item(&["input"], "1") };
    let meter = meter(vec![item]);
    let body = format!(r#"{{"input":"{}"}}"#, "é".repeat(1_000_000));
    let reply = meter.read_reply(meter.read_request(body.as_bytes()), None);
    assert_eq!(charged(reply.usage()), "1000000");
}

#[test]
fn what_is_negative_no_number_or_absurd_is_no_usage() {
    for value in [
        "-1",
        "-0.5",
        "1e400",
        "1e18",
        "900000000001",
        "\"-3\"",
        "\"\"",
        "\"12 \"",
        "\"abc\"",
        "true",
        "false",
        "null",
        "{}",
        "[]",
        "{\"a\":1}",
        "[-1]",
        "[null]",
        "NaN",
        "Infinity",
        "-Infinity",
        "\"NaN\"",
    ] {
        let body = format!(r#"{{"usage":{{"prompt_tokens":{value},"completion_tokens":{value}}}}}"#);
        assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, &body), "none", "{body}");
        let half = format!(r#"{{"usage":{{"prompt_tokens":{value},"completion_tokens":5}}}}"#);
        assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, &half), "15", "the other item counts: {half}");
    }
    let sum_too_large = r#"{"usage":{"prompt_tokens":1,"completion_tokens":900000000000}}"#;
    assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, sum_too_large), "none");
    assert_eq!(charged(usage(&meter(vec![]), JSON, [&b"{}"[..]])), "none");
}

#[test]
fn the_first_field_that_is_present_counts_wherever_it_stands() {
    let body = r#"{"usage":{"input_tokens":1,"output_tokens":2,"completion_tokens":20,"prompt_tokens":10}}"#;
    assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, body), "70");
    let absent = r#"{"usage":{"prompt_tokens":null,"input_tokens":1,"completion_tokens":-1,"output_tokens":2}}"#;
    assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, absent), "7");
}

#[test]
fn the_sum_of_the_items_is_rounded_up_once() {
    let items = vec![item(&["a"], "0.00004"), item(&["b"], "0.00004")];
    assert_eq!(charged_at_every_cut(&meter(items), JSON, r#"{"a":1,"b":1}"#), "0.0001");
}

#[test]
fn two_items_may_count_the_same_value_apart() {
    let bytes = Item { measure: Measure::Bytes, ..item(&["text"], "10") };
    let characters = Item { measure: Measure::Characters, ..item(&["text"], "1") };
    let numbers = item(&["text"], "100");
    assert_eq!(charged_at_every_cut(&meter(vec![bytes, characters, numbers]), JSON, r#"{"text":"12"}"#), "1222");
}

#[test]
fn only_what_a_content_type_says_is_json_is_read() {
    let body = r#"{"usage":{"prompt_tokens":31}}"#;
    for content_type in ["application/json", "Application/JSON;charset=utf8", "application/problem+json", " text/json "] {
        assert_eq!(charged(usage(&meter(tokens()), content_type, [body.as_bytes()])), "31", "{content_type}");
    }
    for content_type in ["text/plain", "", "application/jsonp", "audio/mpeg", "json", "text/html; charset=json"] {
        assert_eq!(charged(usage(&meter(tokens()), content_type, [body.as_bytes()])), "none", "{content_type}");
    }
    let unnamed = meter(tokens()).read_reply(meter(tokens()).read_request(b""), None);
    assert_eq!(unnamed.usage().quantity, None);
}

#[test]
fn usage_of_the_request_alone_is_readable_only_where_no_item_is_in_the_reply() {
    let input = Item { source: Source::Request, measure: Measure::Bytes, ..item(&["input"], "1") };
    let request = br#"{"input":"hello"}"#;
    let read = |items: Vec<Item>, body: &[u8]| {
        let meter = meter(items);
        let mut reply = meter.read_reply(meter.read_request(request), Some(JSON));
        reply.feed(body);
        reply.usage()
    };
    assert!(read(vec![input.clone()], b"").is_readable);
    let mixed = || [vec![input.clone()], tokens()].concat();
    let missing = read(mixed(), b"{}");
    assert_eq!((charged(missing).as_str(), missing.is_readable), ("5", false));
    let found = read(mixed(), br#"{"usage":{"output_tokens":1}}"#);
    assert_eq!((charged(found).as_str(), found.is_readable, found.is_in_reply), ("8", true, true));
}

#[test]
fn a_call_is_charged_by_how_its_reply_ended() {
    let read = |text: Option<&str>| Usage {
        quantity: text.map(quantity),
        is_in_reply: text.is_some(),
        is_readable: text.is_some(),
        is_request_read: true,
    };
    let of_request = Usage { is_in_reply: false, ..read(Some("7")) };
    for (status, ending, usage, expected, is_usage_missing) in [
        (200, Ending::Complete, read(Some("3")), "3", false),
        (200, Ending::Complete, read(Some("30")), "30", false),
        (200, Ending::Complete, read(Some("0")), "0", false),
        (299, Ending::Complete, read(None), "10", true),
        (200, Ending::Complete, of_request, "7", false),
        (200, Ending::Complete, Usage { is_readable: false, ..of_request }, "10", true),
        (200, Ending::Complete, Usage { is_request_read: false, ..read(Some("3")) }, "10", true),
        (200, Ending::Complete, Usage { is_request_read: false, ..read(Some("30")) }, "30", true),
        (404, Ending::Complete, Usage { is_request_read: false, ..read(None) }, "0", false),
        (429, Ending::Complete, read(None), "0", false),
        (500, Ending::Complete, read(Some("3")), "3", false),
        (304, Ending::Complete, of_request, "0", false),
        (200, Ending::BrokenOff, read(Some("3")), "3", false),
        (200, Ending::BrokenOff, read(None), "0", false),
        (200, Ending::BrokenOff, of_request, "7", false),
        (502, Ending::BrokenOff, read(Some("3")), "3", false),
        (200, Ending::Abandoned, read(Some("3")), "10", false),
        (200, Ending::Abandoned, read(Some("30")), "30", false),
        (200, Ending::Abandoned, read(None), "10", false),
        (500, Ending::Abandoned, read(None), "0", false),
    ] {
        let charged = charge(status, ending, quantity("10"), usage);
        assert_eq!(
            (charged.quantity, charged.is_usage_missing),
            (quantity(expected), is_usage_missing),
            "{status} {ending:?} {usage:?}"
        );
    }
}
