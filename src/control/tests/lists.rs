//! Lists, page by page.

use super::{DAY_MS, Desk, refusal};
use crate::quantity::Quantity;

#[test]
fn packages_are_listed_once_each_whatever_the_page() {
    let desk = Desk::open();
    let mut expected = Vec::new();
    for number in 0..7 {
        desk.grant(&format!("p{number}"), if number % 2 == 0 { "even" } else { "odd" }, "translate", "1");
        expected.push(format!("p{number}"));
    }
    for limit in [1, 2, 7, 8, 500] {
        let (seen, pages) = desk.walk(&format!("/packages?limit={limit}"), "packages", "package_id");
        assert_eq!(seen, expected, "limit {limit}");
        assert_eq!(pages, 7_usize.div_ceil(limit), "limit {limit}");
    }
    let (seen, pages) = desk.walk("/packages?customer_id=odd&product_id=translate&limit=2", "packages", "package_id");
    assert_eq!((seen.as_slice(), pages), (["p1", "p3", "p5"].map(str::to_owned).as_slice(), 2));
    assert!(desk.walk("/packages?product_id=chat", "packages", "package_id").0.is_empty());
    assert!(desk.walk("/packages?customer_id=nobody", "packages", "package_id").0.is_empty());
}

#[test]
fn packages_are_listed_by_the_state_they_show() {
    let mut desk = Desk::open();
    let put = |desk: &Desk, package_id: &str, rest: &str| {
        let body = format!(r#"{{"customer_id":"{package_id}","product_id":"translate"{rest}}}"#);
        assert_eq!(desk.ask("PUT", &format!("/packages/{package_id}"), &body).status, 201);
    };
    put(&desk, "plain", r#","quantity":"1""#);
    put(&desk, "used", r#","quantity":"1""#);
    put(&desk, "frozen", r#","quantity":"1""#);
    put(&desk, "gone", r#","quantity":"1""#);
    put(&desk, "early", r#","quantity":"1","starts_at":"2026-01-02T00:00:00Z""#);
    put(&desk, "short", r#","quantity":"1","expires_at":"2026-01-02T00:00:00Z""#);
    put(&desk, "frozen-short", r#","quantity":"1","expires_at":"2026-01-02T00:00:00Z""#);
    put(&desk, "frozen-early", r#","quantity":"1","starts_at":"2026-01-02T00:00:00Z""#);
    put(&desk, "free", r#","kind":"unmetered""#);
    desk.call("used", "translate", "r");
    desk.call("free", "translate", "r");
    for (package_id, verb) in [("frozen", "freeze"), ("frozen-short", "freeze"), ("frozen-early", "freeze"), ("gone", "release")]
    {
        assert_eq!(desk.ask("POST", &format!("/packages/{package_id}/{verb}"), "").status, 200);
    }
    let states = ["scheduled", "active", "frozen", "exhausted", "expired", "released"];
    for after_ms in [0, DAY_MS - 1, DAY_MS, 2 * DAY_MS] {
        desk.now_ms = super::NEW_YEAR_MS + after_ms;
        let mut listed = 0;
        for state in states {
            for package_id in desk.walk(&format!("/packages?state={state}"), "packages", "package_id").0 {
                assert_eq!(desk.get(&format!("/packages/{package_id}"))["state"], state, "{package_id}");
                listed += 1;
            }
        }
        assert_eq!(listed, 9, "after {after_ms} ms");
    }
}

#[test]
fn customers_are_listed_once_each_whatever_the_page() {
    let desk = Desk::open();
    for customer_id in ["a", "b", "c"] {
        desk.grant(&format!("{customer_id}1"), customer_id, "translate", "1");
        desk.grant(&format!("{customer_id}2"), customer_id, "chat", "1");
    }
    for limit in [1, 2, 3, 4] {
        let (seen, pages) = desk.walk(&format!("/customers?limit={limit}"), "customers", "customer_id");
        assert_eq!((seen.as_slice(), pages), (["a", "b", "c"].map(str::to_owned).as_slice(), 3_usize.div_ceil(limit)));
    }
}

#[test]
fn calls_are_listed_newest_first_across_products_and_states() {
    let mut desk = Desk::open();
    desk.grant("p", "c", "translate", "100");
    desk.grant("q", "c", "chat", "100");
    let mut newest_first = Vec::new();
    for number in 0..9 {
        desk.now_ms += 1;
        let (product_id, request_id) = (if number % 3 == 0 { "chat" } else { "translate" }, format!("r{number}"));
        desk.hold("c", product_id, &request_id);
        match number % 4 {
            0 => desk.settle("c", product_id, &request_id, Quantity::ZERO),
            1 => {}
            _ => desk.settle("c", product_id, &request_id, Quantity::ONE),
        }
        newest_first.insert(0, request_id);
    }
    for limit in [1, 2, 4, 9, 10] {
        let (seen, pages) = desk.walk(&format!("/customers/c/calls?limit={limit}"), "calls", "request_id");
        assert_eq!(seen, newest_first, "limit {limit}");
        assert_eq!(pages, 9_usize.div_ceil(limit), "limit {limit}");
        let walk = |filter: &str| desk.walk(&format!("/customers/c/calls?limit={limit}&{filter}"), "calls", "request_id").0;
        assert_eq!(walk("state=released"), ["r8", "r4", "r0"]);
        assert_eq!(walk("state=held"), ["r5", "r1"]);
        assert_eq!(walk("state=settled&product_id=chat"), ["r6", "r3"]);
        assert_eq!(walk("product_id=chat"), ["r6", "r3", "r0"]);
        assert!(walk("product_id=other").is_empty());
    }
}

#[test]
fn calls_made_while_a_list_is_read_move_nothing_in_it() {
    let mut desk = Desk::open();
    desk.grant("p", "c", "translate", "100");
    for number in 0..4 {
        desk.now_ms += 1;
        desk.call("c", "translate", &format!("r{number}"));
    }
    let first = desk.get("/customers/c/calls?limit=2");
    desk.call("c", "translate", "newer");
    desk.grant("q", "c", "chat", "100");
    desk.call("c", "chat", "newer");
    let next = first["next_cursor"].as_str().unwrap();
    let second = desk.get(&format!("/customers/c/calls?limit=2&cursor={next}"));
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["calls"].as_array().unwrap().iter().map(|call| call["request_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(&first), ids(&second)), (vec!["r3".to_owned(), "r2".to_owned()], vec!["r1".to_owned(), "r0".to_owned()]));
    assert!(second["next_cursor"].is_null());
}

#[test]
fn a_call_that_was_admitted_again_is_listed_once() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "100");
    desk.hold("c", "translate", "again");
    desk.settle("c", "translate", "again", Quantity::ZERO);
    desk.call("c", "translate", "between");
    desk.hold("c", "translate", "again");
    assert_eq!(desk.walk("/customers/c/calls?limit=1", "calls", "request_id").0, ["again", "between"]);
}

#[test]
fn wrong_limits_cursors_and_filters_are_invalid() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "1");
    for target in [
        "/packages?limit=0",
        "/packages?limit=501",
        "/packages?cursor=x",
        "/packages?state=gone",
        "/packages?customer_id=",
        "/packages?limit=1&limit=1",
        "/packages?page=2",
        "/customers?cursor=cGFja2FnZXM6cA",
        "/customers/c/calls?state=active",
        "/customers/c/calls?cursor=Y2FsbHM6e30x",
        "/customers/c/balance?limit=1",
        "/audit?limit=none",
        "/metrics?x",
    ] {
        assert_eq!(refusal(&desk.ask("GET", target, "")), (400, "invalid".to_owned()), "{target}");
    }
}
