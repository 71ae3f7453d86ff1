//! Events, their deliveries, and the endpoints that are told.

use serde_json::{Value, json};

use super::{Desk, NEW_YEAR_MS, refusal};
use crate::store::Database;

/// A customer who was granted one unit and has used it: `package.granted`, `balance.low` twice, `package.exhausted`, `balance.exhausted`.
fn exhausted(desk: &Desk, customer_id: &str) {
    desk.grant(&format!("p-{customer_id}"), customer_id, "translate", "2");
    desk.call(customer_id, "translate", "r1");
    desk.call(customer_id, "translate", "r2");
}

fn types(events: &Value) -> Vec<&str> {
    events["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[test]
fn an_event_shows_what_happened_and_to_whom_it_was_told() {
    let desk = Desk::told();
    desk.grant("p", "c", "translate", "2");
    let event = desk.get("/events")["events"][0].clone();
    let mut expected = json!({
        "event_id": event["event_id"], "type": "package.granted", "timestamp": "2026-01-01T00:00:00.000Z",
        "data": { "customer_id": "c", "product_id": "translate", "package_id": "p" }, "deliveries": [],
    });
    assert_eq!(event, expected);
    assert_eq!((&desk.tick()["delivered"], desk.receiver.posts.borrow().len()), (&1.into(), 1));
    expected["deliveries"] = json!([{
        "webhook": 1, "url": "http://127.0.0.1:9/all?key=s3cret", "state": "delivered", "attempts": 1, "next_at": null, "last_status": 200,
        "last_error": null, "delivered_at": "2026-01-01T00:00:00.000Z",
    }]);
    assert_eq!(desk.get("/events")["events"][0], expected);
}

#[test]
fn an_url_is_shown_whole_to_the_admin_token_alone() {
    let desk = Desk::told();
    desk.grant("p", "c", "translate", "2");
    desk.tick();
    for path in ["/_tollgate/v1/events", "/_tollgate/v1/webhooks"] {
        let shown = desk.send("GET", path, Some("Bearer read-token"), "").body;
        assert!(shown.contains("\"http://127.0.0.1:9\"") && !shown.contains("s3cret"), "{shown}");
        assert!(desk.send("GET", path, Some("Bearer admin-token"), "").body.contains("s3cret"));
    }
}

#[test]
fn events_are_listed_newest_first_by_customer_type_and_delivery() {
    let desk = Desk::told();
    for customer_id in ["a", "b"] {
        exhausted(&desk, customer_id);
    }
    desk.grant("chat-a", "a", "chat", "1");
    let all = desk.get("/events?customer_id=a");
    assert_eq!(types(&all).last(), Some(&"package.granted"));
    assert!(types(&all).contains(&"balance.low") && types(&all).contains(&"balance.exhausted"), "{all}");
    let in_order = desk.walk("/events?limit=500", "events", "event_id").0;
    for limit in [1, 2, 7, 500] {
        let walk = |filter: &str| desk.walk(&format!("/events?limit={limit}{filter}"), "events", "event_id").0;
        assert_eq!(walk(""), in_order);
        let (of_a, of_b) = (walk("&customer_id=a"), walk("&customer_id=b"));
        assert_eq!(of_a.len() + of_b.len(), in_order.len());
        assert!(in_order.iter().filter(|id| of_a.contains(id)).eq(&of_a));
        assert_eq!(walk("&customer_id=a&type=package.granted").len(), 2);
        assert_eq!(walk("&type=balance.exhausted").len(), 2);
        assert_eq!(walk("&delivery=waiting"), in_order);
    }
    desk.receiver.status.set(500);
    desk.tick();
    desk.receiver.status.set(200);
    assert_eq!(desk.walk("/events?delivery=waiting", "events", "event_id").0, in_order);
    desk.book.database().execute("UPDATE deliveries SET state = 'dead' WHERE url LIKE '%balance'", &[]).unwrap();
    let dead = desk.get("/events?delivery=dead&customer_id=a");
    assert!(!types(&dead).is_empty() && types(&dead).iter().all(|kind| kind.starts_with("balance.")), "{dead}");
    assert!(types(&desk.get("/events?delivery=delivered")).is_empty() && types(&desk.get("/events?delivery=none")).is_empty());
    for query in ["type=balance", "type=", "delivery=lost", "cursor=x", "customer_id=a%20b", "state=waiting"] {
        assert_eq!(refusal(&desk.ask("GET", &format!("/events?{query}"), "")), (400, "invalid".to_owned()), "{query}");
    }
}

#[test]
fn an_event_that_concerns_nobody_has_no_deliveries() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "2");
    assert_eq!(types(&desk.get("/events?delivery=waiting")), ["package.granted"]);
    desk.tick();
    assert_eq!(types(&desk.get("/events?delivery=none")), ["package.granted"]);
    assert!(types(&desk.get("/events?delivery=waiting")).is_empty());
}

