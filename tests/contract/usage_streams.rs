//! Usage in streams of every producer, as the backend sends it and as the caller gets it (contract section 3, *Streams*).
//!
//! Recorded streams of real providers are those that the meter's own tests read.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::metered::{Charged, EVENTS, JSON, LINES};
use crate::support::script::Script;
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    an_openai_chat_stream_is_charged_its_usage,
    an_azure_stream_is_charged_its_usage,
    a_vllm_stream_with_usage_on_every_event_is_charged_the_last,
    a_responses_stream_is_charged_its_completed_response,
    a_responses_stream_that_failed_is_charged_its_hold,
    an_anthropic_stream_is_charged_its_start_and_its_delta_together,
    an_anthropic_stream_whose_input_count_changes_is_charged_the_last,
    cached_tokens_of_an_anthropic_stream_are_charged_at_their_weights,
    a_gemini_stream_is_charged_the_same_as_events_and_as_one_array,
    an_ollama_stream_of_lines_is_charged_its_last_line,
    the_marketplaces_sample_is_charged_its_usage,
    events_are_read_in_every_form_the_standard_allows,
    what_is_seen_later_replaces_and_null_never_does,
    usage_of_different_events_adds_up,
    a_stream_that_says_nothing_of_usage_is_charged_its_hold,
    a_hundred_concurrent_streams_are_charged_each_its_own,
}

const OPENAI_CHAT: &str = include_str!("../../src/meter/tests/streams/openai-chat-text.jsonl");
const OPENAI_RESPONSES_ERROR: &str = include_str!("../../src/meter/tests/streams/openai-responses-error.jsonl");
const ANTHROPIC: &str = include_str!("../../src/meter/tests/streams/anthropic-text.jsonl");
const ANTHROPIC_CHANGED: &str = include_str!("../../src/meter/tests/streams/anthropic-input-tokens-changed.jsonl");
const GEMINI: &str = include_str!("../../src/meter/tests/streams/gemini-text.jsonl");

fn data_events<'l>(lines: impl IntoIterator<Item = &'l str>) -> String {
    lines.into_iter().map(|line| format!("data: {line}\n\n")).collect()
}

/// Events with their type's name, as Anthropic and the Responses API send them.
pub(crate) fn named_events(lines: &str) -> String {
    let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned();
    lines.lines().map(|line| format!("event: {}\ndata: {line}\n\n", kind(line))).collect()
}

/// The recorded stream of an OpenAI chat, which used 16 and 300 tokens.
pub(crate) fn openai_chat() -> String {
    data_events(OPENAI_CHAT.lines().chain(["[DONE]"]))
}

/// The recorded stream of Anthropic messages, which used 12 and 30 tokens.
pub(crate) fn anthropic() -> String {
    named_events(ANTHROPIC)
}

/// A stream of the Responses API, which used 37 and 11 tokens.
pub(crate) fn responses() -> String {
    named_events(concat!(
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"model":"m","status":"in_progress","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":null}}"#,
        "\n",
        r#"{"type":"response.output_item.added","output_index":0,"sequence_number":1,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
        "\n",
        r#"{"type":"response.content_part.added","item_id":"msg_1","output_index":0,"content_index":0,"sequence_number":2,"part":{"type":"output_text","text":"","annotations":[]}}"#,
        "\n",
        r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":0,"content_index":0,"sequence_number":3,"delta":"Hi"}"#,
        "\n",
        r#"{"type":"response.completed","sequence_number":4,"response":{"id":"resp_1","object":"response","created_at":1,"model":"m","status":"completed","output":[{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":0},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48},"metadata":{}}}"#,
    ))
}

/// Replays a body in pieces of several sizes, chunked and with its length; the caller gets it as it is and is charged for it.
async fn expect_replayed(suite: &Suite, buyer: &Buyer, content_type: &str, body: &str, charged: &Charged) {
    let sizes: &[usize] = if body.len() > 50_000 { &[997, 16_384, 1_000_000] } else { &[1, 2, 7, 61, 1_000_000] };
    for (index, piece) in sizes.iter().enumerate() {
        let script = if index % 2 == 0 { Script::chunked() } else { Script::status(200) };
        let script = script.header("content-type", content_type).then(suite.backend.keep(body, *piece));
        let reply = buyer.expect_charge(&buyer.ask(&json!({ "stream": true }), &script), charged).await;
        assert!(reply.body == body.as_bytes(), "{} of {} bytes", reply.body.len(), body.len());
    }
}

/// As [`expect_replayed`], for a new customer of a product.
async fn expect_charge(suite: &Suite, product: &str, content_type: &str, body: &str, charge: &str) {
    let buyer = suite.buyer(product, "1000000").await;
    expect_replayed(suite, &buyer, content_type, body, &Charged::settled(charge)).await;
    buyer.expect_balanced().await;
}

async fn an_openai_chat_stream_is_charged_its_usage(suite: Arc<Suite>) {
    // 16 + 3 x 300
    expect_charge(&suite, "chat", EVENTS, &openai_chat(), "916").await;
    expect_charge(&suite, "chat", "text/event-stream; charset=utf-8", &data_events(OPENAI_CHAT.lines()), "916").await;
}

