//! What packages take, refuse and show.

use super::{DAY_MS, Desk, refusal};

const BODY: &str = r#"{"customer_id":"c","product_id":"translate","quantity":"10"}"#;

#[test]
fn a_package_shows_every_member_of_the_contract() {
    let desk = Desk::open();
    let body = r#"{"customer_id":"c","product_id":"translate","quantity":"2.5","kind":"prepaid","starts_at":"2025-12-31T00:00:00+01:00",
        "expires_at":"2026-02-01T00:00:00Z","priority":-3,"order_id":"CS1"}"#;
    let response = desk.ask("PUT", "/packages/p%2F1", body);
    assert_eq!(response.status, 201, "{}", response.body);
    let expected = serde_json::json!({
        "package_id": "p/1", "customer_id": "c", "product_id": "translate", "kind": "prepaid", "unit": "call", "granted": "2.5",
        "used": "0", "held": "0", "remaining": "2.5", "state": "active", "starts_at": "2025-12-30T23:00:00.000Z",
        "expires_at": "2026-02-01T00:00:00.000Z", "priority": -3, "created_at": "2026-01-01T00:00:00.000Z", "order_id": "CS1",
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&response.body).unwrap(), expected);
    assert_eq!(desk.get("/packages/p%2F1"), expected);
}

