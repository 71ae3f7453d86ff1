//! Several couriers on one ledger: one sends at a time, and what one leaves behind another finds.

use std::collections::BTreeSet;

use super::{ALL, START_MS, World, config, deliveries, grant, number, open, replied, run_all};
use crate::courier::{Outside, RunLimits, run};
use crate::store::Database;
use crate::store::outbox::take_lease;

#[test]
fn of_two_couriers_at_once_one_sends_each_message_once() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*"), (2, "*")]));
    let books = [open(&folder, &config), open(&folder, &config)];
    let world = World::new(|_, _| (70, replied(200)));
    for number in 0..60 {
        grant(&world, &books[number % 2], &format!("c{}", number % 20), &format!("p{number}"));
    }
    // Both look again and again, as instances with fresh events do.
    let courier = |place: usize| {
        let (book, config, world) = (&books[place], &config, &world);
        async move {
            let mut delivered = 0;
            loop {
                let report = run(book, config, world, RunLimits { items_max: 10, ..ALL }).await.unwrap();
                delivered += report.delivered;
                if !report.more {
                    return delivered;
                }
                world.pause_ms(10).await;
            }
        }
    };
    let (first, second) = world.drive(async { futures::future::join(courier(0), courier(1)).await });
    assert!(first > 0 && second > 0, "both had their turn: {first} and {second}");
    assert_eq!(first + second, 120);
    assert!(world.counts().values().all(|count| *count == 1), "{:?}", world.counts());
    assert_eq!(world.counts().len(), 120);
}

#[test]
fn who_finds_the_lease_taken_sends_nothing_and_says_that_something_is_due() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (world, book) = (World::answering(200), open(&folder, &config));
    grant(&world, &book, "alice", "p1");
    assert!(take_lease(book.database(), "courier", "other", START_MS, START_MS + 5_000).unwrap());
    let report = run_all(&world, &book, &config);
    assert_eq!((report.delivered, report.more, world.seen().len()), (0, true, 0));
    // The other one died, and nobody waits for longer than its lease.
    world.now_ms.set(START_MS + 5_000);
    assert_eq!(run_all(&world, &book, &config).delivered, 1);
}

#[test]
fn who_loses_the_lease_stops_and_leaves_what_was_under_way_to_the_next() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (book, other) = (open(&folder, &config), open(&folder, &config));
    let world = World::new(|_, before| (if before == 0 { 9_000 } else { 5 }, replied(200)));
    for number in 0..20 {
        grant(&world, &book, &format!("c{number}"), &format!("p{number}"));
    }
    let thief = async {
        world.pause_ms(500).await;
        // As if the first one had been asleep for so long that its lease had ended.
        other.database().execute("UPDATE leases SET until_ms = 0", &[]).unwrap();
        let now_ms = world.now_ms();
        assert!(take_lease(other.database(), "courier", "other", now_ms, now_ms + 5_000).unwrap());
    };
    let (report, ()) = world.drive(async { futures::future::join(run(&book, &config, &world, ALL), thief).await });
    assert_eq!((report.as_ref().unwrap().delivered, report.unwrap().more), (0, true));
    assert!(world.now_ms() < START_MS + 2_000, "it noticed within its renewal: {}", world.now_ms() - START_MS);
    assert_eq!(world.seen().len(), 8);
    assert!(world.under_way.borrow().is_empty(), "what was under way is dropped");
    assert!(deliveries(&book).iter().all(|(_, _, state, attempts)| state == "waiting" && *attempts == 0));
    assert_eq!(number(&book, "SELECT count(*) FROM leases WHERE holder = 'other'"), 1, "the other's lease is left alone");

    world.now_ms.set(world.now_ms() + 60_000);
    assert_eq!(run_all(&world, &other, &config).delivered, 20);
}

#[test]
fn a_lease_that_a_wrong_clock_made_keeps_nobody_from_sending() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (world, book) = (World::answering(200), open(&folder, &config));
    grant(&world, &book, "alice", "p1");
    // Its holder died while the clock was a day ahead.
    let ahead_ms = START_MS + 86_400_000;
    assert!(take_lease(book.database(), "courier", "dead", ahead_ms, ahead_ms + 5_000).unwrap());
    assert_eq!(run_all(&world, &book, &config).delivered, 1);
}

#[test]
fn the_lease_is_kept_for_as_long_as_something_is_under_way() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (book, other) = (open(&folder, &config), open(&folder, &config));
    let world = World::new(|_, _| (9_500, replied(200)));
    grant(&world, &book, "alice", "p1");
    let rival = async {
        let mut tries = BTreeSet::new();
        for _ in 0..18 {
            world.pause_ms(500).await;
            tries.insert(run(&other, &config, &world, ALL).await.unwrap().delivered);
        }
        tries
    };
    let (report, rival) = world.drive(async { futures::future::join(run(&book, &config, &world, ALL), rival).await });
    assert_eq!((report.unwrap().delivered, rival), (1, BTreeSet::from([0])));
    assert_eq!(world.seen().len(), 1);
}
