//! What an instance does beside its calls: writes deferred settles, renews the leases of calls that live on, and does what is due.
//!
//! One task runs while there is something to look after, and ends soon after, so that an instance that is no longer needed can be dropped.

use std::cell::{Cell, RefCell};

use futures::future::join_all;
use spin_sdk::wasip3;

use super::courier;
use super::instance::{Instance, elapsed_us, monotonic_ns, now_ms, sleep_ms};
use super::log;
use crate::book::metrics::Step;
use crate::control;
use crate::ids::{AccountKey, RequestId};
use crate::ledger::Command;
use crate::sorted::SortedMap;

/// How often there is a look at what waits. A settle may follow its reply within 100 ms (contract section 2).
const INTERVAL_MS: i64 = 40;

/// How often an instance looks for what is due.
const UPKEEP_INTERVAL_NS: u64 = 1_000_000_000;

/// The most holds or entries that one look takes on.
const UPKEEP_ITEMS_MAX: usize = 32;

/// Between two looks while the ledger cannot be written.
const FAILING_INTERVAL_MS: i64 = 500;

/// How often a failing flush is tried again before its holds are left to their leases: ten minutes.
const FLUSH_FAILURES_MAX: u32 = 1200;

/// The calls of this instance whose holds are live.
#[derive(Default)]
pub(super) struct Leases {
    live: RefCell<SortedMap<u64, Lease>>,
    next: Cell<u64>,
}

#[derive(Clone)]
struct Lease {
    account: AccountKey,
    request_id: RequestId,
    attempt: u32,
    renew_at_ns: u64,
}

/// Keeps a call's lease renewed until it is dropped.
pub(super) struct LeaseGuard {
    instance: &'static Instance,
    number: u64,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.instance.leases.live.borrow_mut().remove(&self.number);
    }
}

/// When a lease that is taken or renewed at a time must be renewed: early enough for two more tries. On the clock that only goes forward, so that a step of
/// the other one cannot lose a live call.
fn renew_at_ns(instance: &Instance, now_ns: u64) -> u64 {
    let third_ms = u64::try_from(instance.config.gateway.hold_lease_ms / 3).unwrap_or(0);
    now_ns.saturating_add(third_ms.saturating_mul(1_000_000))
}

/// Looks after a call's lease from now on.
pub(super) fn keep_lease(
    instance: &'static Instance,
    account: AccountKey,
    request_id: RequestId,
    attempt: u32,
    now_ns: u64,
) -> LeaseGuard {
    let leases = &instance.leases;
    let number = leases.next.get();
    leases.next.set(number.wrapping_add(1));
    let lease = Lease { account, request_id, attempt, renew_at_ns: renew_at_ns(instance, now_ns) };
    leases.live.borrow_mut().insert(number, lease);
    start(instance);
    LeaseGuard { instance, number }
}

/// Sees to it that the instance's task runs.
pub(super) fn start(instance: &'static Instance) {
    if !instance.is_looked_after.replace(true) {
        wasip3::spawn(async move {
            look_after(instance).await;
            instance.is_looked_after.set(false);
        });
    }
}

async fn look_after(instance: &'static Instance) {
    let mut failures = 0;
    loop {
        sleep_ms(if failures == 0 { INTERVAL_MS } else { FAILING_INTERVAL_MS }).await;
        if instance.is_ledger_left_alone() {
            continue;
        }
        match flush(instance) {
            Ok(()) => failures = 0,
            Err(reason) => {
                instance.leave_ledger_alone();
                if failures == 0 {
                    log::line(format!("settles cannot be written: {reason}"));
                }
                failures += 1;
            }
        }
        if !instance.is_ledger_left_alone() {
            renew(instance).await;
            upkeep(instance).await;
        }
        if let Some(Err(error)) = instance.book.take_riders() {
            log::line(format!("a settle cannot be written: {error}"));
        }
        if instance.book.take_events_written() {
            courier::start(instance);
        }
        let has_given_up = failures > FLUSH_FAILURES_MAX;
        let has_unwritten = instance.book.deferred_count() > 0 || instance.book.has_unwritten_counts();
        if instance.leases.live.borrow().is_empty() && (has_given_up || !has_unwritten) {
            return;
        }
    }
}

fn flush(instance: &Instance) -> Result<(), crate::book::LedgerError> {
    if instance.book.deferred_count() > 0 {
        let started_ns = monotonic_ns();
        instance.book.flush_deferred(now_ms())?;
        // One durable step, however many calls it ended.
        instance.book.count(|meters| meters.latency(Step::Settle, elapsed_us(started_ns)));
        Ok(())
    } else if instance.book.has_unwritten_counts() {
        instance.book.flush_counts()
    } else {
        Ok(())
    }
}

async fn renew(instance: &'static Instance) {
    let now = now_ms();
    let lease_ends_ms = now + instance.config.gateway.hold_lease_ms;
    let tick_ns = monotonic_ns();
    let next_ns = renew_at_ns(instance, tick_ns);
    let due: Vec<Lease> = {
        let mut live = instance.leases.live.borrow_mut();
        let due = live.values_mut().filter(|lease| lease.renew_at_ns <= tick_ns);
        due.map(|lease| {
            lease.renew_at_ns = next_ns;
            lease.clone()
        })
        .collect()
    };
    let renewals = due.into_iter().map(|lease| async move {
        let command = Command::Renew { request_id: lease.request_id, attempt: lease.attempt, lease_ends_ms };
        instance.book.submit(&lease.account, command, now).await
    });
    if let Some(error) = join_all(renewals).await.into_iter().find_map(Result::err) {
        instance.leave_ledger_alone();
        log::line(format!("leases cannot be renewed: {error}"));
    }
}

async fn upkeep(instance: &'static Instance) {
    let (now, tick_ns) = (now_ms(), monotonic_ns());
    if instance.upkeep_due_ns.get() > tick_ns || instance.is_ledger_left_alone() {
        return;
    }
    instance.upkeep_due_ns.set(tick_ns.saturating_add(UPKEEP_INTERVAL_NS));
    if let Err(error) = control::upkeep(&instance.book, &instance.config, now, UPKEEP_ITEMS_MAX).await {
        instance.leave_ledger_alone();
        log::line(format!("what is due cannot be done: {error}"));
        return;
    }
    courier::start_if_due(instance);
}
