//! Rules: written, read, refused.

use serde_json::{Value, json};

use super::{Desk, refusal};

const PATH: &str = "/customers/c/products/translate/rules";

pub(super) fn rule() -> Value {
    json!({
        "enabled": true, "trigger": { "remaining": "2" },
        "package": { "spec_id": "spec-1", "quantity": "10", "price": "9.9", "currency": "CNY" },
        "cap": { "count": 2, "spend": "25", "period": "30d" }, "cooldown": "5m",
    })
}

#[test]
fn rules_are_read_back_as_they_were_written() {
    let desk = Desk::told();
    desk.grant("p", "c", "translate", "10");
    let body = json!({ "alerts": [{ "percent": "12.5" }, { "remaining": "0.5" }], "repurchase": rule() });
    let mut expected = json!({
        "customer_id": "c", "product_id": "translate", "alerts": body["alerts"], "alerts_from": "customer", "repurchase": rule(),
    });
    expected["repurchase"]["state"] = "idle".into();
    for _ in 0..2 {
        assert_eq!(desk.write("PUT", PATH, &body.to_string()), expected);
        assert_eq!(desk.get(PATH), expected);
    }
}

#[test]
fn rules_may_come_before_the_first_package() {
    let desk = Desk::told();
    desk.write("PUT", PATH, r#"{"alerts":[]}"#);
    assert_eq!(desk.get("/customers/c/balance")["products"][0]["granted"], "0");
    // Nothing is at or below every trigger.
    assert_eq!(desk.write("PUT", PATH, &json!({ "repurchase": rule() }).to_string())["repurchase"]["state"], "requested");
}

#[test]
fn without_own_alerts_the_products_apply_and_none_are_none() {
    let desk = Desk::told();
    assert_eq!(refusal(&desk.ask("GET", PATH, "")), (404, "not_found".to_owned()));
    desk.grant("p", "c", "translate", "10");
    let of_product = json!([{ "percent": "20" }, { "remaining": "1" }]);
    let shown = desk.get(PATH);
    assert_eq!((&shown["alerts"], &shown["alerts_from"]), (&of_product, &"product".into()));
    assert!(shown["repurchase"].is_null());
    for (body, alerts, from) in [
        (json!({ "alerts": [] }), json!([]), "customer"),
        (json!({}), of_product.clone(), "product"),
        (json!({ "alerts": null, "repurchase": null }), of_product.clone(), "product"),
    ] {
        let shown = desk.write("PUT", PATH, &body.to_string());
        assert_eq!((&shown["alerts"], &shown["alerts_from"]), (&alerts, &from.into()), "{body}");
    }
}

#[test]
fn the_same_alert_twice_is_one() {
    let desk = Desk::told();
    let shown = desk.write("PUT", PATH, r#"{"alerts":[{"percent":"20"},{"remaining":"20"},{"percent":"20.0"}]}"#);
    assert_eq!(shown["alerts"], json!([{ "percent": "20" }, { "remaining": "20" }]));
}

#[test]
fn what_is_no_rule_is_invalid_and_makes_no_customer() {
    let desk = Desk::told();
    let mut bodies: Vec<Value> = ["{}", "5", "\"percent\"", "null", "[]", r#"{"percent":"0"}"#, r#"{"percent":"100.0001"}"#]
        .into_iter()
        .chain([r#"{"percent":"-1"}"#, r#"{"remaining":1}"#, r#"{"remaining":"-1"}"#, r#"{"percent":"1","remaining":"1"}"#])
        .chain([r#"{"below":"1"}"#, r#"{"remaining":"0.00001"}"#, r#"{"remaining":["1"]}"#])
        .map(|threshold| serde_json::from_str(&format!(r#"{{"alerts":[{threshold}]}}"#)).unwrap())
        .collect();
    let many: Vec<_> = (0..21).map(|level| json!({ "remaining": level.to_string() })).collect();
    bodies.push(json!({ "alerts": many }));
    bodies.push(json!({ "alarms": [] }));
    bodies.push(json!({ "alerts": {} }));
    for (place, bad) in [
        ("/enabled", json!(1)),
        ("/trigger", json!({ "percent": "101" })),
        ("/trigger", Value::Null),
        ("/package", json!(["spec-1", "10", "9.9", "CNY"])),
        ("/package/spec_id", json!("")),
        ("/package/spec_id", json!("a\nb")),
        ("/package/spec_id", json!("é".repeat(129))),
        ("/package/quantity", json!("0")),
        ("/package/price", json!("-1")),
        ("/package/currency", json!("C NY")),
        ("/package/currency", json!("x".repeat(17))),
        ("/package/unknown", json!(1)),
        ("/cap/count", json!(0)),
        ("/cap/count", json!(1001)),
        ("/cap/count", json!("1")),
        ("/cap/spend", json!("x")),
        ("/cap/period", json!("0s")),
        ("/cap/period", json!("999ms")),
        ("/cap/period", json!("3661d")),
        ("/cap/period", json!(30)),
        ("/cooldown", json!("-1s")),
        ("/cooldown", json!("soon")),
        ("/unknown", json!(1)),
    ] {
        let mut rule = rule();
        let (parent, member) = place.rsplit_once('/').unwrap();
        rule.pointer_mut(parent).unwrap()[member] = bad;
        bodies.push(json!({ "repurchase": rule }));
    }
    for body in bodies {
        let response = desk.ask("PUT", PATH, &body.to_string());
        assert_eq!(refusal(&response), (400, "invalid".to_owned()), "{body:.200}");
    }
    assert_eq!(desk.get("/customers")["customers"], json!([]));
}

#[test]
fn rules_of_a_product_that_nobody_sells_are_not_found() {
    let desk = Desk::told();
    for method in ["PUT", "GET"] {
        let response = desk.ask(method, "/customers/c/products/unsold/rules", "{}");
        assert_eq!(refusal(&response), (404, "not_found".to_owned()));
    }
}

#[test]
fn a_rule_is_enabled_only_where_somebody_takes_orders() {
    let desk = Desk::open();
    let mut rule = rule();
    let response = desk.ask("PUT", PATH, &json!({ "repurchase": rule }).to_string());
    assert_eq!(refusal(&response), (409, "conflict".to_owned()));
    rule["enabled"] = false.into();
    assert_eq!(desk.write("PUT", PATH, &json!({ "repurchase": rule }).to_string())["repurchase"]["enabled"], false);
}

#[test]
fn a_token_that_may_only_read_reads_rules_and_writes_none() {
    let desk = Desk::told();
    desk.grant("p", "c", "translate", "10");
    let path = format!("/_tollgate/v1{PATH}");
    assert_eq!(desk.send("GET", &path, Some("Bearer read-token"), "").status, 200);
    assert_eq!(refusal(&desk.send("PUT", &path, Some("Bearer read-token"), "{}")), (403, "unauthorized".to_owned()));
}

#[test]
fn a_rule_says_where_it_stands() {
    let mut desk = Desk::told();
    desk.grant("p", "c", "translate", "3");
    let write = |desk: &Desk| desk.write("PUT", PATH, &json!({ "repurchase": rule() }).to_string())["repurchase"].clone();
    let standing = |desk: &Desk| {
        let rule = desk.get(PATH)["repurchase"].clone();
        (rule["state"].as_str().unwrap().to_owned(), rule["reason"].as_str().map(str::to_owned))
    };
    let stands = |state: &str, reason: Option<&str>| (state.to_owned(), reason.map(str::to_owned));
    let conclude = |desk: &Desk, outcome: &str| {
        let order = desk.get("/repurchases?limit=1")["repurchases"][0].clone();
        let path = format!("/repurchases/{}/outcome", order["repurchase_id"].as_str().unwrap());
        desk.write("POST", &path, outcome)
    };
    assert_eq!(write(&desk)["state"], "idle");
    desk.call("c", "translate", "r1");
    assert_eq!(standing(&desk), stands("requested", None));
    assert_eq!(desk.get(PATH)["repurchase"]["repurchase_id"], desk.get("/repurchases")["repurchases"][0]["repurchase_id"]);
    desk.tick();
    assert_eq!(standing(&desk), stands("pending", None));
    conclude(&desk, r#"{"status":"succeeded"}"#);
    assert_eq!(standing(&desk), stands("succeeded", None));
    conclude(&desk, r#"{"status":"succeeded","package":{"package_id":"q","quantity":"0.5"}}"#);
    assert_eq!(standing(&desk), stands("idle", Some("cooldown")));
    assert_eq!(desk.get(PATH)["repurchase"]["rests_until"], "2026-01-01T00:05:00.000Z");
    desk.call("c", "translate", "r2");
    desk.now_ms += 300_000;
    desk.tick();
    assert_eq!(standing(&desk), stands("pending", None));
    conclude(&desk, r#"{"status":"failed","reason":"hook_failed"}"#);
    assert_eq!(standing(&desk), stands("failed", Some("hook_failed")));
    desk.now_ms += 300_000;
    desk.tick();
    conclude(&desk, r#"{"status":"failed","reason":"price_changed"}"#);
    assert_eq!(standing(&desk), stands("suspended", Some("price_changed")));
    // Written again it goes on, once the cooldown is over; the order that is bought then fills the cap.
    desk.now_ms += 300_000;
    assert_eq!(write(&desk)["state"], "requested");
    conclude(&desk, r#"{"status":"succeeded","package":{"quantity":"0.5"}}"#);
    desk.now_ms += 300_000;
    desk.tick();
    assert_eq!(standing(&desk), stands("idle", Some("cap_reached")));
}
