//! Who may use the control API, and what it offers to whoever runs the gateway.

use crate::support::gateway::READ_TOKEN;
use crate::support::{Suite, eventually, fresh};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::task::JoinSet;

crate::cases! {
    a_wrong_or_missing_admin_token_is_refused,
    the_read_token_may_read_and_never_write,
    a_refused_write_reserves_no_name_and_makes_no_customer,
    the_admin_token_opens_no_product_and_products_need_none,
    health_needs_no_token,
    readiness_needs_no_token,
    an_unknown_path_is_not_found,
    a_wrong_method_is_refused_and_changes_nothing,
    a_tick_reports_what_it_did_and_may_repeat,
    the_audit_balances_page_by_page,
    the_audit_of_one_customer_is_of_that_customer,
    metrics_are_prometheus_text_and_count_calls,
    metrics_tell_no_secrets,
}

async fn a_wrong_or_missing_admin_token_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let path = format!("/packages/{}", fresh("package"));
    let good = buyer.gateway.control("PUT", &path).body(buyer.package("5").to_string());
    let anonymous = good.clone().without("authorization");
    let wrong =
        ["Bearer wrong", "Bearer ", "Bearer", "", "Basic YTpi", "Bearer contract-admin-toke", "Bearer contract-admin-tokenx"];
    let mut calls: Vec<_> = wrong.iter().map(|token| anonymous.clone().header("authorization", token)).collect();
    calls.push(anonymous.clone().header("x-odd", "1"));
    calls.push(good.header("authorization", "Bearer wrong"));
    for call in calls {
        call.send().await.problem(401, "unauthorized");
    }
    for (method, path) in [("GET", "/customers"), ("POST", "/tick"), ("GET", "/metrics"), ("GET", "/audit"), ("GET", "/nowhere")]
    {
        buyer.gateway.control(method, path).without("authorization").send().await.problem(401, "unauthorized");
    }
    assert_eq!(buyer.gateway.control("GET", &path).send().await.status, 404);
}

async fn the_read_token_may_read_and_never_write(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    let package = buyer.grant("5").await;
    let with_read =
        |method: &str, path: &str| buyer.gateway.control(method, path).replacing("authorization", format!("Bearer {READ_TOKEN}"));
    let balance = format!("/customers/{}/balance", buyer.id);
    for path in ["/customers", "/packages", "/metrics", "/audit", balance.as_str()] {
        assert_eq!(with_read("GET", path).send().await.status, 200, "{path}");
    }
    let path = format!("/packages/{package}");
    let writes = [
        with_read("PUT", &format!("/packages/{}", fresh("package"))).body(buyer.package("1").to_string()),
        with_read("PATCH", &path).body("{\"priority\":1}"),
        with_read("POST", &format!("{path}/freeze")),
        with_read("POST", &format!("{path}/adjustments")).body("{}"),
        with_read("POST", "/tick"),
    ];
    for write in writes {
        let reply = write.send().await;
        assert!(matches!(reply.status, 401 | 403), "{} {}", reply.status, reply.text());
        reply.problem(reply.status, "unauthorized");
    }
    assert_eq!(buyer.package_state(&package).await["state"], "active");
}

async fn a_refused_write_reserves_no_name_and_makes_no_customer(suite: Arc<Suite>) {
    let refused = suite.stranger("translate").await;
    let gateway = &refused.gateway;
    let honest = suite.stranger("translate").await;
    let rules = format!("/customers/{}/products/translate/rules", refused.id);
    let write = |path: &str, token: &str, body: Value| {
        gateway.control("PUT", path).replacing("authorization", format!("Bearer {token}")).body(body.to_string())
    };
    for (token, status) in [(READ_TOKEN, 403), ("wrong", 401)] {
        write(&rules, token, json!({ "alerts": [] })).send().await.problem(status, "unauthorized");
        // While writes are refused, the names they ask for are free for whoever may write.
        for _ in 0..20 {
            let path = format!("/packages/{}", fresh("package"));
            let refusals: JoinSet<_> = (0..4)
                .map(|_| write(&path, token, refused.package("5")))
                .map(|refusal| async move { refusal.send().await.problem(status, "unauthorized") })
                .collect();
            let granted = gateway.write("PUT", &path, &honest.package("7")).await;
            assert_eq!(granted.status, 201, "{}", granted.text());
            refusals.join_all().await;
        }
    }
    for path in [format!("/customers/{}/balance", refused.id), rules] {
        gateway.control("GET", &path).send().await.problem(404, "not_found");
    }
    assert!(refused.packages().await.is_empty());
    let customers = refused.pages("/customers?limit=500", "customers").await;
    assert!(customers.iter().any(|customer| customer["customer_id"] == honest.id.as_str()));
    assert!(customers.iter().all(|customer| customer["customer_id"] != refused.id.as_str()));
    assert_eq!(gateway.read(&format!("/audit?customer_id={}", refused.id)).await["customers"], 0);
}

