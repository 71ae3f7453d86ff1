//! Orders: listed, shown, concluded, credited.

use serde_json::{Value, json};

use super::rules::rule;
use super::{Desk, refusal};

/// A customer whose order is requested, and the order.
fn ordered(desk: &Desk, customer_id: &str) -> Value {
    desk.grant(&format!("p-{customer_id}"), customer_id, "translate", "2");
    let path = format!("/customers/{customer_id}/products/translate/rules");
    desk.write("PUT", &path, &json!({ "repurchase": rule() }).to_string());
    desk.get(&format!("/repurchases?customer_id={customer_id}"))["repurchases"][0].clone()
}

fn path(order: &Value) -> String {
    format!("/repurchases/{}", order["repurchase_id"].as_str().unwrap())
}

#[test]
fn an_order_shows_what_it_buys_and_how_far_it_is() {
    let desk = Desk::told();
    let order = ordered(&desk, "c");
    let expected = json!({
        "repurchase_id": order["repurchase_id"], "customer_id": "c", "product_id": "translate", "state": "requested", "reason": null,
        "spec_id": "spec-1", "quantity": "10", "price": "9.9", "currency": "CNY", "package_id": null,
        "requested_at": "2026-01-01T00:00:00.000Z", "times_out_at": "2026-01-01T00:15:00.000Z", "ended_at": null,
    });
    assert_eq!(order, expected);
    assert_eq!(desk.get(&path(&order)), expected);
    assert_eq!(refusal(&desk.ask("GET", "/repurchases/none", "")), (404, "not_found".to_owned()));
}

#[test]
fn orders_are_listed_newest_first_by_customer_and_state() {
    let desk = Desk::told();
    for customer_id in ["a", "b", "c"] {
        ordered(&desk, customer_id);
    }
    let failed = desk.get("/repurchases?customer_id=b")["repurchases"][0].clone();
    desk.write("POST", &format!("{}/outcome", path(&failed)), r#"{"status":"failed","reason":"spec_delisted"}"#);
    for limit in [1, 2, 3, 4] {
        let walk = |filter: &str| desk.walk(&format!("/repurchases?limit={limit}{filter}"), "repurchases", "customer_id");
        assert_eq!(walk(""), (["c", "b", "a"].map(str::to_owned).to_vec(), 3_usize.div_ceil(limit)));
        assert_eq!(walk("&state=requested").0, ["c", "a"]);
        assert_eq!(walk("&state=failed").0, ["b"]);
        assert_eq!(walk("&customer_id=a").0, ["a"]);
        assert!(walk("&customer_id=a&state=pending").0.is_empty() && walk("&customer_id=nobody").0.is_empty());
    }
    for query in ["state=odd", "customer_id=", "cursor=x", "limit=0", "product_id=translate"] {
        assert_eq!(refusal(&desk.ask("GET", &format!("/repurchases?{query}"), "")), (400, "invalid".to_owned()), "{query}");
    }
}

#[test]
fn a_success_credits_its_package_once_however_often_it_is_told() {
    let desk = Desk::told();
    let order = ordered(&desk, "c");
    let outcome = format!("{}/outcome", path(&order));
    for _ in 0..2 {
        let concluded = desk.write("POST", &outcome, r#"{"status":"succeeded","package":{"package_id":"q"}}"#);
        assert_eq!((&concluded["state"], &concluded["package_id"]), (&"succeeded".into(), &"q".into()));
        assert_eq!(concluded["ended_at"], "2026-01-01T00:00:00.000Z");
    }
    assert_eq!(desk.get("/packages/q")["granted"], "10");
    assert_eq!(desk.get("/customers/c/balance")["products"][0]["granted"], "12");
    for body in [
        r#"{"status":"succeeded","package":{"package_id":"other"}}"#,
        r#"{"status":"succeeded","package":{"package_id":"q","quantity":"11"}}"#,
        r#"{"status":"failed","reason":"hook_failed"}"#,
    ] {
        assert_eq!(refusal(&desk.ask("POST", &outcome, body)), (409, "conflict".to_owned()), "{body}");
    }
}

#[test]
fn a_package_that_names_its_order_completes_it() {
    let desk = Desk::told();
    let order = ordered(&desk, "c");
    let body = |customer_id: &str, product_id: &str, repurchase_id: &Value| {
        json!({ "customer_id": customer_id, "product_id": product_id, "quantity": "10", "repurchase_id": repurchase_id })
            .to_string()
    };
    let put = |package_id: &str, body: &str| desk.ask("PUT", &format!("/packages/{package_id}"), body);
    let id = &order["repurchase_id"];
    assert_eq!(refusal(&put("q", &body("c", "translate", &"rep_none".into()))), (404, "not_found".to_owned()));
    assert_eq!(refusal(&put("q", &body("d", "translate", id))), (409, "conflict".to_owned()));
    assert_eq!(refusal(&put("q", &body("c", "chat", id))), (409, "conflict".to_owned()));
    assert_eq!(refusal(&desk.ask("GET", "/customers/d/balance", "")).0, 404);
    let its_own = body("c", "translate", id);
    assert_eq!((put("q", &its_own).status, put("q", &its_own).status), (201, 200));
    assert_eq!(refusal(&put("r", &its_own)), (409, "conflict".to_owned()));
    let order = desk.get(&path(&order));
    assert_eq!((&order["state"], &order["package_id"]), (&"succeeded".into(), &"q".into()));
}

#[test]
fn a_package_id_of_another_customer_is_a_conflict() {
    let desk = Desk::told();
    let order = ordered(&desk, "c");
    desk.grant("taken", "d", "translate", "1");
    let body = r#"{"status":"succeeded","package":{"package_id":"taken"}}"#;
    assert_eq!(refusal(&desk.ask("POST", &format!("{}/outcome", path(&order)), body)), (409, "conflict".to_owned()));
    assert_eq!(desk.get(&path(&order))["state"], "requested");
}

#[test]
fn an_outcome_is_a_success_or_a_failure_with_a_known_reason() {
    let desk = Desk::told();
    let order = ordered(&desk, "c");
    let outcome = format!("{}/outcome", path(&order));
    for body in [
        "",
        "{}",
        "[]",
        r#"{"status":"pending"}"#,
        r#"{"status":"failed"}"#,
        r#"{"status":"failed","reason":"cap_reached"}"#,
        r#"{"status":"failed","reason":"moon phase"}"#,
        r#"{"status":"failed","reason":"timeout","package":{}}"#,
        r#"{"status":"succeeded","reason":"timeout"}"#,
        r#"{"status":"succeeded","package":["q"]}"#,
        r#"{"status":"succeeded","package":{"customer_id":"d"}}"#,
        r#"{"status":"succeeded","package":{"quantity":"0"}}"#,
        r#"{"status":"succeeded","package":{"odd":1}}"#,
    ] {
        assert_eq!(refusal(&desk.ask("POST", &outcome, body)), (400, "invalid".to_owned()), "{body}");
    }
    assert_eq!(desk.get(&path(&order))["state"], "requested");
    assert_eq!(refusal(&desk.ask("POST", "/repurchases/none/outcome", r#"{"status":"succeeded"}"#)).0, 404);
    for _ in 0..2 {
        let failed = desk.write("POST", &outcome, r#"{"status":"failed","reason":"timeout"}"#);
        assert_eq!((&failed["state"], &failed["reason"]), (&"failed".into(), &"timeout".into()));
    }
    // It was bought after all.
    assert_eq!(desk.write("POST", &outcome, r#"{"status":"succeeded","package":{}}"#)["package_id"], order["repurchase_id"]);
}
