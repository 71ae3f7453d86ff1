//! Granting, reading and changing packages.

use crate::support::buyer::{quantity, units};
use crate::support::{Suite, fresh, in_seconds};
use serde_json::{Value, json};
use std::sync::Arc;

crate::cases! {
    a_package_is_granted_once_and_again_is_the_same,
    a_different_package_under_the_same_id_conflicts,
    concurrent_grants_of_one_package_grant_it_once,
    a_package_has_every_member_of_the_contract,
    quantities_are_exact_and_written_plainly,
    a_quantity_that_is_none_is_refused,
    what_a_customer_was_granted_of_a_product_has_a_maximum,
    a_date_that_does_not_exist_is_refused,
    times_are_given_back_as_the_moment_they_are,
    unknown_and_missing_members_are_refused,
    members_of_the_wrong_type_are_refused,
    a_body_that_is_not_json_is_refused,
    an_unknown_product_is_refused,
    an_id_in_a_path_follows_the_rules_of_ids,
    an_unknown_package_is_not_found,
    expiry_and_priority_can_be_changed,
    nothing_else_of_a_package_can_be_changed,
    an_expired_package_lives_again_when_its_expiry_moves,
    a_package_that_ends_before_it_starts_is_refused,
}

async fn a_package_is_granted_once_and_again_is_the_same(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let path = format!("/packages/{}", fresh("package"));
    let mut package = buyer.package("1000");
    package["order_id"] = json!("CS-1");
    let first = buyer.gateway.write("PUT", &path, &package).await;
    assert_eq!(first.status, 201, "{}", first.text());
    buyer.spend(1).await;
    buyer.expect_used("1").await;
    // The same grant is the same whatever was spent since, and however its quantity is written.
    for same in ["1000", "1000.0", "1000.0000"] {
        package["quantity"] = json!(same);
        let again = buyer.gateway.write("PUT", &path, &package).await;
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.json()["package_id"], first.json()["package_id"]);
    }
    assert_eq!(units(&buyer.balance().await["granted"]), quantity("1000"));
}

async fn a_different_package_under_the_same_id_conflicts(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let path = format!("/packages/{}", fresh("package"));
    let package = buyer.package("10");
    assert_eq!(buyer.gateway.write("PUT", &path, &package).await.status, 201);
    let different = [
        ("quantity", json!("11")),
        ("customer_id", json!(fresh("customer"))),
        ("product_id", json!("nested")),
        ("expires_at", json!(in_seconds(9000))),
        ("priority", json!(3)),
        ("order_id", json!("other")),
    ];
    for (member, value) in different {
        let mut other = package.clone();
        other[member] = value;
        buyer.gateway.write("PUT", &path, &other).await.problem(409, "conflict");
    }
    assert_eq!(units(&buyer.balance().await["granted"]), quantity("10"));
}

async fn concurrent_grants_of_one_package_grant_it_once(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let path = format!("/packages/{}", fresh("package"));
    let mut grants = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (gateway, path, package) = (buyer.gateway.clone(), path.clone(), buyer.package("10"));
        grants.spawn(async move { gateway.write("PUT", &path, &package).await.status });
    }
    let mut statuses = grants.join_all().await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[18], statuses[19]), (200, 200, 201));
    assert_eq!(units(&buyer.balance().await["granted"]), quantity("10"));
}

async fn a_package_has_every_member_of_the_contract(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let id = buyer.grant_and("10.5", json!({ "priority": -2, "order_id": "CS-7" })).await;
    buyer.spend(1).await;
    buyer.expect_used("1").await;
    let package = buyer.package_state(&id).await;
    let expected = json!({
        "package_id": id, "customer_id": buyer.id, "product_id": "translate", "kind": "prepaid", "unit": "call", "granted": "10.5",
        "used": "1", "held": "0", "remaining": "9.5", "state": "active", "expires_at": null, "priority": -2, "order_id": "CS-7",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&package[name], value, "{name} in {package}");
    }
    for name in ["starts_at", "created_at"] {
        assert!(package.get(name).is_some(), "{name} in {package}");
    }
    assert!(package["created_at"].as_str().unwrap().ends_with('Z'), "{package}");
}

async fn quantities_are_exact_and_written_plainly(suite: Arc<Suite>) {
    for (written, plain) in
        [("0.0001", "0.0001"), ("1.10", "1.1"), ("123456789.0125", "123456789.0125"), ("900000000000", "900000000000")]
    {
        let buyer = suite.stranger("translate").await;
        let package = buyer.grant(written).await;
        assert_eq!(buyer.package_state(&package).await["granted"], plain);
        assert_eq!(buyer.balance().await["available"], plain);
    }
}