#[test]
fn an_unmetered_package_has_no_quantity() {
    let desk = Desk::open();
    assert_eq!(desk.ask("PUT", "/packages/u", r#"{"customer_id":"c","product_id":"chat","kind":"unmetered"}"#).status, 201);
    desk.call("c", "chat", "r");
    let package = desk.get("/packages/u");
    assert!(package["granted"].is_null() && package["remaining"].is_null());
    assert_eq!(package["used"], "1");
}

#[test]
fn the_same_package_again_is_200_and_another_409() {
    let mut desk = Desk::open();
    assert_eq!(desk.ask("PUT", "/packages/p", BODY).status, 201);
    desk.now_ms += DAY_MS;
    assert_eq!(desk.ask("PUT", "/packages/p", BODY).status, 200);
    for other in [
        r#"{"customer_id":"c","product_id":"translate","quantity":"11"}"#,
        r#"{"customer_id":"d","product_id":"translate","quantity":"10"}"#,
        r#"{"customer_id":"c","product_id":"chat","quantity":"10"}"#,
    ] {
        assert_eq!(refusal(&desk.ask("PUT", "/packages/p", other)), (409, "conflict".to_owned()), "{other}");
    }
    // The refused one has made no customer.
    assert_eq!(refusal(&desk.ask("GET", "/customers/d/balance", "")).0, 404);
}

#[test]
fn a_package_that_expired_meanwhile_is_still_the_same() {
    let mut desk = Desk::open();
    let body = r#"{"customer_id":"c","product_id":"translate","quantity":"1","expires_at":"2026-01-02T00:00:00Z"}"#;
    assert_eq!(desk.ask("PUT", "/packages/p", body).status, 201);
    desk.now_ms += 2 * DAY_MS;
    assert_eq!(desk.ask("PUT", "/packages/p", body).status, 200);
    assert_eq!(desk.get("/packages/p")["state"], "expired");
}

#[test]
fn what_is_wrong_with_a_body_is_invalid_and_changes_nothing() {
    let desk = Desk::open();
    let with = |member: &str| format!(r#"{{"customer_id":"c","product_id":"translate","quantity":"10",{member}}}"#);
    let mut bodies = vec![
        String::new(),
        "x".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        r#"["c","translate",null,"10"]"#.to_owned(),
        format!("{BODY} {BODY}"),
        "{".to_owned(),
        "{}".to_owned(),
        "{\"a\":".repeat(10_000),
        r#"{"customer_id":"c","product_id":"unsold","quantity":"10"}"#.to_owned(),
        r#"{"customer_id":"c","product_id":"translate"}"#.to_owned(),
        r#"{"customer_id":"a b","product_id":"translate","quantity":"10"}"#.to_owned(),
        r#"{"customer_id":"..","product_id":"translate","quantity":"10"}"#.to_owned(),
        r#"{"customer_id":null,"product_id":"translate","quantity":"10"}"#.to_owned(),
        r#"{"customer_id":"c","customer_id":"c","product_id":"translate","quantity":"10"}"#.to_owned(),
        r#"{"customer_id":"c","product_id":"translate","quantity":"10","kind":"unmetered"}"#.to_owned(),
    ];
    for quantity in ["0.00001", "-1", "1e3", "NaN", "900000000000.0001", "", " 1", "+1", "0", "1.", ".5"] {
        bodies.push(format!(r#"{{"customer_id":"c","product_id":"translate","quantity":"{quantity}"}}"#));
    }
    for member in [
        r#""quantity":"10""#,
        r#""unknown":1"#,
        r#""kind":"gift""#,
        r#""kind":null"#,
        r#""starts_at":"2026-02-30T00:00:00Z""#,
        r#""starts_at":"tomorrow""#,
        r#""starts_at":0"#,
        r#""expires_at":"2025-12-31T00:00:00Z""#,
        r#""priority":"1""#,
        r#""priority":1.5"#,
        r#""priority":2147483648"#,
        r#""priority":null"#,
        r#""order_id":"""#,
        r#""order_id":"a\u0000b""#,
        r#""order_id":"\ud800""#,
    ] {
        bodies.push(with(member));
    }
    bodies.push(with(&format!("{:?}:1", "u".repeat(5000))));
    for body in bodies {
        let response = desk.ask("PUT", "/packages/p", &body);
        assert_eq!(refusal(&response), (400, "invalid".to_owned()), "{body:.200}");
        assert!(response.body.len() < 500, "echoes too much: {}", response.body);
    }
    assert_eq!(refusal(&desk.ask("GET", "/packages/p", "")).0, 404);
    assert_eq!(desk.get("/customers")["customers"], serde_json::json!([]));
}

#[test]
fn what_is_wrong_with_a_path_or_query_is_invalid() {
    let desk = Desk::open();
    for target in ["/packages/%", "/packages/%ff", "/packages/a%20b", "/packages/..", "/packages/p?x=1", "/customers/%2e/balance"]
    {
        assert_eq!(refusal(&desk.ask("GET", target, "")), (400, "invalid".to_owned()), "{target}");
    }
}

#[test]
fn freezing_unfreezing_and_releasing_repeat_without_effect() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    for (verb, state) in [("freeze", "frozen"), ("unfreeze", "active"), ("release", "released")] {
        for body in ["", "{}", " "] {
            let response = desk.ask("POST", &format!("/packages/p/{verb}"), body);
            assert_eq!(response.status, 200, "{}", response.body);
            assert_eq!(desk.get("/packages/p")["state"], state);
        }
    }
    assert_eq!(refusal(&desk.ask("POST", "/packages/p/freeze", "")), (409, "conflict".to_owned()));
    assert_eq!(refusal(&desk.ask("POST", "/packages/p/release", "{\"x\":1}")), (400, "invalid".to_owned()));
    assert_eq!(refusal(&desk.ask("POST", "/packages/q/release", "")), (404, "not_found".to_owned()));
}

#[test]
fn a_package_is_rescheduled_by_what_is_said_alone() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    let patch = |body: &str| desk.ask("PATCH", "/packages/p", body);
    assert_eq!(patch(r#"{"expires_at":"2026-03-01T00:00:00Z"}"#).status, 200);
    assert_eq!(patch(r#"{"priority":7}"#).status, 200);
    assert_eq!(patch("{}").status, 200);
    assert_eq!(desk.get("/packages/p")["expires_at"], "2026-03-01T00:00:00.000Z");
    assert_eq!(patch(r#"{"expires_at":null}"#).status, 200);
    let package = desk.get("/packages/p");
    assert!(package["expires_at"].is_null());
    assert_eq!(package["priority"], 7);
    for bad in [r#"{"priority":null}"#, r#"{"expires_at":"2020-01-01T00:00:00Z"}"#, r#"{"quantity":"1"}"#, "", "[]"] {
        assert_eq!(refusal(&patch(bad)), (400, "invalid".to_owned()), "{bad}");
    }
    assert_eq!(refusal(&desk.ask("PATCH", "/packages/q", "{}")), (404, "not_found".to_owned()));
}

#[test]
fn an_adjustment_counts_once_and_stops_at_what_is_used_and_held() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    desk.call("c", "translate", "r1");
    desk.hold("c", "translate", "r2");
    let adjust = |body: &str| desk.ask("POST", "/packages/p/adjustments", body);
    for _ in 0..2 {
        assert_eq!(adjust(r#"{"adjustment_id":"a","quantity":"-8","reason":"too much\nsaid"}"#).status, 200);
        assert_eq!(desk.get("/packages/p")["granted"], "2");
    }
    for (status, body) in [
        (409, r#"{"adjustment_id":"a","quantity":"-7","reason":"too much\nsaid"}"#),
        (409, r#"{"adjustment_id":"b","quantity":"-0.0001","reason":"x"}"#),
        (400, r#"{"adjustment_id":"b","quantity":"0","reason":"x"}"#),
        (400, r#"{"adjustment_id":"b","quantity":"1","reason":""}"#),
        (400, r#"{"adjustment_id":"b","quantity":"1","reason":"a\u0000"}"#),
        (400, r#"{"adjustment_id":"b","quantity":"1"}"#),
        (400, r#"{"adjustment_id":"b","quantity":1,"reason":"x"}"#),
        (400, r#"{"adjustment_id":"b","quantity":"900000000000","reason":"x"}"#),
    ] {
        assert_eq!(refusal(&adjust(body)).0, status, "{body}");
    }
    let reason = "é".repeat(501);
    assert_eq!(refusal(&adjust(&format!(r#"{{"adjustment_id":"b","quantity":"1","reason":"{reason}"}}"#))).0, 400);
}

#[test]
fn a_refund_goes_back_once_and_never_beyond_the_charge() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    desk.call("c", "translate", "r");
    desk.hold("c", "translate", "live");
    let refund = |request_id: &str, body: &str| desk.ask("POST", &format!("/customers/c/calls/{request_id}/refunds"), body);
    for _ in 0..2 {
        let response = refund("r", r#"{"refund_id":"f","quantity":"0.25","reason":"slow"}"#);
        assert_eq!(response.status, 200, "{}", response.body);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&response.body).unwrap()["refunded"], "0.25");
    }
    assert_eq!(desk.get("/packages/p")["used"], "0.75");
    for (status, request_id, body) in [
        (409, "r", r#"{"refund_id":"f","quantity":"0.5","reason":"slow"}"#),
        (409, "r", r#"{"refund_id":"g","quantity":"0.7501","reason":"slow"}"#),
        (409, "live", r#"{"refund_id":"g","reason":"slow"}"#),
        (404, "none", r#"{"refund_id":"g","reason":"slow"}"#),
        (400, "r", r#"{"refund_id":"g","quantity":"0","reason":"slow"}"#),
        (400, "r", r#"{"refund_id":"g","quantity":"-1","reason":"slow"}"#),
    ] {
        assert_eq!(refusal(&refund(request_id, body)).0, status, "{body}");
    }
    assert_eq!(refund("r", r#"{"refund_id":"rest","reason":"all of it"}"#).status, 200);
    assert_eq!(desk.get("/packages/p")["used"], "0");
}
