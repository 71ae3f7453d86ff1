//! A wrong config is one error that says what is wrong, before anything is served.

use crate::support::Suite;
use crate::support::gateway::{AGENTS_SK, CONFIG, Home};
use crate::support::receiver::SECRET;
use std::sync::Arc;

crate::cases! {
    ;
    own:
    an_unknown_key_is_an_error,
    a_missing_key_is_an_error,
    a_value_that_is_none_is_an_error,
    two_products_on_one_route_are_an_error,
    two_products_of_one_id_are_an_error,
    the_gateways_own_prefix_is_an_error_as_a_route,
    a_text_that_is_not_toml_is_an_error,
    an_empty_secret_is_an_error_that_tells_no_secret,
    an_open_caller_is_warned_of,
    a_webhook_that_is_none_is_an_error,
    a_hook_of_orders_that_is_none_is_an_error,
    an_alert_that_is_none_is_an_error,
    a_signing_secret_that_is_none_is_an_error_that_tells_no_secret,
}

/// Replaces one part of the config, which must be there, and checks that the error names all of these.
async fn expect_error(suite: &Suite, part: &str, other: &str, named: &[&str]) {
    assert!(CONFIG.contains(part), "{part:?} is not in the config");
    let said = Home::new(&CONFIG.replacen(part, other, 1), &suite.backend, &suite.receiver).refused().await;
    assert!(said.contains("exit status"), "{other}: it did not end by itself: {said}");
    for word in named {
        assert!(said.contains(word), "{other}: {word:?} is not in {said}");
    }
    for secret in [AGENTS_SK, SECRET, "contract-admin-token", "contract-gateway-secret"] {
        assert!(!said.contains(secret), "an error tells a secret: {said}");
    }
}

async fn an_unknown_key_is_an_error(suite: Arc<Suite>) {
    expect_error(&suite, "[gateway]", "[gateway]\nunknown_key = 1", &["unknown_key"]).await;
    expect_error(&suite, "id      = \"translate\"", "id = \"translate\"\ncharge_twice = true", &["charge_twice"]).await;
    expect_error(&suite, "{ unit = \"call\" }", "{ unit = \"call\", odd_key = 1 }", &["odd_key"]).await;
    expect_error(&suite, "[gateway]", "[gatway]\nx = 1\n[gateway]", &["gatway"]).await;
}

async fn a_missing_key_is_an_error(suite: Arc<Suite>) {
    expect_error(&suite, "admin_token = { secret = \"admin_token\" }", "", &["admin_token"]).await;
    expect_error(&suite, "route   = \"/translate\"\n", "", &["route"]).await;
    expect_error(&suite, "backend = \"http://127.0.0.1:9000/v1\"\n", "", &["backend"]).await;
    expect_error(&suite, "caller  = { kind = \"none\" }\n", "", &["caller"]).await;
}

async fn a_value_that_is_none_is_an_error(suite: Arc<Suite>) {
    let timeout = "timeout = \"1s\"\nidle";
    expect_error(&suite, timeout, "timeout = \"301s\"\nidle", &["timeout", "301s", "300s"]).await;
    expect_error(&suite, timeout, "timeout = \"soon\"\nidle", &["timeout", "soon"]).await;
    expect_error(&suite, timeout, "timeout = 30\nidle", &["timeout", "30"]).await;
    expect_error(&suite, "exhausted_status = 403", "exhausted_status = 404", &["exhausted_status", "404", "429"]).await;
    expect_error(&suite, "\"4 KiB\"", "\"4 KB\"", &["max_request_body", "4 KB"]).await;
    expect_error(&suite, "[gateway]", "[gateway]\ndurability = \"maybe\"", &["durability", "maybe", "process"]).await;
    expect_error(&suite, "[gateway]", "[gateway]\nkeep_calls = \"29d\"", &["keep_calls", "29d", "30d"]).await;
    expect_error(&suite, "[gateway]", "[gateway]\nlost_hold = \"forget\"", &["lost_hold", "forget", "release"]).await;
    expect_error(&suite, "charge_when = \"succeeded\"", "charge_when = \"always\"", &["charge_when", "always"]).await;
    expect_error(&suite, "id      = \"translate\"", "id = \"trans late\"", &["id", "trans late"]).await;
    expect_error(&suite, "http://127.0.0.1:9000/v1", "ftp://127.0.0.1/v1", &["backend", "ftp://127.0.0.1/v1"]).await;
    expect_error(&suite, "route   = \"/translate\"", "route = \"translate\"", &["route"]).await;
    expect_error(&suite, "replay_limit = 3", "replay_limit = -1", &["replay_limit", "-1"]).await;
}