async fn a_quantity_that_is_none_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let texts = [
        "1.00001",
        "-1",
        "-0.5",
        "1e3",
        "1E3",
        "NaN",
        "nan",
        "Infinity",
        "",
        " 1",
        "1 ",
        "+1",
        "1,5",
        "0x10",
        ".5",
        "1.",
        "1..2",
        "٣",
        "1_000",
        "900000000000.0001",
        "900000000001",
        "99999999999999999999999999999999999999",
        "0",
        "0.0000",
    ];
    let values: Vec<Value> = texts
        .into_iter()
        .map(Value::from)
        .chain([json!(5), json!(1.5), json!(null), json!([]), json!({}), json!(true)])
        .collect();
    for value in values {
        let mut package = buyer.package("1");
        package["quantity"] = value.clone();
        let reply = buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &package).await;
        assert_ne!(reply.status, 201, "{value} was granted");
        reply.assert_invalid();
    }
    buyer.call().send().await.problem(403, "no_package");
}

async fn what_a_customer_was_granted_of_a_product_has_a_maximum(suite: Arc<Suite>) {
    let buyer = suite.buyer("translate", "899999999999").await;
    let reply = buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &buyer.package("1.0001")).await;
    assert!(matches!(reply.status, 400 | 409 | 422), "{} {}", reply.status, reply.text());
    buyer.grant("1").await;
    assert_eq!(buyer.balance().await["granted"], "900000000000");
}

async fn a_date_that_does_not_exist_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let dates = [
        json!("2027-02-30T00:00:00Z"),
        json!("2027-02-29T00:00:00Z"),
        json!("2027-13-01T00:00:00Z"),
        json!("2027-00-10T00:00:00Z"),
        json!("2027-01-32T00:00:00Z"),
        json!("2027-01-01T24:00:01Z"),
        json!("2027-01-01T00:60:00Z"),
        json!("2027-01-01"),
        json!("2027-01-01T00:00:00"),
        json!("tomorrow"),
        json!(""),
        json!(1_800_000_000),
    ];
    for member in ["starts_at", "expires_at"] {
        for date in &dates {
            let mut package = buyer.package("1");
            package[member] = date.clone();
            let reply = buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &package).await;
            assert_ne!(reply.status, 201, "{date} was accepted");
            reply.assert_invalid();
        }
    }
}

async fn times_are_given_back_as_the_moment_they_are(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let id = buyer.grant_and("1", json!({ "starts_at": "2024-02-29T23:59:59Z", "expires_at": "2096-02-29T00:00:00Z" })).await;
    let package = buyer.package_state(&id).await;
    for (member, moment) in [("starts_at", "2024-02-29T23:59:59"), ("expires_at", "2096-02-29T00:00:00")] {
        let text = package[member].as_str().unwrap();
        let fraction = text.strip_prefix(moment).and_then(|rest| rest.strip_suffix('Z'));
        assert!(fraction.is_some_and(|rest| rest.trim_matches(['.', '0']).is_empty()), "{text}");
    }
}

async fn unknown_and_missing_members_are_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let mut bodies = vec![json!({})];
    for missing in ["customer_id", "product_id", "quantity"] {
        let mut package = buyer.package("1");
        package.as_object_mut().unwrap().remove(missing);
        bodies.push(package);
    }
    for (member, value) in [("unknown", json!(1)), ("granted", json!("5")), ("Priority", json!(1)), ("kind", json!("free"))] {
        let mut package = buyer.package("1");
        package[member] = value;
        bodies.push(package);
    }
    for body in bodies {
        let reply = buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &body).await;
        assert_ne!(reply.status, 201, "{body} was accepted");
        reply.assert_invalid();
    }
}

async fn members_of_the_wrong_type_are_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let wrong = [
        ("customer_id", json!(5)),
        ("customer_id", json!("..")),
        ("customer_id", json!("a b")),
        ("customer_id", json!("x".repeat(129))),
        ("customer_id", json!("kunde-ö")),
        ("priority", json!("1")),
        ("priority", json!(1.5)),
        ("priority", json!(1e300)),
        ("order_id", json!(7)),
        ("kind", json!(null)),
    ];
    for (member, value) in wrong {
        let mut package = buyer.package("1");
        package[member] = value.clone();
        let reply = buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &package).await;
        // An optional member that is null may count as absent.
        if !(value.is_null() && reply.status == 201) {
            assert_ne!(reply.status, 201, "{member}: {value} was accepted");
            reply.assert_invalid();
        }
    }
}

