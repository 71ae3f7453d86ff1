//! The process dies at every step of its work: what was written before it is done, everything else is done again under the same names.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use super::orders::{order, said, the_order};
use super::{ALL, Woken, World, config, deliveries, grant, ledger, number, open, replied, run_all, run_until_quiet};
use crate::book::Book;
use crate::courier::run;
use crate::ledger::OrderState;
use crate::store::testing::{Mortal, file};

/// Longer than a lease that nobody gave back.
const LEASE_OVER_MS: i64 = 6_000;

#[test]
fn a_database_that_fails_at_any_statement_loses_no_event() {
    for statements in 0.. {
        let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*"), (2, "*")]));
        let (world, book) = (World::answering(200), open(&folder, &config));
        for number in 0..3 {
            grant(&world, &book, &format!("c{}", number % 2), &format!("p{number}"));
        }
        let mortal = Book::new(Mortal::new(file(&ledger(&folder))), config.terms());
        mortal.database().die_after(statements);
        let result = world.drive(run(&mortal, &config, &world, ALL));
        drop(mortal);
        world.now_ms.set(world.now_ms.get() + LEASE_OVER_MS);
        run_all(&world, &book, &config);
        assert!(deliveries(&book).iter().all(|(_, _, state, _)| state == "delivered"), "{:?}", deliveries(&book));
        assert_eq!(deliveries(&book).len(), 6);
        assert!(world.counts().len() == 6 && world.counts().values().all(|count| *count <= 2), "{:?}", world.counts());
        if result.is_ok_and(|report| !report.more && report.delivered == 6) {
            assert!(statements > 10, "it never died");
            return;
        }
    }
}

#[test]
fn a_database_that_fails_at_any_statement_buys_nothing_twice() {
    for statements in 0.. {
        let (folder, config) = (tempfile::tempdir().unwrap(), config(&[]));
        let world = World::new(|_, _| (5, said(r#"{"status":"succeeded","package":{}}"#)));
        let book = open(&folder, &config);
        order(&world, &book, "alice");
        let mortal = Book::new(Mortal::new(file(&ledger(&folder))), config.terms());
        mortal.database().die_after(statements);
        let result = world.drive(run(&mortal, &config, &world, ALL));
        drop(mortal);
        world.now_ms.set(world.now_ms.get() + LEASE_OVER_MS);
        run_until_quiet(&world, &book, &config);
        check_bought_once(&world, &book);
        if result.is_ok_and(|report| report.delivered == 1) {
            assert!(statements > 10, "it never died");
            return;
        }
    }
}

#[test]
fn a_courier_that_is_dropped_at_any_moment_buys_nothing_twice() {
    for polls in 0.. {
        let (folder, config) = (tempfile::tempdir().unwrap(), config(&[]));
        let answers = Rc::new(Cell::new(0));
        let counted = Rc::clone(&answers);
        let world = World::new(move |_, _| {
            counted.set(counted.get() + 1);
            (5, said(r#"{"status":"succeeded","package":{}}"#))
        });
        let book = open(&folder, &config);
        order(&world, &book, "alice");
        let is_over = poll_times(&world, run(&open(&folder, &config), &config, &world, ALL), polls);
        world.now_ms.set(world.now_ms.get() + LEASE_OVER_MS);
        run_until_quiet(&world, &book, &config);
        check_bought_once(&world, &book);
        assert!(answers.get() <= 2);
        if is_over {
            assert!(polls > 3, "it never died");
            return;
        }
    }
}

#[test]
fn a_try_that_was_not_written_down_is_made_again_under_the_same_name() {
    let (folder, config) = (tempfile::tempdir().unwrap(), config(&[(1, "*")]));
    let (world, book) = (World::new(|_, _| (5, replied(200))), open(&folder, &config));
    grant(&world, &book, "alice", "p1");
    // Dropped once the receiver has the message.
    for polls in 0.. {
        poll_times(&world, run(&open(&folder, &config), &config, &world, ALL), polls);
        if !world.seen().is_empty() {
            break;
        }
        world.now_ms.set(world.now_ms.get() + LEASE_OVER_MS);
    }
    world.now_ms.set(world.now_ms.get() + LEASE_OVER_MS);
    assert_eq!(run_all(&world, &book, &config).delivered, 1);
    assert_eq!(world.counts().into_values().collect::<Vec<_>>(), [2]);
}

fn check_bought_once(world: &World, book: &Book<crate::store::testing::Sqlite>) {
    let bought = the_order(world, book);
    assert!(bought.state == OrderState::Succeeded && bought.package_number.is_some(), "{bought:?}");
    assert_eq!(number(book, "SELECT count(*) FROM packages"), 2);
    assert_eq!(number(book, "SELECT count(*) FROM repurchases"), 1);
    assert_eq!(number(book, "SELECT count(*) FROM events WHERE type = 'repurchase.succeeded'"), 1);
    let seen = world.seen();
    assert!(seen.iter().all(|one| one.id == seen[0].id && one.body == seen[0].body), "{seen:?}");
    assert!(deliveries(book).iter().all(|(_, _, state, _)| state == "delivered"), "{:?}", deliveries(book));
}

/// Polls a future so often at most and drops it then, time going on as it waits. Whether it came to its end.
fn poll_times<T>(world: &World, future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    for _ in 0..polls {
        if !woken.0.swap(false, Ordering::Relaxed) {
            world.pass_time();
        }
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return true;
        }
    }
    false
}
