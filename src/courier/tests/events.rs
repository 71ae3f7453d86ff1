//! Events on their way to webhooks: order, retries, the end of tries, endpoints that are gone or hang.

use std::collections::BTreeMap;

use super::{ALL, START_MS, World, config, deliveries, grant, granted, key, number, open, replied, run_all, run_until_quiet};
use crate::courier::{Outside, Reply, RunLimits, is_due, run};
use crate::ids::EventId;
use crate::store::outbox::{Endpoint, EndpointKind, enable, redeliver};
use crate::store::{Database, create_account};

const DAY_MS: i64 = 86_400_000;

#[test]
fn an_event_is_told_once_to_every_webhook_that_wants_to_know() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*"), (2, "package.*"), (3, "call.lost")]));
    let (world, book) = (World::answering(204), open(&folder, &config));
    grant(&world, &book, "alice", "p1");
    assert!(is_due(&book, &config, world.now_ms()).unwrap());
    let report = run_all(&world, &book, &config);
    assert_eq!((report.delivered, report.failed, report.more, report.next_due_ms), (2, 0, false, None));
    let seen = world.seen();
    assert_eq!(seen.iter().map(|seen| seen.url.as_str()).collect::<Vec<_>>(), ["http://h:1/", "http://h:2/"]);
    assert_eq!(seen[0].body["type"], "package.granted");
    assert_eq!(seen[0].body["timestamp"], "2027-01-15T08:00:00.000Z");
    assert_eq!(seen[0].body["data"]["package_id"], "p1");
    assert!(seen[0].id.starts_with("evt_") && seen[0].id == seen[1].id);
    assert!(!is_due(&book, &config, world.now_ms()).unwrap());
    assert_eq!(run_all(&world, &book, &config).delivered, 0);
    assert_eq!(world.seen().len(), 2);
    assert_eq!(number(&book, "SELECT count(*) FROM leases"), 0, "the lease is given back");
}

#[test]
fn an_event_that_nobody_wants_to_know_is_done_with() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[]));
    let (world, book) = (World::answering(204), open(&folder, &config));
    for number in 0..200 {
        grant(&world, &book, "alice", &format!("p{number}"));
    }
    let report = run_all(&world, &book, &config);
    assert_eq!((report.delivered, report.more), (0, false));
    assert_eq!(number(&book, "SELECT count(*) FROM events WHERE is_spread = 0"), 0);
    assert_eq!(number(&book, "SELECT count(*) FROM deliveries"), 0);
}

#[test]
fn a_customer_is_told_one_thing_after_the_other_and_customers_beside_each_other() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (world, book) = (World::new(|_, _| (100, replied(200))), open(&folder, &config));
    for number in 0..5 {
        for customer in 0..20 {
            grant(&world, &book, &format!("c{customer}"), &format!("p{customer}-{number}"));
        }
    }
    assert_eq!(run_all(&world, &book, &config).delivered, 100);
    let mut of_customers: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
    for seen in world.seen() {
        let package_id = seen.body["data"]["package_id"].as_str().unwrap().to_owned();
        of_customers.entry(seen.customer()).or_default().push((seen.at_ms, package_id));
    }
    assert_eq!(of_customers.len(), 20);
    for (customer, told) in of_customers {
        let expected: Vec<_> = (0..5).map(|number| format!("p{}-{number}", &customer[1..])).collect();
        assert_eq!(told.iter().map(|(_, package_id)| package_id.clone()).collect::<Vec<_>>(), expected);
        assert!(told.windows(2).all(|pair| pair[1].0 >= pair[0].0 + 100), "{told:?}");
    }
    assert_eq!(world.most_under_way.borrow()["http://h:1/"], 8);
}

#[test]
fn a_customer_with_a_thousand_things_to_be_told_keeps_no_other_waiting() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (world, book) = (World::new(|_, _| (1_000, replied(200))), open(&folder, &config));
    for number in 0..1_000 {
        grant(&world, &book, "many", &format!("m{number}"));
    }
    grant(&world, &book, "bob", "b");
    let limits = RunLimits { items_max: 5, ..ALL };
    assert_eq!(world.drive(run(&book, &config, &world, limits)).unwrap().delivered, 5);
    assert!(world.seen().iter().any(|seen| seen.customer() == "bob" && seen.at_ms < START_MS + 1_000), "{:?}", world.seen());
}