async fn the_admin_token_opens_no_product_and_products_need_none(suite: Arc<Suite>) {
    let buyer = suite.buyer("agents", "5").await;
    let reply = buyer.call().header("authorization", format!("Bearer {READ_TOKEN}")).send().await;
    buyer.expect_refused(&reply, 401, "caller_unauthenticated").await;
}

async fn health_needs_no_token(suite: Arc<Suite>) {
    assert_eq!(suite.gateway().await.call("GET", "/_tollgate/healthz").send().await.status, 200);
}

async fn readiness_needs_no_token(suite: Arc<Suite>) {
    assert_eq!(suite.gateway().await.call("GET", "/_tollgate/readyz").send().await.status, 200);
}

async fn an_unknown_path_is_not_found(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    for path in ["/nowhere", "/packages/a/b/c", "/customers/x/nothing", ""] {
        gateway.control("GET", path).send().await.problem(404, "not_found");
    }
}

async fn a_wrong_method_is_refused_and_changes_nothing(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let package = buyer.grant("5").await;
    for (method, path) in
        [("DELETE", format!("/packages/{package}")), ("POST", format!("/packages/{package}")), ("GET", "/tick".into())]
    {
        let reply = buyer.gateway.control(method, &path).send().await;
        assert!(matches!(reply.status, 404 | 405), "{method} {path}: {}", reply.status);
    }
    assert_eq!(buyer.package_state(&package).await["state"], "active");
}

async fn a_tick_reports_what_it_did_and_may_repeat(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    for _ in 0..2 {
        let reply = gateway.control("POST", "/tick").send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let report = reply.json();
        for name in ["lost_holds", "delivered", "failed", "pushed", "folded"] {
            assert!(report[name].is_u64(), "{name} in {report}");
        }
        assert!(report["more"].is_boolean(), "{report}");
    }
}

async fn the_audit_balances_page_by_page(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    buyer.spend(2).await;
    let (mut customers, mut cursor) = (0, String::new());
    loop {
        let page = buyer.gateway.read(&format!("/audit?limit=50{cursor}")).await;
        assert_eq!((&page["balanced"], &page["differences"]), (&json!(true), &json!([])), "{page}");
        customers += page["customers"].as_u64().unwrap();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        assert!(customers < 100_000, "the audit does not end");
    }
    assert!(customers >= 1);
}

async fn the_audit_of_one_customer_is_of_that_customer(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "5").await;
    buyer.spend(3).await;
    buyer.expect_used("3").await;
    let audit = buyer.gateway.read(&format!("/audit?customer_id={}", buyer.id)).await;
    assert_eq!((&audit["balanced"], &audit["customers"], &audit["calls"]), (&json!(true), &json!(1), &json!(3)), "{audit}");
}

/// Sum of the samples whose line contains each of these words.
fn total(metrics: &str, words: &[&str]) -> f64 {
    let samples = metrics.lines().filter(|line| !line.starts_with('#') && words.iter().all(|word| line.contains(word)));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn metrics_are_prometheus_text_and_count_calls(suite: Arc<Suite>) {
    let buyer = suite.buyer("thrice", "50").await;
    let read = async || {
        let reply = buyer.gateway.control("GET", "/metrics").send().await;
        assert_eq!(reply.status, 200);
        assert!(reply.header("content-type").starts_with("text/plain"));
        reply.text()
    };
    let words = ["_total", "product", "\"thrice\""];
    let before = read().await;
    buyer.spend(5).await;
    buyer.expect_used("5").await;
    eventually("the counters have moved", async || total(&read().await, &words) >= total(&before, &words) + 5.0).await;
    let metrics = read().await;
    assert!(metrics.contains("# TYPE") && metrics.contains("histogram"), "{metrics}");
    for line in metrics.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

async fn metrics_tell_no_secrets(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    let reply = gateway.control("GET", "/metrics").send().await;
    reply.assert_ok();
    let metrics = reply.text();
    assert!(!metrics.contains("contract-"), "{metrics}");
}