#[test]
fn events_written_while_a_list_is_read_move_nothing_in_it() {
    let desk = Desk::open();
    for package_id in ["p1", "p2", "p3"] {
        desk.grant(package_id, "c", "translate", "2");
    }
    let first = desk.get("/events?limit=2");
    desk.grant("newer", "c", "translate", "2");
    let next = first["next_cursor"].as_str().unwrap();
    let second = desk.get(&format!("/events?limit=2&cursor={next}"));
    let packages = |page: &Value| -> Vec<String> {
        page["events"].as_array().unwrap().iter().map(|event| event["data"]["package_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((packages(&first), packages(&second)), (vec!["p3".to_owned(), "p2".to_owned()], vec!["p1".to_owned()]));
    assert!(second["next_cursor"].is_null());
}

#[test]
fn what_is_dead_or_delivered_is_delivered_again() {
    let mut desk = Desk::told();
    desk.grant("p", "c", "translate", "2");
    desk.receiver.status.set(500);
    for _ in 0..20 {
        desk.tick();
        desk.now_ms += 2 * 86_400_000;
    }
    let event = desk.get("/events?delivery=dead")["events"][0].clone();
    let path = format!("/events/{}/redeliver", event["event_id"].as_str().unwrap());
    desk.receiver.status.set(204);
    for _ in 0..2 {
        let waiting = desk.write("POST", &path, "{}");
        assert_eq!((&waiting["deliveries"][0]["state"], &waiting["deliveries"][0]["attempts"]), (&"waiting".into(), &0.into()));
    }
    assert_eq!(desk.tick()["delivered"], 1);
    desk.write("POST", &path, "");
    assert_eq!(desk.tick()["delivered"], 1);
    assert_eq!(desk.get("/events")["events"][0]["deliveries"][0]["state"], "delivered");
    assert_eq!(refusal(&desk.ask("POST", "/events/none/redeliver", "")), (404, "not_found".to_owned()));
    assert_eq!(refusal(&desk.ask("POST", &path, "{\"x\":1}")), (400, "invalid".to_owned()));
}

#[test]
fn an_endpoint_that_is_gone_is_listed_and_enabled_again() {
    let mut desk = Desk::told();
    let webhook = |desk: &Desk| desk.get("/webhooks")["webhooks"][0].clone();
    let expected = json!({
        "n": 1, "url": "http://127.0.0.1:9/all?key=s3cret", "events": ["*"], "state": "enabled", "reason": null, "disabled_at": null,
        "backlog": 0, "oldest_waiting_at": null, "dead": 0,
    });
    assert_eq!(webhook(&desk), expected);
    assert_eq!(desk.get("/webhooks")["webhooks"][1]["events"], json!(["balance.*"]));
    desk.receiver.status.set(410);
    desk.grant("p", "c", "translate", "2");
    desk.tick();
    desk.now_ms += 60_000;
    desk.grant("q", "c", "translate", "2");
    desk.tick();
    let disabled = webhook(&desk);
    assert_eq!((&disabled["state"], &disabled["disabled_at"]), (&"disabled".into(), &"2026-01-01T00:00:00.000Z".into()));
    assert_eq!((&disabled["backlog"], &disabled["oldest_waiting_at"]), (&2.into(), &"2026-01-01T00:00:00.000Z".into()));
    assert!(disabled["reason"].is_string(), "{disabled}");
    assert_eq!(desk.receiver.posts.borrow().len(), 1);
    desk.receiver.status.set(200);
    for _ in 0..2 {
        let enabled = desk.write("POST", "/webhooks/1/enable", "");
        assert_eq!((&enabled["state"], &enabled["reason"], &enabled["backlog"]), (&"enabled".into(), &Value::Null, &2.into()));
    }
    assert_eq!(desk.tick()["delivered"], 2);
    assert_eq!(webhook(&desk), expected);
    for (status, n) in [(404, "3"), (400, "0"), (400, "x"), (400, "-1"), (400, "01"), (400, "99999999999999999999")] {
        assert_eq!(refusal(&desk.ask("POST", &format!("/webhooks/{n}/enable"), "")).0, status, "{n}");
    }
}

#[test]
fn endpoints_are_listed_page_by_page() {
    let desk = Desk::told();
    let first = desk.get("/webhooks?limit=1");
    assert_eq!((first["webhooks"].as_array().unwrap().len(), &first["webhooks"][0]["n"]), (1, &1.into()));
    let second = desk.get(&format!("/webhooks?limit=1&cursor={}", first["next_cursor"].as_str().unwrap()));
    assert_eq!((&second["webhooks"][0]["n"], &second["next_cursor"]), (&2.into(), &Value::Null));
}

#[test]
fn a_filter_that_few_events_pass_is_walked_in_bounded_steps_to_the_end() {
    let desk = Desk::open();
    desk.grant("p", "c", "translate", "2");
    desk.grant("q", "c", "chat", "2");
    let statement = "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 25009)
        INSERT INTO events SELECT i, 'e' || i, 1 + i % 2, iif(i % 12000 = 0, 'call.lost', 'call.overrun'), i, '{}', 1 FROM n";
    desk.book.database().execute(statement, &[]).unwrap();
    let (seen, pages) = desk.walk("/events?type=call.lost", "events", "event_id");
    assert_eq!((seen, pages), (vec!["e24000".to_owned(), "e12000".to_owned()], 3));
    let (seen, pages) = desk.walk("/events?type=call.lost&customer_id=c", "events", "event_id");
    assert_eq!((seen, pages), (vec!["e24000".to_owned(), "e12000".to_owned()], 2));
}

#[test]
fn metrics_show_the_backlog_of_each_endpoint_and_the_orders() {
    let mut desk = Desk::told();
    desk.receiver.status.set(500);
    exhausted(&desk, "c");
    let path = "/customers/c/products/translate/rules";
    desk.write("PUT", path, &json!({ "repurchase": super::rules::rule() }).to_string());
    desk.grant("p", "d", "chat", "1");
    desk.tick();
    desk.grant("q", "d", "chat", "1");
    desk.now_ms = NEW_YEAR_MS + 4_000;
    let shown = desk.ask("GET", "/metrics", "").body;
    for line in [
        "# TYPE tollgate_deliveries_waiting gauge",
        "tollgate_deliveries_waiting{webhook=\"repurchase\"} 1",
        "tollgate_deliveries_oldest_seconds{webhook=\"1\"} 4",
        "tollgate_deliveries_dead{webhook=\"2\"} 0",
        "tollgate_endpoint_enabled{webhook=\"1\"} 1",
        "tollgate_events_unspread 1",
        "tollgate_repurchases{state=\"requested\"} 1",
    ] {
        assert!(shown.lines().any(|one| one == line), "{line} in\n{shown}");
    }
    assert!(!shown.contains("s3cret") && !shown.contains("127.0.0.1"));
}

#[test]
fn every_type_of_event_is_described() {
    let described = include_str!("../../../openapi.yaml").lines().skip_while(|line| *line != "    EventType:").skip(3);
    let described: Vec<_> = described.map_while(|line| line.trim().strip_prefix("- ")).collect();
    assert_eq!(described, crate::config::EVENT_TYPES);
}