async fn a_body_that_is_not_json_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let deep = "[".repeat(50_000);
    let good = buyer.package("1").to_string();
    let (cut, twice) = (&good[..good.len() - 1], format!("{good}{good}"));
    let bodies: [&[u8]; 10] =
        [b"", b"{", b"null", b"[]", b"\"x\"", b"\xff\xfe{}", b"a=1&b=2", deep.as_bytes(), cut.as_bytes(), twice.as_bytes()];
    for body in bodies {
        let reply = buyer.gateway.control("PUT", &format!("/packages/{}", fresh("package"))).body(body).send().await;
        reply.assert_invalid();
    }
    let huge = format!("{{\"customer_id\":\"{}\"}}", "x".repeat(3_000_000));
    if let Ok(reply) = buyer.gateway.control("PUT", "/packages/huge").body(huge).try_send().await {
        assert!(matches!(reply.status, 400 | 413 | 422), "{}", reply.status);
    }
}

async fn an_unknown_product_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("nothing-of-the-kind").await;
    let reply = buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &buyer.package("1")).await;
    assert!(matches!(reply.status, 400 | 404 | 422), "{} {}", reply.status, reply.text());
}

async fn an_id_in_a_path_follows_the_rules_of_ids(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    for id in ["a%20b", "%C3%B6", "%2e%2e", "%2e", &"x".repeat(129), "%00", "%zz", "a%0ab"] {
        let reply = buyer.gateway.write("PUT", &format!("/packages/{id}"), &buyer.package("1")).await;
        assert!(matches!(reply.status, 400 | 404 | 422), "{id}: {} {}", reply.status, reply.text());
    }
    let odd = fresh("a/b?c#d%");
    let encoded = odd.replace('%', "%25").replace('/', "%2F").replace('?', "%3F").replace('#', "%23");
    let reply = buyer.gateway.write("PUT", &format!("/packages/{encoded}"), &buyer.package("1")).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(buyer.package_state(&encoded).await["package_id"], odd.as_str());
}

async fn an_unknown_package_is_not_found(suite: Arc<Suite>) {
    let gateway = suite.gateway().await;
    let path = format!("/packages/{}", fresh("package"));
    gateway.control("GET", &path).send().await.problem(404, "not_found");
    gateway.write("PATCH", &path, &json!({ "priority": 1 })).await.problem(404, "not_found");
    for action in ["freeze", "unfreeze", "release"] {
        gateway.write("POST", &format!("{path}/{action}"), &json!({})).await.problem(404, "not_found");
    }
    let adjustment = json!({ "adjustment_id": fresh("adjustment"), "quantity": "1", "reason": "x" });
    gateway.write("POST", &format!("{path}/adjustments"), &adjustment).await.problem(404, "not_found");
}

async fn expiry_and_priority_can_be_changed(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let first = buyer.grant("5").await;
    let second = buyer.grant("5").await;
    let change = json!({ "priority": -1, "expires_at": "2096-01-01T00:00:00Z" });
    for _ in 0..2 {
        let reply = buyer.gateway.write("PATCH", &format!("/packages/{second}"), &change).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["priority"], -1);
    }
    assert!(buyer.package_state(&second).await["expires_at"].as_str().unwrap().starts_with("2096-01-01T00:00:00"));
    buyer.spend(1).await;
    buyer.expect_used("1").await;
    assert_eq!(units(&buyer.package_state(&first).await["used"]), 0);
    assert_eq!(units(&buyer.package_state(&second).await["used"]), 10_000);
}

async fn nothing_else_of_a_package_can_be_changed(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let id = buyer.grant("5").await;
    let changes = [
        json!({ "quantity": "9" }),
        json!({ "state": "active" }),
        json!({ "priority": "1" }),
        json!({ "expires_at": "never" }),
        json!([]),
    ];
    for change in changes {
        buyer.gateway.write("PATCH", &format!("/packages/{id}"), &change).await.assert_invalid();
    }
    assert_eq!(units(&buyer.package_state(&id).await["granted"]), quantity("5"));
}

async fn an_expired_package_lives_again_when_its_expiry_moves(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let past = json!({ "starts_at": "2020-01-01T00:00:00Z", "expires_at": "2021-01-01T00:00:00Z" });
    let id = buyer.grant_and("5", past).await;
    assert_eq!(buyer.package_state(&id).await["state"], "expired");
    let reply = buyer.gateway.write("PATCH", &format!("/packages/{id}"), &json!({ "expires_at": in_seconds(3600) })).await;
    assert_eq!((reply.status, &reply.json()["state"]), (200, &json!("active")));
    buyer.spend(1).await;
}

async fn a_package_that_ends_before_it_starts_is_refused(suite: Arc<Suite>) {
    let buyer = suite.stranger("translate").await;
    let mut package = buyer.package("1");
    package["starts_at"] = json!("2030-01-02T00:00:00Z");
    package["expires_at"] = json!("2030-01-01T00:00:00Z");
    buyer.gateway.write("PUT", &format!("/packages/{}", fresh("package")), &package).await.assert_invalid();
}
