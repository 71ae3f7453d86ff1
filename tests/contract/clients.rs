//! The official clients of OpenAI and Anthropic through the gateway: what they say was used is what was charged, to the unit.
//!
//! They are Python's, called by `tests/clients/calls.py`, sync and async, with streams and without.

use crate::support::buyer::Buyer;
use crate::support::metered::{Charged, EVENTS, json_of};
use crate::support::script::Script;
use crate::support::{Suite, fresh};
use crate::usage_streams::{anthropic, openai_chat, responses};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::OnceCell;

crate::cases! {
    clients_are_charged_what_they_say_was_used,
    a_client_is_charged_though_it_did_not_ask_for_usage,
    a_client_that_leaves_its_stream_is_charged_its_end,
    a_client_reads_a_refusal_as_its_own_error,
}

const CLIENTS: [&str; 3] = ["openai.chat", "openai.responses", "anthropic.messages"];
const CALLS_DEADLINE: Duration = Duration::from_secs(60);

/// Installs the clients, once.
async fn python() -> std::path::PathBuf {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let install = || async {
        let arguments = ["target/clients", "--require-hashes", "-r", "tests/clients/requirements.txt"];
        let installed = Command::new(root.join("scripts/venv")).args(arguments).output().await.unwrap();
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    };
    INSTALLED.get_or_init(install).await;
    root.join("target/clients/bin/python")
}

/// A call of a client.
fn call(client: &str, product: &str, mode: &str, is_async: bool, script: &Script) -> Value {
    json!({
        "client": client, "product": product, "mode": mode, "async": is_async, "options": {},
        "request_id": fresh("request"), "script": script.to_header(),
    })
}

/// Has the clients call, and returns what came of each call, by its id.
async fn run(buyer: &Buyer, calls: &[Value]) -> HashMap<String, Value> {
    let python = python().await;
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/calls.py"));
    command.env("NO_PROXY", "*").env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let job = json!({ "url": format!("http://{}", buyer.gateway.address), "customer_id": buyer.id, "calls": calls });
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(job.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(CALLS_DEADLINE, child.wait_with_output()).await.unwrap().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let lines = String::from_utf8(ended.stdout).unwrap();
    let outcomes: HashMap<_, _> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|outcome| (outcome["request_id"].as_str().unwrap().to_owned(), outcome))
        .collect();
    assert_eq!(outcomes.len(), calls.len());
    outcomes
}

/// A whole reply as the client's backend gives it.
fn plain(client: &str) -> Script {
    let body = match client {
        "openai.chat" => json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Hi" }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29 },
        }),
        "openai.responses" => json!({
            "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "parallel_tool_calls": true,
            "tool_choice": "auto", "tools": [], "output": [{ "id": "msg_1", "type": "message", "status": "completed",
                "role": "assistant", "content": [{ "type": "output_text", "text": "Hi", "annotations": [] }] }],
            "usage": { "input_tokens": 36, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": 87,
                "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 123 },
        }),
        _ => json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": null,
            "content": [{ "type": "text", "text": "Hi" }], "usage": { "input_tokens": 10, "output_tokens": 25 },
        }),
    };
    json_of(&body.to_string())
}

/// A stream as the client's backend gives it.
fn streamed(suite: &Suite, client: &str) -> Script {
    let stream = match client {
        "openai.chat" => openai_chat(),
        "openai.responses" => responses(),
        _ => anthropic(),
    };
    Script::chunked().header("content-type", EVENTS).then(suite.backend.keep(stream, 701))
}

/// What a call costs of which the client says so much was used.
fn charge_of(outcome: &Value) -> Charged {
    let tokens = |index: usize| outcome["usage"][index].as_u64().unwrap_or_else(|| panic!("no usage in {outcome}"));
    Charged::settled(&(tokens(0) + 3 * tokens(1)).to_string())
}

async fn clients_are_charged_what_they_say_was_used(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let mut calls = Vec::new();
    for client in CLIENTS {
        for is_async in [false, true] {
            calls.push(call(client, "chat", "plain", is_async, &plain(client)));
            calls.push(call(client, "chat", "raw", is_async, &plain(client)));
            let mut stream = call(client, "chat", "stream", is_async, &streamed(&suite, client));
            if client == "openai.chat" {
                stream["options"]["stream_options"] = json!({ "include_usage": true });
            }
            calls.push(stream);
        }
    }
    let outcomes = run(&buyer, &calls).await;
    let mut charges = Vec::new();
    for call in &calls {
        let id = call["request_id"].as_str().unwrap();
        let expected = charge_of(&outcomes[id]);
        assert_eq!(buyer.charged_now(id).await, expected, "{call}");
        if call["mode"] == "raw" {
            assert_eq!(outcomes[id]["told_charge"], expected.charge);
        }
        charges.push(expected.charge);
    }
    let once = ["49", "49", "916", "49", "49", "916", "297", "297", "70", "297", "297", "70"];
    assert_eq!(charges, [&once[..], &["85", "85", "102", "85", "85", "102"]].concat());
    buyer.expect_balanced().await;
}

async fn a_client_is_charged_though_it_did_not_ask_for_usage(suite: Arc<Suite>) {
    let buyer = suite.buyer("asking", "1000000").await;
    let script = streamed(&suite, "openai.chat");
    let mut calls: Vec<_> = [false, true].map(|is_async| call("openai.chat", "asking", "stream", is_async, &script)).into();
    calls.push(call("openai.responses", "asking", "stream", false, &streamed(&suite, "openai.responses")));
    let outcomes = run(&buyer, &calls).await;
    for (call, (usage, charge)) in calls.iter().zip([(Value::Null, "916"), (Value::Null, "916"), (json!([37, 11]), "70")]) {
        let id = call["request_id"].as_str().unwrap();
        assert_eq!(outcomes[id]["usage"], usage, "the usage-only event is no event of a client that did not ask");
        assert_eq!(buyer.charged_now(id).await, Charged::settled(charge));
    }
    let asked = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["stream_options"]["include_usage"] == true;
    assert_eq!(buyer.received().iter().map(|one| asked(&one.body)).collect::<Vec<_>>(), [true, true, false]);
}

async fn a_client_that_leaves_its_stream_is_charged_its_end(suite: Arc<Suite>) {
    let buyer = suite.buyer("chat", "1000000").await;
    let calls: Vec<_> = CLIENTS
        .into_iter()
        .flat_map(|client| [false, true].map(|is_async| call(client, "chat", "leave", is_async, &streamed(&suite, client))))
        .collect();
    run(&buyer, &calls).await;
    for (call, charge) in calls.iter().zip(["916", "916", "70", "70", "102", "102"]) {
        let id = call["request_id"].as_str().unwrap();
        assert_eq!(buyer.call_in_state(id, "settled").await["charge"], charge, "{call}");
    }
    buyer.expect_balanced().await;
}

async fn a_client_reads_a_refusal_as_its_own_error(suite: Arc<Suite>) {
    let buyer = suite.stranger("chat").await;
    let calls: Vec<_> = CLIENTS.map(|client| call(client, "chat", "stream", false, &plain(client))).into();
    for outcome in run(&buyer, &calls).await.values() {
        assert_eq!((&outcome["status"], &outcome["problem"]["code"]), (&json!(403), &json!("no_package")), "{outcome}");
    }
    buyer.expect_nothing_forwarded();
}