async fn an_azure_stream_is_charged_its_usage(suite: Arc<Suite>) {
    let stream = data_events([
        r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{}}]}"#,
        r#"{"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0}],"id":"chatcmpl-1","usage":null}"#,
        r#"{"choices":[{"delta":{"content":"Hi \"usage\":{\"prompt_tokens\":9}"},"index":0}],"usage":null}"#,
        r#"{"choices":[],"id":"chatcmpl-1","usage":{"completion_tokens":10,"prompt_tokens":9,"total_tokens":19}}"#,
        "[DONE]",
    ]);
    expect_charge(&suite, "chat", EVENTS, &stream, "39").await;
}

async fn a_vllm_stream_with_usage_on_every_event_is_charged_the_last(suite: Arc<Suite>) {
    let event = |completion: u32| {
        let usage = json!({ "prompt_tokens": 7, "total_tokens": 7 + completion, "completion_tokens": completion });
        json!({ "choices": [{ "index": 0, "delta": { "content": "a" } }], "usage": usage }).to_string()
    };
    let events: Vec<_> = (1..=40).map(event).collect();
    expect_charge(&suite, "chat", EVENTS, &data_events(events.iter().map(String::as_str).chain(["[DONE]"])), "127").await;
}

async fn a_responses_stream_is_charged_its_completed_response(suite: Arc<Suite>) {
    expect_charge(&suite, "chat", EVENTS, &responses(), "70").await;
    let incomplete = responses().replace("response.completed", "response.incomplete");
    expect_charge(&suite, "chat", EVENTS, &incomplete, "70").await;
}

async fn a_responses_stream_that_failed_is_charged_its_hold(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let stream = named_events(OPENAI_RESPONSES_ERROR);
    // The default estimate, and a quarter of the request's 15 bytes.
    expect_replayed(&suite, &buyer, EVENTS, &stream, &Charged::hold("12291.75")).await;
}

