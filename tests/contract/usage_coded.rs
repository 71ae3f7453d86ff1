//! Replies that come compressed although the backend was asked for none (contract section 2, the exceptions): the meter reads what it can, and the
//! caller gets the bytes as they came.

use crate::support::Suite;
use crate::support::metered::{Charged, EVENTS, JSON};
use crate::support::script::Script;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

crate::cases! {
    a_compressed_reply_is_charged_what_it_says_and_passes_as_it_came,
    a_compressed_stream_is_charged_what_it_says_and_passes_as_it_came,
    a_coding_that_is_not_read_says_nothing_of_usage,
    a_body_that_is_not_in_its_coding_says_nothing_of_usage,
    a_compressed_reply_that_breaks_off_is_charged_what_was_seen,
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const SAMPLE: &str = r#"{"data":"compressed","usage":{"total_tokens":23}}"#;

/// The sample in br and in zstd.
const OTHER_CODINGS: [(&str, &str); 2] = [
    ("br", "0b18807b2264617461223a22636f6d70726573736564222c227573616765223a7b22746f74616c5f746f6b656e73223a32337d7d03"),
    (
        "zstd",
        "28b52ffd04588901007b2264617461223a22636f6d70726573736564222c227573616765223a7b22746f74616c5f746f6b656e73223a32337d7dc733bae2",
    ),
];

fn bytes_of(hex: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}

/// Replays coded bytes in several pieces and framings, and checks the charge and that they arrive as they are.
async fn expect(suite: &Suite, content_type: &str, coding: &str, bytes: &[u8], charged: &Charged) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    for (script, piece) in
        [(Script::status(200), 1_000_000), (Script::status(200), 1), (Script::chunked(), 100), (Script::chunked(), 1)]
    {
        let piece = if bytes.len() > 10_000 { piece.max(1000) } else { piece };
        let script = script.header("content-type", content_type).header("content-encoding", coding);
        let call = buyer.ask(&json!({ "stream": true }), &script.then(suite.backend.keep(bytes, piece)));
        let reply = buyer.expect_charge(&call.header("accept-encoding", coding), charged).await;
        assert!(reply.body == bytes && reply.header("content-encoding") == coding, "{coding} in pieces of {piece}");
    }
}

async fn a_compressed_reply_is_charged_what_it_says_and_passes_as_it_came(suite: Arc<Suite>) {
    let items: String = (0..40_000).map(|number| format!("{},", number * 7919 % 100_003)).collect();
    let large = format!(r#"{{"data":[{items}0],"usage":{{"total_tokens":23}}}}"#);
    for text in [SAMPLE, &large] {
        for (coding, bytes) in [("gzip", gzip(text)), ("x-gzip", gzip(text)), ("GZIP", gzip(text)), ("deflate", zlib(text))] {
            expect(&suite, JSON, coding, &bytes, &Charged::settled("23")).await;
        }
    }
}

async fn a_compressed_stream_is_charged_what_it_says_and_passes_as_it_came(suite: Arc<Suite>) {
    let events = format!("data: {{\"text\":\"a\"}}\n\ndata: {SAMPLE}\n\ndata: [DONE]\n\n");
    expect(&suite, EVENTS, "gzip", &gzip(&events), &Charged::settled("23")).await;
    expect(&suite, EVENTS, "deflate", &zlib(&events), &Charged::settled("23")).await;
}

async fn a_coding_that_is_not_read_says_nothing_of_usage(suite: Arc<Suite>) {
    for (coding, hex) in OTHER_CODINGS {
        expect(&suite, JSON, coding, &bytes_of(hex), &Charged::hold("10")).await;
    }
    expect(&suite, JSON, "gzip, gzip", &gzip(SAMPLE), &Charged::hold("10")).await;
    expect(&suite, JSON, "unheard-of", SAMPLE.as_bytes(), &Charged::hold("10")).await;
}

async fn a_body_that_is_not_in_its_coding_says_nothing_of_usage(suite: Arc<Suite>) {
    expect(&suite, JSON, "gzip", SAMPLE.as_bytes(), &Charged::hold("10")).await;
    expect(&suite, JSON, "deflate", &gzip(SAMPLE), &Charged::hold("10")).await;
    expect(&suite, JSON, "identity", SAMPLE.as_bytes(), &Charged::settled("23")).await;
}

async fn a_compressed_reply_that_breaks_off_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let coded = gzip(&format!("data: {SAMPLE}\n\n{}", ": nothing of interest\n".repeat(100)));
    let first = |length: usize| suite.backend.keep(&coded[..length], 1000);
    for (length, charged) in [(5, Charged::released()), (coded.len() - 9, Charged::settled("23"))] {
        let script = Script::chunked().header("content-type", EVENTS).header("content-encoding", "gzip");
        let call = buyer.ask(&json!({}), &script.then(first(length)).then(crate::support::script::Step::Cut));
        call.send().await.assert_cut();
        assert_eq!(buyer.charged(&call).await, charged);
    }
}