#[test]
fn a_post_that_fails_is_tried_again_by_the_table_and_given_up_after_it() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (world, book) = (World::answering(500), open(&folder, &config));
    grant(&world, &book, "alice", "p1");
    assert_eq!(run_until_quiet(&world, &book, &config), (0, 8));
    let seen = world.seen();
    for (pair, table_ms) in seen.windows(2).zip([5_000, 30_000, 120_000, 900_000, 3_600_000, 21_600_000, 86_400_000]) {
        let waited_ms = pair[1].at_ms - pair[0].at_ms;
        // What an answer takes and what a look may be late come on top.
        assert!((table_ms / 5 * 4..=table_ms / 5 * 6 + 600).contains(&waited_ms), "{waited_ms} for {table_ms}");
        assert_eq!((&pair[0].id, &pair[0].body), (&pair[1].id, &pair[1].body), "the same message each time");
    }
    assert_eq!(deliveries(&book)[0].2, "dead");
    assert_eq!(number(&book, "SELECT last_status FROM deliveries"), 500);
}

#[test]
fn what_is_dead_can_be_delivered_again_and_what_arrived_elsewhere_is_left_alone() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*"), (2, "*")]));
    let (dead, book) =
        (World::new(|seen, _| (5, replied(if seen.url == "http://h:1/" { 404 } else { 200 }))), open(&folder, &config));
    grant(&dead, &book, "alice", "p1");
    assert_eq!(run_until_quiet(&dead, &book, &config), (1, 8));
    let states = |book| deliveries(book).into_iter().map(|(_, _, state, attempts)| (state, attempts)).collect::<Vec<_>>();
    assert_eq!(states(&book), [("dead".to_owned(), 8), ("delivered".to_owned(), 1)]);

    let id = EventId::new(&dead.seen()[0].id).unwrap();
    let alive = World::answering(200);
    assert!(redeliver(book.database(), &id, START_MS).unwrap());
    assert_eq!(run_all(&alive, &book, &config).delivered, 1);
    assert_eq!(states(&book), [("delivered".to_owned(), 1), ("delivered".to_owned(), 1)]);

    assert!(redeliver(book.database(), &id, START_MS).unwrap());
    assert_eq!(run_all(&alive, &book, &config).delivered, 2, "what arrived everywhere is told everywhere again");
    assert!(alive.seen().iter().all(|seen| seen.id == id.as_str()));
    assert!(!redeliver(book.database(), &EventId::new("evt_0").unwrap(), START_MS).unwrap());
}

#[test]
fn an_event_is_delivered_again_to_a_webhook_that_was_not_there_before() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (config(&[]), config(&[(1, "*")]));
    let (world, book) = (World::answering(200), open(&folder, &before));
    grant(&world, &book, "alice", "p1");
    run_all(&world, &book, &before);
    let id = book.database().execute("SELECT event_id FROM events", &[]).unwrap()[0][0].text().unwrap().to_owned();
    assert_eq!(run_all(&world, &book, &after).delivered, 0, "what is over is not told to newcomers");
    assert!(redeliver(book.database(), &EventId::new(&id).unwrap(), START_MS).unwrap());
    assert_eq!(run_all(&world, &book, &after).delivered, 1);
}

#[test]
fn a_receiver_that_is_gone_is_left_alone_until_it_is_enabled_and_then_told_everything() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*"), (2, "*")]));
    let book = open(&folder, &config);
    let world = World::new(|seen, _| (5, replied(if seen.url == "http://h:1/" { 410 } else { 200 })));
    grant(&world, &book, "alice", "p1");
    let report = run_all(&world, &book, &config);
    assert_eq!((report.delivered, report.failed, report.more, report.next_due_ms), (1, 1, false, None));
    for number in 2..5 {
        grant(&world, &book, "alice", &format!("p{number}"));
    }
    assert_eq!(run_all(&world, &book, &config).delivered, 3);
    assert_eq!(world.seen().iter().filter(|seen| seen.url == "http://h:1/").count(), 1);

    let back = World::answering(200);
    back.now_ms.set(world.now_ms());
    enable(book.database(), Endpoint { kind: EndpointKind::Webhook, url: "http://h:1/" }).unwrap();
    assert!(is_due(&book, &config, back.now_ms()).unwrap());
    assert_eq!(run_all(&back, &book, &config).delivered, 4);
    let told: Vec<_> = back.seen().iter().map(|seen| seen.body["data"]["package_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, ["p1", "p2", "p3", "p4"]);
}

#[test]
fn a_receiver_may_ask_for_more_time() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let book = open(&folder, &config);
    let world = World::new(|_, before| match before {
        0 => (5, Ok(Reply { status: 429, retry_after: Some("42".to_owned()), body: None })),
        _ => (5, replied(200)),
    });
    grant(&world, &book, "alice", "p1");
    let limits = RunLimits { stay_ms: 60_000, ..ALL };
    assert_eq!(world.drive(run(&book, &config, &world, limits)).unwrap().delivered, 1);
    let seen = world.seen();
    assert!((42_000..43_000).contains(&(seen[1].at_ms - seen[0].at_ms)), "{seen:?}");
}

