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

fn brotli(text: &str, lgwin: u32) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, lgwin);
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.into_inner()
}

fn zstd(text: &str, window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const SAMPLE: &str = r#"{"data":"compressed","usage":{"total_tokens":23}}"#;

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
        for (coding, bytes) in [
            ("gzip", gzip(text)),
            ("x-gzip", gzip(text)),
            ("GZIP", gzip(text)),
            ("deflate", zlib(text)),
            ("br", brotli(text, 22)),
            ("zstd", zstd(text, 21)),
        ] {
            expect(&suite, JSON, coding, &bytes, &Charged::settled("23")).await;
        }
    }
}

async fn a_compressed_stream_is_charged_what_it_says_and_passes_as_it_came(suite: Arc<Suite>) {
    let events = format!("data: {{\"text\":\"a\"}}\n\ndata: {SAMPLE}\n\ndata: [DONE]\n\n");
    expect(&suite, EVENTS, "gzip", &gzip(&events), &Charged::settled("23")).await;
    expect(&suite, EVENTS, "deflate", &zlib(&events), &Charged::settled("23")).await;
    expect(&suite, EVENTS, "br", &brotli(&events, 19), &Charged::settled("23")).await;
    expect(&suite, EVENTS, "zstd", &zstd(&events, 22), &Charged::settled("23")).await;
}

async fn a_coding_that_is_not_read_says_nothing_of_usage(suite: Arc<Suite>) {
    // They ask for more memory than a reply may have.
    expect(&suite, JSON, "br", &brotli(SAMPLE, 24), &Charged::hold("10")).await;
    expect(&suite, JSON, "zstd", &zstd(SAMPLE, 23), &Charged::hold("10")).await;
    expect(&suite, JSON, "gzip, gzip", &gzip(SAMPLE), &Charged::hold("10")).await;
    expect(&suite, JSON, "unheard-of", SAMPLE.as_bytes(), &Charged::hold("10")).await;
}

async fn a_body_that_is_not_in_its_coding_says_nothing_of_usage(suite: Arc<Suite>) {
    expect(&suite, JSON, "gzip", SAMPLE.as_bytes(), &Charged::hold("10")).await;
    expect(&suite, JSON, "deflate", &gzip(SAMPLE), &Charged::hold("10")).await;
    expect(&suite, JSON, "br", SAMPLE.as_bytes(), &Charged::hold("10")).await;
    expect(&suite, JSON, "zstd", SAMPLE.as_bytes(), &Charged::hold("10")).await;
    expect(&suite, JSON, "identity", SAMPLE.as_bytes(), &Charged::settled("23")).await;
}

async fn a_compressed_reply_that_breaks_off_is_charged_what_was_seen(suite: Arc<Suite>) {
    let buyer = suite.buyer("absorbing", "1000000").await;
    let (told, rest) = (format!("data: {SAMPLE}\n\n"), ": nothing of interest\n".repeat(100));
    let text = format!("{told}{rest}");
    // A block of zstd is read once it is whole.
    let in_zstd = [zstd(&told, 21), zstd(&rest, 21)].concat();
    for (coding, coded, cut) in [("gzip", gzip(&text), 9), ("br", brotli(&text, 22), 1), ("zstd", in_zstd, 1)] {
        for (length, charged) in [(5, Charged::released()), (coded.len() - cut, Charged::settled("23"))] {
            let script = Script::chunked().header("content-type", EVENTS).header("content-encoding", coding);
            let first = suite.backend.keep(&coded[..length], 1000);
            let call = buyer.ask(&json!({}), &script.then(first).then(crate::support::script::Step::Cut));
            call.send().await.assert_cut();
            assert_eq!(buyer.charged(&call).await, charged, "{coding}");
        }
    }
}
