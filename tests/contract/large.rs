//! Large bodies pass without being kept.

use crate::support::buyer::Buyer;
use crate::support::gateway::CONFIG;
use crate::support::script::{Script, Step};
use crate::support::{Suite, stage};
use sha2::{Digest, Sha256};
use std::sync::Arc;

crate::cases! {
    ;
    own:
    twenty_megabytes_pass_both_ways_within_sixteen_mebibytes_of_memory,
}

const MEGABYTE: usize = 1_000_000;

async fn pass(buyer: &Buyer, bytes: usize) {
    let body = stage::filling(0, bytes);
    let hash: [u8; 32] = Sha256::digest(&body).into();
    for (script, chunked) in [(Script::status(200), false), (Script::chunked(), true)] {
        let call = buyer.post(&body).script(&script.then(Step::Fill(bytes)));
        let reply = if chunked { call.chunked() } else { call }.send().await;
        assert!(reply.status == 200 && reply.whole && reply.body == body, "{} {}", reply.status, reply.body.len());
        assert_eq!(buyer.received().last().unwrap().body_sha256, Some(hash));
    }
}

async fn twenty_megabytes_pass_both_ways_within_sixteen_mebibytes_of_memory(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let buyer = Buyer::new(&gateway, &suite.backend, "large");
    buyer.grant("50").await;
    for _ in 0..3 {
        pass(&buyer, MEGABYTE).await;
    }
    let before = gateway.peak_kib();
    pass(&buyer, 20 * MEGABYTE).await;
    let grown = gateway.peak_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "the peak grew by {grown} KiB");
    buyer.expect_used("8").await;
}
