//! Ticks and the audit.

use super::{DAY_MS, Desk, refusal};
use crate::store::Database;

#[test]
fn a_tick_ends_lost_holds_once() {
    let mut desk = Desk::open();
    desk.grant("p", "c", "translate", "10");
    desk.hold("c", "translate", "lost");
    desk.call("c", "translate", "ended");
    let tick = |desk: &Desk| serde_json::from_str::<serde_json::Value>(&desk.ask("POST", "/tick", "").body).unwrap();
    assert_eq!(tick(&desk)["lost_holds"], 0);
    desk.now_ms += 30_000;
    let expected =
        |lost: u32| serde_json::json!({"lost_holds": lost, "delivered": 0, "failed": 0, "pushed": 0, "folded": 0, "more": false});
    assert_eq!(tick(&desk), expected(1));
    assert_eq!(tick(&desk), expected(0));
    let call = desk.get("/customers/c/calls/lost");
    assert_eq!((&call["state"], &call["lost"], &call["charge"]), (&"settled".into(), &true.into(), &"1".into()));
    let metrics = desk.ask("GET", "/metrics", "").body;
    assert!(metrics.contains("tollgate_lost_holds_total 1\n"), "{metrics}");
    assert_eq!(refusal(&desk.ask("POST", "/tick", "[]")), (400, "invalid".to_owned()));
}

#[test]
fn a_hold_that_cannot_be_read_keeps_no_other_from_its_end() {
    let mut desk = Desk::open();
    for customer_id in ["a", "b"] {
        desk.grant(&format!("p-{customer_id}"), customer_id, "translate", "10");
        desk.hold(customer_id, "translate", "lost");
    }
    desk.book.database().execute("UPDATE calls SET detail = '{}' WHERE account_id = 1", &[]).unwrap();
    desk.now_ms += 30_000;
    let response = desk.ask("POST", "/tick", "");
    assert_eq!(refusal(&response), (500, "internal".to_owned()));
    assert!(response.log.unwrap().contains("unreadable"));
    assert_eq!(desk.get("/customers/b/calls/lost")["lost"], true);
}

#[test]
fn ticks_fold_old_calls_and_the_audit_balances_all_along() {
    let mut desk = Desk::open();
    for customer_id in ["a", "b", "c"] {
        desk.grant(&format!("p-{customer_id}"), customer_id, "translate", "1000");
        for number in 0..40 {
            desk.call(customer_id, "translate", &format!("r{number}"));
        }
    }
    desk.now_ms += 91 * DAY_MS;
    desk.call("a", "translate", "young");
    let body = desk.ask("POST", "/tick", "").body;
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&report["folded"], &report["more"]), (&240.into(), &false.into()));
    let audit = desk.get("/audit");
    assert_eq!((&audit["balanced"], &audit["customers"], &audit["calls"]), (&true.into(), &3.into(), &1.into()));
    assert_eq!(desk.walk("/customers/a/calls?", "calls", "request_id").0, ["young"]);
    assert_eq!(desk.get("/packages/p-a")["used"], "41");
    assert_eq!(refusal(&desk.ask("GET", "/customers/b/calls/r1", "")).0, 404);
}

#[test]
fn the_audit_goes_through_the_customers_page_by_page() {
    let desk = Desk::open();
    for customer_id in ["a", "b", "c"] {
        desk.grant(&format!("p-{customer_id}"), customer_id, "translate", "10");
        desk.call(customer_id, "translate", "r");
    }
    let page = desk.get("/audit?limit=2");
    assert_eq!((&page["customers"], &page["calls"]), (&2.into(), &2.into()));
    let next = page["next_cursor"].as_str().unwrap();
    let page = desk.get(&format!("/audit?limit=2&cursor={next}"));
    assert_eq!((&page["customers"], &page["next_cursor"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(desk.get("/audit?customer_id=b")["customers"], 1);
    assert_eq!(desk.get("/audit?customer_id=nobody")["customers"], 0);
}

#[test]
fn the_audit_finds_whatever_was_altered() {
    for (statement, what) in [
        ("UPDATE packages SET used = used + 1", "used"),
        ("UPDATE packages SET granted = granted + 1", "granted"),
        ("UPDATE packages SET held = held - 1", "held"),
        ("UPDATE accounts SET overrun = 5", "overrun"),
        ("UPDATE accounts SET entry_count = entry_count + 1", "entries"),
        ("DELETE FROM entries WHERE seq = 3", "entries"),
        ("DELETE FROM entries WHERE seq = (SELECT max(seq) FROM entries)", "entries"),
        ("UPDATE entries SET quantity = quantity + 1 WHERE seq = 3", "charge"),
        ("UPDATE entries SET kind = 7 WHERE seq = 3", "charge"),
        ("UPDATE entries SET request_id = 'other' WHERE seq = 3", "charge"),
        ("UPDATE calls SET detail = json_set(detail, '$.charge', 1) WHERE request_id = 'r'", "charge"),
        ("UPDATE calls SET detail = json_set(detail, '$.refunded', 1) WHERE request_id = 'r'", "refunded"),
        ("UPDATE calls SET detail = json_set(detail, '$.overrun', 1) WHERE request_id = 'r'", "overrun"),
        ("UPDATE calls SET detail = json_set(detail, '$.legs', json('[]')) WHERE request_id = 'r'", "legs"),
        ("UPDATE calls SET detail = json_set(detail, '$.legs[0][1]', 1) WHERE request_id = 'live'", "held by calls"),
        ("UPDATE calls SET lease_ends_ms = NULL WHERE request_id = 'live'", "live"),
        ("UPDATE calls SET state = 'released', lease_ends_ms = NULL WHERE request_id = 'live'", "held by calls"),
        ("DELETE FROM calls WHERE request_id = 'live'", "held by calls"),
        ("UPDATE packages SET number = 2", "granted"),
        ("INSERT INTO daily VALUES (1, 20000, 1, 5, 3, 1)", "used"),
        ("INSERT INTO daily VALUES (1, 20000, 9, 6, 3, 0)", "used"),
    ] {
        let desk = Desk::open();
        desk.grant("p", "c", "translate", "10");
        desk.call("c", "translate", "r");
        desk.hold("c", "translate", "live");
        assert_eq!(desk.get("/audit")["differences"], serde_json::json!([]));
        desk.book.database().execute(statement, &[]).unwrap();
        let audit = desk.get("/audit");
        assert_eq!(audit["balanced"], false, "{statement}");
        let differences = audit["differences"].as_array().unwrap();
        assert!(differences.iter().any(|difference| difference["what"] == what), "{statement}: {differences:?}");
    }
}
