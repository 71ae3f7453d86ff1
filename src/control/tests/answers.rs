//! Balances, calls, metrics.

use super::{Desk, refusal};

#[test]
fn a_balance_adds_up_a_customers_packages_by_product() {
    let desk = Desk::open();
    desk.grant("p1", "c", "translate", "10");
    desk.grant("p2", "c", "translate", "5");
    desk.grant("q", "c", "chat", "1");
    desk.call("c", "translate", "r1");
    desk.hold("c", "translate", "r2");
    let balance = desk.get("/customers/c/balance");
    let translate = &balance["products"][1];
    for (member, value) in [
        ("product_id", "translate"),
        ("unit", "call"),
        ("granted", "15"),
        ("used", "1"),
        ("held", "1"),
        ("remaining", "14"),
        ("available", "13"),
        ("overrun", "0"),
    ] {
        assert_eq!(translate[member], value, "{member}");
    }
    assert_eq!(balance["products"][0]["product_id"], "chat");
    assert_eq!(translate["packages"][0], desk.get("/packages/p1"));
    assert_eq!(refusal(&desk.ask("GET", "/customers/d/balance", "")), (404, "not_found".to_owned()));
}

#[test]
fn a_customer_in_the_list_has_what_its_balance_says() {
    let desk = Desk::open();
    desk.grant("p1", "c", "translate", "10");
    desk.grant("p2", "c", "translate", "5");
    desk.grant("p3", "c", "translate", "7");
    desk.call("c", "translate", "r");
    assert_eq!(desk.ask("POST", "/packages/p3/freeze", "").status, 200);
    let customers = desk.get("/customers");
    assert_eq!(
        customers["customers"],
        serde_json::json!([{ "customer_id": "c", "products": [
            { "product_id": "translate", "unit": "call", "remaining": "14", "last_call_at": "2026-01-01T00:00:00.000Z" },
        ]}])
    );
    assert_eq!(desk.get("/customers/c/balance")["products"][0]["remaining"], "14");
}

#[test]
fn a_call_shows_every_member_of_the_contract() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    desk.call("c", "translate", "r/1");
    let expected = serde_json::json!({
        "request_id": "r/1", "product_id": "translate", "state": "settled", "hold": "1", "charge": "1", "refunded": "0", "overrun": "0",
        "lost": false, "usage_missing": false, "replays": 0, "status": 200, "legs": [{ "package_id": "p", "quantity": "1" }],
        "created_at": "2026-01-01T00:00:00.000Z", "settled_at": "2026-01-01T00:00:00.000Z",
    });
    assert_eq!(desk.get("/customers/c/calls/r%2F1"), expected);
    assert_eq!(desk.get("/customers/c/calls")["calls"], serde_json::json!([expected]));
}

#[test]
fn a_call_id_of_two_products_asks_for_the_product() {
    let desk = Desk::open();
    for product_id in ["translate", "chat"] {
        desk.grant(&format!("p-{product_id}"), "c", product_id, "10");
        desk.call("c", product_id, "same");
    }
    assert_eq!(refusal(&desk.ask("GET", "/customers/c/calls/same", "")), (400, "invalid".to_owned()));
    assert_eq!(desk.get("/customers/c/calls/same?product_id=chat")["product_id"], "chat");
    assert_eq!(refusal(&desk.ask("GET", "/customers/c/calls/other?product_id=chat", "")).0, 404);
    assert_eq!(refusal(&desk.ask("GET", "/customers/d/calls", "")).0, 404);
}

#[test]
fn metrics_show_counters_quantities_histograms_and_live_holds() {
    use crate::book::metrics::Step;
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    desk.hold("c", "translate", "r");
    desk.hold("c", "translate", "s");
    desk.settle("c", "translate", "s", "1.25".parse().unwrap());
    let product_id = super::key("c", "translate").product_id;
    desk.book.count(|meters| {
        meters.call(&product_id, "charged");
        meters.latency(Step::Hold, 700);
        meters.latency(Step::Hold, 1_700_000);
    });
    desk.book.flush_counts().unwrap();
    let response = desk.ask("GET", "/metrics", "");
    assert!(response.content_type.starts_with("text/plain; version=0.0.4"));
    for line in [
        "# TYPE tollgate_calls_total counter",
        "tollgate_calls_total{product=\"translate\",outcome=\"charged\"} 1",
        "tollgate_charged_quantity_total{product=\"translate\"} 1.2500",
        "tollgate_lost_holds_total 0",
        "# TYPE tollgate_hold_seconds histogram",
        "tollgate_hold_seconds_bucket{le=\"0.0005\"} 0",
        "tollgate_hold_seconds_bucket{le=\"0.001\"} 1",
        "tollgate_hold_seconds_bucket{le=\"0.5\"} 1",
        "tollgate_hold_seconds_bucket{le=\"+Inf\"} 2",
        "tollgate_hold_seconds_sum 1.700700",
        "tollgate_hold_seconds_count 2",
        "tollgate_settle_seconds_count 0",
        "tollgate_holds_live 1",
        "tollgate_holds_overdue 0",
    ] {
        assert!(response.body.lines().any(|shown| shown == line), "{line} in\n{}", response.body);
    }
    // Once as the exposition format wants it: every line is a comment or a name and a number.
    let is_sample = |line: &str| line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok());
    assert!(response.body.lines().all(|line| line.starts_with("# ") || is_sample(line)), "{}", response.body);
}