async fn an_anthropic_stream_is_charged_its_start_and_its_delta_together(suite: Arc<Suite>) {
    // 12 + 3 x 30
    expect_charge(&suite, "chat", EVENTS, &anthropic(), "102").await;
    let whole = r#""usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":30}"#;
    let output_only = anthropic().replace(whole, r#""usage":{"output_tokens":30}"#);
    assert_ne!(output_only, anthropic());
    expect_charge(&suite, "chat", EVENTS, &output_only, "102").await;
}

async fn an_anthropic_stream_whose_input_count_changes_is_charged_the_last(suite: Arc<Suite>) {
    // 61 + 3 x 2, and not the 43 of the start.
    expect_charge(&suite, "chat", EVENTS, &named_events(ANTHROPIC_CHANGED), "67").await;
}

async fn cached_tokens_of_an_anthropic_stream_are_charged_at_their_weights(suite: Arc<Suite>) {
    let stream = named_events(concat!(
        r#"{"type":"message_start","message":{"id":"msg_1","content":[],"usage":{"input_tokens":4,"cache_creation_input_tokens":2051,"cache_read_input_tokens":1537,"cache_creation":{"ephemeral_5m_input_tokens":2051},"output_tokens":1}}}"#,
        "\n",
        r#"{"type":"ping"}"#,
        "\n",
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#,
        "\n",
        r#"{"type":"message_stop"}"#,
    ));
    // 4 + 2563.75 + 153.7 + 75
    expect_charge(&suite, "cached", EVENTS, &stream, "2796.45").await;
}

async fn a_gemini_stream_is_charged_the_same_as_events_and_as_one_array(suite: Arc<Suite>) {
    // 9 + 3 x 23 + 3 x 185
    expect_charge(&suite, "gemini", EVENTS, &data_events(GEMINI.lines()), "633").await;
    let array = format!("[{}\n]\n", GEMINI.lines().collect::<Vec<_>>().join("\n,\r\n"));
    expect_charge(&suite, "gemini", "application/json; charset=UTF-8", &array, "633").await;
}

async fn an_ollama_stream_of_lines_is_charged_its_last_line(suite: Arc<Suite>) {
    let line = r#"{"model":"llama3.2","message":{"role":"assistant","content":"The\nsky"},"done":false}"#;
    let last = r#"{"model":"llama3.2","done":true,"total_duration":4883583458,"prompt_eval_count":26,"eval_count":282}"#;
    let lines = format!("{line}\n{line}\r\n{last}");
    expect_charge(&suite, "ollama", LINES, &format!("{lines}\n"), "872").await;
    expect_charge(&suite, "ollama", LINES, &lines, "872").await;
    // A line that is no JSON takes no other with it.
    expect_charge(&suite, "ollama", LINES, &format!("{{\"a\n{lines}\nnot JSON\n"), "872").await;
}

async fn the_marketplaces_sample_is_charged_its_usage(suite: Arc<Suite>) {
    let sample = "{ \"data\": \"<any structure of your own>\",\n  \"usage\": { \"completion_tokens\": 217, \"prompt_tokens\": 31, \"total_tokens\": 248 } }";
    expect_charge(&suite, "chat", JSON, sample, "682").await;
}

async fn events_are_read_in_every_form_the_standard_allows(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let usage = r#"{"usage":{"total_tokens":42}}"#;
    for stream in [
        format!("data: {usage}\n\n"),
        format!("data:{usage}\n\n"),
        format!("data: {usage}\r\n\r\n"),
        format!("data: {usage}\r\r"),
        format!("\u{feff}data: {usage}\n\n"),
        format!("\n\n\ndata: {usage}\n\n\n"),
        format!(": a comment\n:\ndata: {usage}\n: another\n\n"),
        format!("id: 7\nretry: 10\nevent: usage\ndata: {usage}\n\ndata: [DONE]\n\n"),
        "data: {\"usage\":\ndata: {\"total_tokens\"\ndata: :42}}\n\n".to_owned(),
        "data\ndata: {\"usage\":{\"total_tokens\":42}}\ndata\n\n".to_owned(),
        format!("data: {{\"text\":\"ä文🦀\"}}\n\ndata: {usage}\n\ndata: {{\"text\":\"ä文🦀\"}}\n\n"),
        format!("data: not JSON {{\n\ndata: {usage}\n\ndata: {{\"usage\n\n"),
    ] {
        expect_replayed(&suite, &buyer, EVENTS, &stream, &Charged::settled("42")).await;
    }
    // An event without its end was never sent; and what is no data is none.
    for stream in [format!("event: x\nDATA: {usage}\n\n"), format!(": data: {usage}\n\n"), format!("datax: {usage}\n\n")] {
        expect_replayed(&suite, &buyer, EVENTS, &stream, &Charged::hold("10")).await;
    }
}

async fn what_is_seen_later_replaces_and_null_never_does(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let event = |total: &str| format!("data: {{\"usage\":{{\"total_tokens\":{total}}}}}\n\n");
    for (totals, charge) in [
        (["5", "9"].as_slice(), "9"),
        (&["9", "5"], "5"),
        (&["5", "null"], "5"),
        (&["null", "5", "null"], "5"),
        (&["5", "-1"], "5"),
        (&["5", "\"much\"", "1e99"], "5"),
    ] {
        let stream: String = totals.iter().map(|total| event(total)).collect();
        expect_replayed(&suite, &buyer, EVENTS, &stream, &Charged::settled(charge)).await;
    }
    let stream = format!("{}data: {{\"usage\":null}}\n\n", event("5"));
    expect_replayed(&suite, &buyer, EVENTS, &stream, &Charged::settled("5")).await;
}

async fn usage_of_different_events_adds_up(suite: Arc<Suite>) {
    let events = [
        r#"{"usage":{"prompt_tokens":10}}"#,
        r#"{"usage":null}"#,
        r#"{"message":{"usage":{"completion_tokens":1}}}"#,
        r#"{"response":{"usage":{"completion_tokens":4}}}"#,
    ];
    expect_charge(&suite, "chat", EVENTS, &data_events(events), "22").await;
    expect_charge(&suite, "chat", LINES, &format!("{}\n", events.join("\n")), "22").await;
}

async fn a_stream_that_says_nothing_of_usage_is_charged_its_hold(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let silent = data_events(OPENAI_CHAT.lines().take(4).chain(["[DONE]"]));
    expect_replayed(&suite, &buyer, EVENTS, &silent, &Charged::hold("10")).await;
    expect_replayed(&suite, &buyer, LINES, "{}\n{}\n", &Charged::hold("10")).await;
}

async fn a_hundred_concurrent_streams_are_charged_each_its_own(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "10000000").await;
    let gate = suite.backend.gate();
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..100_u32 {
        let usage = format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{index},\"completion_tokens\":7}}}}\n\n");
        let recorded = if index % 2 == 0 { anthropic() } else { data_events(OPENAI_CHAT.lines().take(50)) };
        let (begin, end) = recorded.split_at(recorded.len() / 2);
        let script = Script::chunked().header("content-type", EVENTS).then(suite.backend.keep(begin, 500)).then(gate.step());
        let script = script.then(suite.backend.keep(end, 500)).then(suite.backend.keep(&usage, 11));
        let (call, expected) = (buyer.ask(&json!({ "stream": true, "max_tokens": 1000 }), &script), format!("{recorded}{usage}"));
        calls.spawn(async move {
            let reply = call.send().await;
            (call.request_id(), index, reply.whole && reply.body == expected.as_bytes())
        });
    }
    // All of them are under way at the same time.
    buyer.expect_forwarded(100).await;
    assert_eq!(buyer.calls().await.iter().filter(|call| call["state"] == "held").count(), 100);
    gate.open();
    for (id, index, is_whole) in calls.join_all().await {
        assert!(is_whole, "{id}");
        assert_eq!(buyer.charged_now(&id).await, Charged::settled(&(index + 21).to_string()));
    }
    buyer.expect_used("7050").await;
    buyer.expect_balanced().await;
}
