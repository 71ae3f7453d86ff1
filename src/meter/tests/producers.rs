//! Each producer's real shape, whole and cut at every byte. What is charged is what its own usage says, to the unit.

use super::{EVENTS, JSON, charged, charged_at_every_cut, item, meter, tokens, usage};

const OPENAI_CHAT: &str = include_str!("streams/openai-chat-text.jsonl");
const OPENAI_RESPONSES_ERROR: &str = include_str!("streams/openai-responses-error.jsonl");
const ANTHROPIC: &str = include_str!("streams/anthropic-text.jsonl");
const ANTHROPIC_CHANGED: &str = include_str!("streams/anthropic-input-tokens-changed.jsonl");
const GEMINI: &str = include_str!("streams/gemini-text.jsonl");

/// Events as OpenAI's chat and Gemini send them.
pub(super) fn data_events<'l>(lines: impl IntoIterator<Item = &'l str>) -> String {
    lines.into_iter().map(|line| format!("data: {line}\n\n")).collect()
}

/// Events with their type's name, as Anthropic and the Responses API send them.
fn named_events(lines: &str) -> String {
    let kind = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned();
    lines.lines().map(|line| format!("event: {}\ndata: {line}\n\n", kind(line))).collect()
}

pub(super) fn openai_chat() -> String {
    data_events(OPENAI_CHAT.lines().chain(["[DONE]"]))
}

pub(super) fn anthropic() -> String {
    named_events(ANTHROPIC)
}

pub(super) fn gemini() -> String {
    data_events(GEMINI.lines())
}

#[test]
fn an_openai_chat_stream_costs_what_its_last_event_says() {
    // 16 + 3 x 300
    let whole = openai_chat();
    assert_eq!(charged(usage(&meter(tokens()), EVENTS, [whole.as_bytes()])), "916");
    for size in [1, 2, 3, 7, 64, 331, 1000, 4096, 65_536] {
        assert_eq!(charged(usage(&meter(tokens()), EVENTS, whole.as_bytes().chunks(size))), "916", "chunks of {size}");
    }
    let lines: Vec<_> = OPENAI_CHAT.lines().collect();
    let ends: Vec<_> = lines[..3].iter().chain(&lines[lines.len() - 2..]).copied().collect();
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &data_events(ends.iter().copied().chain(["[DONE]"]))), "916");
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &data_events(ends)), "916", "without [DONE]");
}

#[test]
fn an_openai_chat_stream_of_which_nobody_asked_usage_says_nothing() {
    let lines: Vec<_> = OPENAI_CHAT.lines().take(4).collect();
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &data_events(lines)), "none");
}

#[test]
fn an_azure_stream_begins_with_an_event_without_choices_and_ends_with_usage() {
    let stream = data_events([
        r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}"#,
        r#"{"choices":[{"content_filter_results":{},"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0}],"id":"chatcmpl-1","usage":null}"#,
        r#"{"choices":[{"content_filter_results":{"hate":{"filtered":false}},"delta":{"content":"Hi \"usage\":{\"prompt_tokens\":9}"},"index":0}],"usage":null}"#,
        r#"{"choices":[],"id":"chatcmpl-1","object":"chat.completion.chunk","usage":{"completion_tokens":10,"prompt_tokens":9,"total_tokens":19}}"#,
        "[DONE]",
    ]);
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &stream), "39");
}

#[test]
fn a_vllm_stream_with_usage_on_every_event_costs_what_the_last_one_says() {
    let chunk = |content: &str, completion: u32| {
        format!(
            r#"{{"id":"cmpl-1","choices":[{{"index":0,"delta":{{"content":"{content}"}},"logprobs":null}}],"usage":{{"prompt_tokens":7,"total_tokens":{},"completion_tokens":{completion}}}}}"#,
            7 + completion
        )
    };
    let events = [chunk("a", 1), chunk("b", 2), chunk("c", 3), "[DONE]".to_owned()];
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &data_events(events.iter().map(String::as_str))), "16");
}

#[test]
fn a_responses_stream_costs_what_its_completed_response_says() {
    let stream = named_events(concat!(
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","output":[],"usage":null}}"#,
        "\n",
        r#"{"type":"response.output_text.delta","sequence_number":1,"item_id":"msg_1","delta":"Hi"}"#,
        "\n",
        r#"{"type":"response.completed","sequence_number":2,"response":{"id":"resp_1","status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],"usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":0},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48},"metadata":{}}}"#,
    ));
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &stream), "70");
}

#[test]
fn a_responses_stream_that_failed_says_nothing() {
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &named_events(OPENAI_RESPONSES_ERROR)), "none");
}

