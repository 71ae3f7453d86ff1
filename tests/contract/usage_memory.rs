//! What passes is not kept, whatever its size and shape: JSON, one endless event, one endless line, and what is compressed.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::gateway::CONFIG;
use crate::support::metered::{Charged, EVENTS, JSON, LINES};
use crate::support::script::{Script, Step};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;

crate::cases! {
    ;
    own:
    fifty_megabytes_need_four_mebibytes_more_than_fifty_kilobytes,
    fifty_megabytes_that_come_compressed_need_four_mebibytes_more_than_fifty_kilobytes,
}

const GROWTH_KIB_MAX: u64 = 4 * 1024;
const SMALL: usize = 50_000;
const LARGE: usize = 50_000_000;

/// A second instance is started whenever a call comes while the first is busy, be it with the end of the call before. Small
/// calls are made so many at once, so that both are there, and warm, before a large one is measured.
const SMALL_AT_ONCE: usize = 4;

const WORD: &str = "[0.0023064255,-0.009327292,1e-7],";

/// A reply of about so many bytes, whose usage is 7 tokens, read and thrown away.
async fn pass(buyer: &Buyer, content_type: &str, begin: &str, bytes: usize, end: &str) {
    let script = Script::chunked().header("content-type", content_type).then(Step::Text(begin.into()));
    let script = script.then(Step::Repeat(WORD.into(), bytes / WORD.len())).then(Step::Text(end.into()));
    let call = buyer.ask(&json!({ "stream": true }), &script);
    let mut exchange = call.open().await.unwrap();
    let mut length = 0;
    while let Some(piece) = exchange.piece().await.unwrap() {
        length += piece.len();
    }
    assert!(length + WORD.len() > bytes && length < bytes + 200, "{length}");
    let charged = buyer.charged_now(&call.request_id()).await;
    assert_eq!((charged.state.as_str(), charged.charge.as_str()), ("settled", "7"), "{content_type} {begin}");
}

async fn fifty_megabytes_need_four_mebibytes_more_than_fifty_kilobytes(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "absorbing");
    buyer.grant("1000").await;
    let shapes = [
        (JSON, r#"{"usage":{"total_tokens":7},"data":["#, "0]}"),
        (JSON, r#"{"data":["#, r#"0],"usage":{"total_tokens":7}}"#),
        (JSON, r#"{"data":""#, r#"","usage":{"total_tokens":7}}"#),
        (EVENTS, "data: {\"usage\":{\"total_tokens\":7}}\n\ndata: {\"text\":\"", "\"}\n\n"),
        (EVENTS, "data: {\"usage\":{\"total_tokens\":7}}\n\n: ", "\n\n"),
        (LINES, "{\"usage\":{\"total_tokens\":7}}\n[", "0]\n"),
    ];
    let small = async |(content_type, begin, end)| {
        let calls = (0..SMALL_AT_ONCE).map(|_| pass(&buyer, content_type, begin, SMALL, end));
        futures::future::join_all(calls).await;
    };
    for _ in 0..3 {
        for shape in shapes {
            small(shape).await;
        }
    }
    for (content_type, begin, end) in shapes {
        gateway.forget_peak();
        small((content_type, begin, end)).await;
        let before = gateway.peak_kib();
        pass(&buyer, content_type, begin, LARGE, end).await;
        let grown = gateway.peak_kib().saturating_sub(before);
        assert!(grown <= GROWTH_KIB_MAX, "the peak grew by {grown} KiB: {content_type} {begin}");
    }
}

/// JSON of about so many bytes, in gzip, whose usage is 7 tokens.
fn compressed(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(br#"{"data":["#).unwrap();
    for _ in 0..bytes / WORD.len() {
        encoder.write_all(WORD.as_bytes()).unwrap();
    }
    encoder.write_all(br#"0],"usage":{"total_tokens":7}}"#).unwrap();
    encoder.finish().unwrap()
}

async fn fifty_megabytes_that_come_compressed_need_four_mebibytes_more_than_fifty_kilobytes(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "absorbing");
    buyer.grant("1000").await;
    // Compressed before any call: idle instances would end meanwhile.
    let script = |bytes| {
        let script = Script::chunked().header("content-type", JSON).header("content-encoding", "gzip");
        script.then(suite.backend.keep(compressed(bytes), 16_384))
    };
    let (small, large) = (script(SMALL), script(LARGE));
    let pass = async |script: &Script| {
        buyer.expect_charge(&buyer.ask(&json!({}), script), &Charged::settled("7")).await;
    };
    for _ in 0..5 {
        gateway.forget_peak();
        futures::future::join_all((0..SMALL_AT_ONCE).map(|_| pass(&small))).await;
    }
    let before = gateway.peak_kib();
    pass(&large).await;
    let grown = gateway.peak_kib().saturating_sub(before);
    assert!(grown <= GROWTH_KIB_MAX, "the peak grew by {grown} KiB");
}