#[test]
fn a_receiver_that_hangs_holds_up_nobody_else_and_is_given_ten_seconds() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*"), (2, "*")]));
    let book = open(&folder, &config);
    let world = World::new(|seen, _| (if seen.url == "http://h:1/" { DAY_MS } else { 30 }, replied(200)));
    for number in 0..40 {
        grant(&world, &book, &format!("c{number}"), &format!("p{number}"));
    }
    let report = world.drive(run(&book, &config, &world, RunLimits { time_max_ms: 10_500, ..ALL })).unwrap();
    assert_eq!((report.delivered, report.failed), (40, 16));
    let seen = world.seen();
    let last_ms = seen.iter().filter(|seen| seen.url == "http://h:2/").map(|seen| seen.at_ms).max().unwrap();
    assert!(last_ms < START_MS + 1_000, "{}", last_ms - START_MS);
    let hung: Vec<_> = seen.iter().filter(|seen| seen.url == "http://h:1/").map(|seen| seen.at_ms - START_MS).collect();
    assert!(hung[..8].iter().all(|at_ms| *at_ms < 1_000) && hung[8] >= 10_000 && hung[8] < 11_000, "{hung:?}");
    assert_eq!(world.most_under_way.borrow()["http://h:1/"], 8);
    let error = book
        .database()
        .execute("SELECT DISTINCT last_error, last_status FROM deliveries WHERE state = 'waiting' AND attempts > 0", &[])
        .unwrap();
    assert_eq!(error, [["no answer in time".into(), None::<i64>.into()]]);
}

#[test]
fn a_retry_that_is_pending_holds_up_nothing_that_comes_after_it() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let book = open(&folder, &config);
    let world =
        World::new(|seen, before| (5, replied(if seen.body["data"]["package_id"] == "p1" && before == 0 { 503 } else { 200 })));
    grant(&world, &book, "alice", "p1");
    grant(&world, &book, "alice", "p2");
    let report = run_all(&world, &book, &config);
    assert_eq!((report.delivered, report.failed, report.more), (1, 1, false));
    assert!(report.next_due_ms.is_some_and(|next_ms| (START_MS + 4_000..START_MS + 6_100).contains(&next_ms)));
}

#[test]
fn a_run_keeps_its_limits_and_says_that_more_is_left() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let book = open(&folder, &config);
    let world = World::new(|_, _| (1_000, replied(200)));
    for number in 0..30 {
        grant(&world, &book, &format!("c{number}"), &format!("p{number}"));
    }
    let few = world.drive(run(&book, &config, &world, RunLimits { items_max: 3, ..ALL })).unwrap();
    assert_eq!((few.delivered, few.more), (3, true));
    let started_ms = world.now_ms();
    let short = world.drive(run(&book, &config, &world, RunLimits { time_max_ms: 1_500, ..ALL })).unwrap();
    assert_eq!((short.delivered, short.more), (16, true));
    assert!(world.now_ms() - started_ms < 2_600, "{}", world.now_ms() - started_ms);
    assert_eq!(run_all(&world, &book, &config).delivered, 11);
}

#[test]
fn who_waits_for_a_retry_sends_what_is_written_meanwhile() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (book, other) = (open(&folder, &config), open(&folder, &config));
    let world = World::new(|_, before| (5, replied(if before == 0 { 500 } else { 200 })));
    grant(&world, &book, "alice", "p1");
    let writer = async {
        world.pause_ms(1_000).await;
        create_account(other.database(), &key("bob"), world.now_ms()).unwrap();
        other.submit(&key("bob"), granted("p2"), world.now_ms()).await.unwrap();
    };
    let limits = RunLimits { stay_ms: 60_000, ..ALL };
    let (report, ()) = world.drive(async { futures::future::join(run(&book, &config, &world, limits), writer).await });
    assert_eq!(report.unwrap().delivered, 2);
    let seen = world.seen();
    assert!(seen[1].customer() == "bob" && seen[1].at_ms <= START_MS + 1_300, "{seen:?}");
}
