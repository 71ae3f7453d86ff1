//! What backends answer in the benchmark: JSON and streams of the shapes that are common where usage is sold.

use std::sync::OnceLock;

/// The reply that forwarding is measured with.
pub(crate) const LARGE_REPLY_BYTES: usize = 64 * 1024;

/// What every reply and stream says was used costs this many units where output weighs three times its input.
pub(crate) const UNITS: u64 = 19 + 3 * 10;

const USAGE: &str = r#""usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}"#;
const TEXT: &str = "It is a truth universally acknowledged,\\nthat a \\\"single\\\" man in possession of a good fortune ";
const MESSAGE: &str = r#"{"role":"user","content":"Tell me more of it.","index":1,"logprobs":null}"#;
const NUMBER: &str = "-0.009327292";

/// A body that the meter reads.
pub(crate) struct Body {
    pub(crate) name: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) text: String,
}

/// One of each kind, of about the length of a large reply.
pub(crate) fn all() -> Vec<Body> {
    let json = |name, text| Body { name, content_type: "application/json", text };
    let events = |name, text| Body { name, content_type: "text/event-stream", text };
    let text = repeated(TEXT, "", LARGE_REPLY_BYTES);
    let messages = repeated(MESSAGE, ",", LARGE_REPLY_BYTES);
    let numbers = repeated(NUMBER, ",", LARGE_REPLY_BYTES);
    let openai = repeated(&openai_event("acknowledged"), "", LARGE_REPLY_BYTES) + &openai_usage() + DONE;
    let anthropic = anthropic_start() + &repeated(ANTHROPIC_EVENT, "", LARGE_REPLY_BYTES) + ANTHROPIC_END;
    vec![
        json("json_text", format!(r#"{{"choices":[{{"message":{{"content":"{text}"}}}}],{USAGE}}}"#)),
        json("json_objects", format!(r#"{{"choices":[{messages}],{USAGE}}}"#)),
        json("json_numbers", format!(r#"{{"data":[{{"embedding":[{numbers}]}}],{USAGE}}}"#)),
        json("json_mixed", large_reply().to_owned()),
        events("sse_openai", openai),
        events("sse_anthropic", anthropic),
    ]
}

/// A JSON document of exactly [`LARGE_REPLY_BYTES`]: a third each of text, small objects and numbers.
pub(crate) fn large_reply() -> &'static str {
    static REPLY: OnceLock<String> = OnceLock::new();
    REPLY.get_or_init(|| {
        let third = LARGE_REPLY_BYTES / 3 - 100;
        let (messages, numbers) = (repeated(MESSAGE, ",", third), repeated(NUMBER, ",", third));
        let before =
            format!(r#"{{"input":[{messages}],"data":[{{"embedding":[{numbers}]}}],"choices":[{{"message":{{"content":""#);
        let after = format!(r#""}}}}],{USAGE}}}"#);
        let text_bytes = LARGE_REPLY_BYTES.saturating_sub(before.len() + after.len());
        let text = repeated(TEXT, "", text_bytes);
        let padding = " ".repeat(text_bytes.saturating_sub(text.len()));
        format!("{before}{text}{padding}{after}")
    })
}

/// As often as it fits.
fn repeated(element: &str, separator: &str, bytes: usize) -> String {
    let count = bytes / (element.len() + separator.len());
    vec![element; count].join(separator)
}

/// An event of a chat completion that says `content`.
pub(crate) fn openai_event(content: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"pride-1\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{content}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
    )
}

/// The event that tells a chat completion's usage.
pub(crate) fn openai_usage() -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"pride-1\",\
         \"choices\":[],{USAGE}}}\n\n"
    )
}

/// The end of a chat completion.
pub(crate) const DONE: &str = "data: [DONE]\n\n";

fn anthropic_start() -> String {
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\
     \"content\":[],\"usage\":{\"input_tokens\":19,\"output_tokens\":1}}}\n\n"
        .to_owned()
}

const ANTHROPIC_EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
                               \"delta\":{\"type\":\"text_delta\",\"text\":\" acknowledged\"}}\n\n";
const ANTHROPIC_END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
                             \"usage\":{\"output_tokens\":10}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_json_body_is_json_and_the_large_reply_has_its_length() {
        for body in all().iter().filter(|body| body.content_type == "application/json") {
            assert!(serde_json::from_str::<serde_json::Value>(&body.text).is_ok(), "{}", body.name);
        }
        assert_eq!(large_reply().len(), LARGE_REPLY_BYTES);
    }
}
