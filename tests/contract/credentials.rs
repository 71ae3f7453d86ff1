//! The marketplace's token and the shared secret: who may call, and that neither is passed on.

use crate::support::Suite;
use crate::support::buyer::Buyer;
use crate::support::gateway::GATEWAY_SECRET;
use crate::support::jwt::Token;
use crate::support::unix_seconds;
use serde_json::json;
use std::sync::Arc;

crate::cases! {
    a_good_token_is_accepted,
    bearer_may_precede_a_token,
    a_token_is_not_forwarded,
    a_missing_or_malformed_token_is_refused,
    a_repeated_token_is_refused,
    a_token_signed_with_another_key_is_refused,
    a_token_whose_payload_was_changed_is_refused,
    a_token_of_an_unknown_access_key_is_refused,
    a_token_without_a_signature_is_refused,
    a_token_of_another_algorithm_is_refused,
    a_token_of_another_sign_type_is_refused,
    an_expired_token_is_refused,
    a_future_token_is_refused,
    sixty_seconds_of_clock_skew_are_allowed_both_ways,
    a_token_that_never_says_when_it_expires_ages_by_its_timestamp,
    the_shared_secret_is_accepted_and_not_forwarded,
    a_wrong_shared_secret_is_refused,
}

async fn expect_accepted(buyer: &Buyer, credential: &str) {
    let reply = buyer.call().header("authorization", credential).send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

async fn expect_unauthenticated(buyer: &Buyer, credential: &str) {
    let reply = buyer.call().header("authorization", credential).send().await;
    buyer.expect_refused(&reply, 401, "caller_unauthenticated").await;
    assert!(!reply.text().contains("contract-agents"), "a refusal tells a secret");
}

async fn a_good_token_is_accepted(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    expect_accepted(&buyer, &Token::new().sign()).await;
    expect_accepted(&buyer, &Token::new().claim("iat", json!(unix_seconds(0))).claim("other", json!({"a": [1]})).sign()).await;
    buyer.expect_used("2").await;
}

async fn bearer_may_precede_a_token(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    expect_accepted(&buyer, &format!("Bearer {}", Token::new().sign())).await;
}

async fn a_token_is_not_forwarded(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    expect_accepted(&buyer, &Token::new().sign()).await;
    assert_eq!(buyer.only_received().headers.all("authorization").len(), 0);
}

async fn a_missing_or_malformed_token_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    let reply = buyer.call().send().await;
    buyer.expect_refused(&reply, 401, "caller_unauthenticated").await;
    let good = Token::new().sign();
    let malformed =
        ["", "x", ".", "..", "...", "a.b.c", "Bearer", "Basic eDp5", &format!("{good}.x"), &format!("{good}="), "e30.e30.e30"];
    for credential in malformed {
        expect_unauthenticated(&buyer, credential).await;
    }
}

async fn a_repeated_token_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    let call = buyer.call().header("authorization", Token::new().sign()).header("authorization", "x");
    let reply = call.send().await;
    buyer.expect_refused(&reply, 401, "caller_unauthenticated").await;
}

async fn a_token_signed_with_another_key_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    for key in ["another-key", "", "contract-ak"] {
        expect_unauthenticated(&buyer, &Token::new().key(key).sign()).await;
    }
}

async fn a_token_whose_payload_was_changed_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    let signed = Token::new().sign();
    let signature = signed.rsplit('.').next().unwrap();
    let changed = Token::new().claim("exp", json!(unix_seconds(250))).unsigned();
    expect_unauthenticated(&buyer, &format!("{changed}.{signature}")).await;
}

async fn a_token_of_an_unknown_access_key_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    for api_key in [json!("unknown"), json!(""), json!(null), json!(7), json!(["contract-ak"])] {
        expect_unauthenticated(&buyer, &Token::new().claim("api_key", api_key).sign()).await;
    }
    expect_unauthenticated(&buyer, &Token::new().without_claim("api_key").sign()).await;
}

async fn a_token_without_a_signature_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    for alg in ["none", "None", "NONE", "HS256"] {
        let unsigned = Token::new().header("alg", json!(alg)).unsigned();
        expect_unauthenticated(&buyer, &format!("{unsigned}.")).await;
        expect_unauthenticated(&buyer, &unsigned).await;
    }
}

async fn a_token_of_another_algorithm_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    for alg in ["none", "HS512", "HS384", "RS256", "ES256", "hs256", ""] {
        expect_unauthenticated(&buyer, &Token::new().header("alg", json!(alg)).sign()).await;
    }
}

async fn a_token_of_another_sign_type_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    expect_unauthenticated(&buyer, &Token::new().header("sign_type", json!("OTHER")).sign()).await;
}

async fn an_expired_token_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    for exp in [json!(unix_seconds(-75)), json!(unix_seconds(-86_400)), json!(0), json!("soon")] {
        expect_unauthenticated(&buyer, &Token::new().claim("exp", exp).sign()).await;
    }
}

async fn a_future_token_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    for claim in ["iat", "nbf"] {
        expect_unauthenticated(&buyer, &Token::new().claim(claim, json!(unix_seconds(90))).sign()).await;
    }
    expect_unauthenticated(&buyer, &Token::new().claim("timestamp", json!(unix_seconds(90) * 1000)).sign()).await;
}

async fn sixty_seconds_of_clock_skew_are_allowed_both_ways(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    expect_accepted(&buyer, &Token::new().claim("exp", json!(unix_seconds(-40))).sign()).await;
    let early = unix_seconds(40);
    let token = Token::new().claim("iat", json!(early)).claim("nbf", json!(early)).claim("timestamp", json!(early * 1000));
    expect_accepted(&buyer, &token.sign()).await;
}

async fn a_token_that_never_says_when_it_expires_ages_by_its_timestamp(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    let old = Token::new().without_claim("exp").claim("timestamp", json!(unix_seconds(-600) * 1000));
    expect_unauthenticated(&buyer, &old.sign()).await;
    expect_accepted(&buyer, &Token::new().without_claim("exp").sign()).await;
}

async fn the_shared_secret_is_accepted_and_not_forwarded(suite: Arc<Suite>) {
    let buyer = suite.buyer("secret", "5").await;
    buyer.call().header("X-Gateway-Secret", GATEWAY_SECRET).send().await.assert_ok();
    assert_eq!(buyer.only_received().headers.all("x-gateway-secret").len(), 0);
    buyer.expect_used("1").await;
}

async fn a_wrong_shared_secret_is_refused(suite: Arc<Suite>) {
    let buyer = suite.buyer("secret", "5").await;
    let longer = format!("{GATEWAY_SECRET}x");
    let mut calls: Vec<_> = ["", "x", &GATEWAY_SECRET[1..], &longer, &GATEWAY_SECRET.to_uppercase()]
        .map(|secret| buyer.call().header("x-gateway-secret", secret))
        .into();
    calls.push(buyer.call());
    calls.push(buyer.call().header("x-gateway-secret", GATEWAY_SECRET).header("x-gateway-secret", "x"));
    for call in calls {
        let reply = call.send().await;
        buyer.expect_refused(&reply, 401, "caller_unauthenticated").await;
    }
}
