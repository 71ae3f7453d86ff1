//! Server-sent events as the standard allows them.

use super::{EVENTS, charged_at_every_cut, meter, tokens, usage};

const USAGE: &str = r#"{"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;

#[test]
fn every_line_ending_and_shape_of_an_event_that_the_standard_allows_is_read() {
    for stream in [
        format!("data: {USAGE}\n\n"),
        format!("data: {USAGE}\r\n\r\n"),
        format!("data: {USAGE}\r\r"),
        format!("data: {USAGE}\r\n\n"),
        format!("data: {USAGE}\n\r"),
        format!("data:{USAGE}\n\n"),
        format!("data:  {USAGE}\n\n"),
        format!("\u{feff}data: {USAGE}\n\n"),
        format!("\n\n\u{20}\n:\n: comment\n:{USAGE}\ndata: {USAGE}\n\n"),
        format!("event: usage\nid: 7\nretry: 10\nunknown: x\ndata: {USAGE}\nevent: late\n\n"),
        format!("data: {USAGE}\n\ndata: [DONE]\n\n"),
        format!("data: {USAGE}\n\ndata\n\ndata:\n\n"),
        format!("data\ndata: {USAGE}\n\n"),
        format!("data: {{\"text\":\"\u{1F600}é\"}}\n\ndata: {USAGE}\n\n"),
        format!("data: {}\n\n", USAGE.replace(',', "\ndata: ,\ndata: ")),
        format!("data: {}\r\n\r\n", USAGE.replace(':', ":\r\ndata: ")),
        format!("data: {{\"usage\":null}}\n\ndata: {USAGE}\n\ndata: {{\"usage\":null}}\n\n"),
        format!("data: not json\n\ndata: {{\"usage\":{{\"prompt_tokens\":\n\ndata: {USAGE}\n\n"),
        format!("data: {USAGE}\ndata: [DONE]\n\n"),
        format!("data: {USAGE}"),
        format!("data: {USAGE}\n"),
    ] {
        assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &stream), "8", "{stream:?}");
    }
}

#[test]
fn what_is_no_data_is_not_read() {
    for stream in [
        format!(": {USAGE}\n\n"),
        format!("event: {USAGE}\n\n"),
        format!("dat: {USAGE}\n\n"),
        format!("dataa: {USAGE}\n\n"),
        format!("Data: {USAGE}\n\n"),
        format!(" data: {USAGE}\n\n"),
        format!("\u{feff}\u{feff}data: {USAGE}\n\n"),
        format!("{USAGE}\n\n"),
        format!("data: {}\n\n", USAGE.replace("\":5", "\"\ndata: 5")),
        String::new(),
    ] {
        assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &stream), "none", "{stream:?}");
    }
}

#[test]
fn an_event_that_breaks_off_counts_for_nothing() {
    let stream = "data: {\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}";
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, stream), "none");
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &format!("{stream}\n\n")), "none");
}

#[test]
fn fields_seen_on_different_events_add_up_and_a_field_seen_again_replaces() {
    let event = |usage: &str| format!("data: {{\"usage\":{usage}}}\n\n");
    for (events, expected) in [
        (vec![r#"{"prompt_tokens":5}"#, r#"{"completion_tokens":1}"#], "8"),
        (vec![r#"{"prompt_tokens":5}"#, r#"{"prompt_tokens":4}"#], "4"),
        (vec![r#"{"prompt_tokens":5}"#, r#"{"prompt_tokens":null}"#, "null", "{}"], "5"),
        (vec![r#"{"prompt_tokens":5}"#, r#"{"prompt_tokens":-4}"#], "5"),
        (vec![r#"{"prompt_tokens":5}"#, r#"{"prompt_tokens":0}"#], "0"),
        (vec![r#"{"input_tokens":5}"#, r#"{"prompt_tokens":4}"#, r#"{"input_tokens":6}"#], "4"),
    ] {
        let stream: String = events.iter().copied().map(event).collect();
        assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &stream), expected, "{stream}");
    }
}

#[test]
fn usage_inside_message_and_response_counts_below_that_of_the_event_itself() {
    for (event, expected) in [
        (r#"{"message":{"usage":{"input_tokens":5}}}"#, "5"),
        (r#"{"response":{"usage":{"input_tokens":5}}}"#, "5"),
        (r#"{"usage":{"input_tokens":5},"response":{"usage":{"input_tokens":6}},"message":{"usage":{"input_tokens":7}}}"#, "5"),
        (r#"{"other":{"usage":{"input_tokens":5}}}"#, "none"),
        (r#"{"message":{"message":{"usage":{"input_tokens":5}}}}"#, "none"),
        (r#"{"message":"usage","response":["usage",{"usage":5}]}"#, "none"),
    ] {
        assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &format!("data: {event}\n\n")), expected, "{event}");
    }
    let outside_usage = meter(vec![super::item(&["tokens"], "1")]);
    assert_eq!(charged_at_every_cut(&outside_usage, EVENTS, "data: {\"message\":{\"tokens\":5}}\n\n"), "none");
}

#[test]
fn a_line_and_an_event_may_be_of_any_length() {
    let long = "x".repeat(3_000_000);
    let stream = format!("{long}\n:{long}\ndata: {{\"a\":\"{long}\",\ndata:\"usage\":{{\"prompt_tokens\":5}}}}\n\n");
    for size in [1 << 16, 1 << 22] {
        let seen = usage(&meter(tokens()), EVENTS, stream.as_bytes().chunks(size));
        assert_eq!(super::charged(seen), "5");
    }
}