async fn two_products_on_one_route_are_an_error(suite: Arc<Suite>) {
    expect_error(&suite, "\"/translate/nested\"", "\"/translate\"", &["route", "/translate"]).await;
}

async fn two_products_of_one_id_are_an_error(suite: Arc<Suite>) {
    expect_error(&suite, "id      = \"nested\"", "id = \"translate\"", &["id", "translate"]).await;
}

async fn the_gateways_own_prefix_is_an_error_as_a_route(suite: Arc<Suite>) {
    expect_error(&suite, "\"/translate/nested\"", "\"/_tollgate\"", &["route", "/_tollgate"]).await;
    expect_error(&suite, "\"/translate/nested\"", "\"/_tollgate/v1\"", &["route", "/_tollgate/v1"]).await;
}

async fn a_text_that_is_not_toml_is_an_error(suite: Arc<Suite>) {
    expect_error(&suite, "[gateway]", "[gateway", &[]).await;
}

async fn an_empty_secret_is_an_error_that_tells_no_secret(suite: Arc<Suite>) {
    let named = "secret_key = { secret = \"agents_sk\" }";
    expect_error(&suite, named, "secret_key = { secret = \"koogallery_sk\" }", &["koogallery_sk"]).await;
    expect_error(&suite, named, "secret_key = { secret = \"never_declared\" }", &["never_declared"]).await;
}

async fn a_webhook_that_is_none_is_an_error(suite: Arc<Suite>) {
    let secrets = "/hooks\"\nsecrets = [{ secret = \"webhook_secret\" }]";
    expect_error(&suite, secrets, "/hooks\"", &["webhook", "secrets"]).await;
    expect_error(&suite, secrets, "/hooks\"\nsecrets = []", &["webhook", "secrets"]).await;
    expect_error(&suite, "http://127.0.0.1:9900/hooks", "ftp://127.0.0.1/hooks", &["webhook", "url", "https"]).await;
    expect_error(&suite, "[\"balance.low\"]", "[\"balance.odd\"]", &["webhook", "events", "balance.odd"]).await;
    expect_error(&suite, "[\"balance.low\"]", "[]", &["webhook", "events"]).await;
    expect_error(&suite, "[[webhook]]", "[[webhook]]\nretries = 3", &["retries"]).await;
}

async fn a_hook_of_orders_that_is_none_is_an_error(suite: Arc<Suite>) {
    expect_error(&suite, "timeout = \"5m\"", "timeout = \"0s\"", &["repurchase", "timeout", "0s"]).await;
    expect_error(&suite, "timeout = \"5m\"", "timeout = 5", &["repurchase", "timeout"]).await;
    expect_error(&suite, "url     = \"http://127.0.0.1:9900/orders\"", "", &["repurchase", "url"]).await;
}

async fn an_alert_that_is_none_is_an_error(suite: Arc<Suite>) {
    let alert = "{ percent = \"20\" }";
    for (other, named) in [
        ("{ percent = \"0\" }", "0"),
        ("{ percent = \"101\" }", "101"),
        ("{ percent = 20 }", "alerts"),
        ("{ remaining = \"-1\" }", "-1"),
        ("{ remaining = \"1\", percent = \"1\" }", "alerts"),
        ("{ below = \"1\" }", "below"),
        ("{}", "alerts"),
    ] {
        expect_error(&suite, alert, other, &["alerts", named]).await;
    }
}

async fn a_signing_secret_that_is_none_is_an_error_that_tells_no_secret(suite: Arc<Suite>) {
    // These variables hold what is no signing secret, one that no variable declares, and nothing.
    for name in ["agents_sk", "gateway_secret", "never_declared", "koogallery_sk"] {
        let other = format!("/hooks\"\nsecrets = [{{ secret = \"{name}\" }}]");
        expect_error(&suite, "/hooks\"\nsecrets = [{ secret = \"webhook_secret\" }]", &other, &["secrets"]).await;
    }
}

async fn an_open_caller_is_warned_of(suite: Arc<Suite>) {
    let (gateway, _home) = suite.start(CONFIG).await;
    let warned = || async { gateway.log().contains("translate") };
    crate::support::eventually("a warning names the product that anyone may call", warned).await;
}