#[test]
fn an_anthropic_stream_costs_what_its_message_start_and_its_message_delta_say_together() {
    // 12 + 3 x 30
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &anthropic()), "102");
    // The input count of the start, the output count of the delta.
    let without_input = anthropic().replace(
        r#""usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":30}"#,
        r#""usage":{"output_tokens":30}"#,
    );
    assert_ne!(without_input, anthropic());
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &without_input), "102");
}

#[test]
fn an_input_count_that_changes_in_the_message_delta_replaces_the_first_one() {
    // 61 + 3 x 2, and not 43
    assert_eq!(charged_at_every_cut(&meter(tokens()), EVENTS, &named_events(ANTHROPIC_CHANGED)), "67");
}

#[test]
fn cached_tokens_have_weights_of_their_own() {
    let items = vec![
        item(&["usage.input_tokens"], "1"),
        item(&["usage.cache_creation_input_tokens"], "1.25"),
        item(&["usage.cache_read_input_tokens"], "0.1"),
        item(&["usage.output_tokens"], "5"),
    ];
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
    assert_eq!(charged_at_every_cut(&meter(items), EVENTS, &stream), "2796.45");
}

#[test]
fn gemini_costs_the_same_as_events_and_as_one_array() {
    let items = || {
        vec![
            item(&["usageMetadata.promptTokenCount"], "1"),
            item(&["usageMetadata.candidatesTokenCount"], "3"),
            item(&["usageMetadata.thoughtsTokenCount"], "3"),
        ]
    };
    // 9 + 3 x 23 + 3 x 185: the last event's, and not the sum of all.
    assert_eq!(charged_at_every_cut(&meter(items()), EVENTS, &gemini()), "633");
    let array = format!("[{}\n]\n", GEMINI.lines().collect::<Vec<_>>().join("\n,\r\n"));
    assert_eq!(charged_at_every_cut(&meter(items()), "application/json; charset=UTF-8", &array), "633");
    // The last event has more characters than the array would be cut for; one that is cut short keeps the event before it.
    let cut = &array[..array.rfind("usageMetadata").unwrap()];
    let seen = usage(&meter(items()), JSON, [cut.as_bytes()]);
    assert_eq!(charged(seen), "633");
}

#[test]
fn ollama_says_it_on_the_last_line() {
    let items = vec![item(&["prompt_eval_count"], "1"), item(&["eval_count"], "3")];
    let lines = concat!(
        r#"{"model":"llama3.2","created_at":"2025-01-01T00:00:00Z","message":{"role":"assistant","content":"The\nsky"},"done":false}"#,
        "\n",
        r#"{"model":"llama3.2","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":4883583458,"prompt_eval_count":26,"eval_count":282}"#,
    );
    assert_eq!(charged_at_every_cut(&meter(items.clone()), "application/x-ndjson", &format!("{lines}\n")), "872");
    assert_eq!(charged_at_every_cut(&meter(items), "application/x-ndjson", lines), "872", "without the last line feed");
}

#[test]
fn huaweis_sample_costs_what_its_usage_says() {
    let sample = r#"{ "data": "<any structure of your own>",
  "usage": { "completion_tokens": 217, "prompt_tokens": 31, "total_tokens": 248 } }"#;
    assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, sample), "682");
    assert_eq!(charged_at_every_cut(&meter(vec![item(&["usage.total_tokens"], "1")]), JSON, sample), "248");
}

#[test]
fn plain_replies_of_chat_messages_and_embeddings_cost_what_their_usage_says() {
    for (body, expected) in [
        (
            r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"\"usage\": {\"prompt_tokens\": 1}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0}}}"#,
            "49",
        ),
        (
            r#"{"id":"msg_1","type":"message","content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":10,"output_tokens":25}}"#,
            "85",
        ),
        (
            r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023064255,-0.009327292,1e-7],"index":0}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            "8",
        ),
        (r#"{"id":"resp_1","output":[],"usage":{"input_tokens":36,"output_tokens":87}}"#, "297"),
    ] {
        assert_eq!(charged_at_every_cut(&meter(tokens()), JSON, body), expected, "{body}");
    }
}

#[test]
fn a_stream_that_breaks_off_costs_what_its_whole_events_say() {
    let stream = anthropic();
    let starts = stream.find("event: content_block_start").unwrap();
    let ends = stream.find("event: message_stop").unwrap();
    let mut seen = Vec::new();
    for at in 0..=stream.len() {
        let now = charged(usage(&meter(tokens()), EVENTS, [&stream.as_bytes()[..at]]));
        assert!(at < starts || now != "none", "at {at}");
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(seen, ["none", "15", "102"], "nothing, the start's, the whole");
    assert_eq!(charged(usage(&meter(tokens()), EVENTS, [&stream.as_bytes()[..ends]])), "102");
}
