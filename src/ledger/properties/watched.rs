//! An account under watch: every command it decides is checked against the rules that always hold, and against the reference.

use std::collections::{BTreeMap, BTreeSet};

use super::commands::{Decided, START_MS, Step};
use super::watching::{Decision, Watching};
use super::{account_of, assert_same, parts, reference, terms, watching};
use crate::ids::RequestId;
use crate::ledger::{
    Account, Admission, Call, CallState, Claim, Command, Conclusion, Entry, EntryKind, Event, Grant, Leg, OrderState, Outcome,
    Package, PackageChange, PackageKind, Refusal, Settlement, Standing, UsageTerms,
};
use crate::quantity::Quantity;

/// What entries alone say, summed by [`EntryKind::effect`] as they come.
#[derive(Default)]
struct Sums {
    seq: u64,
    /// `granted`, `held`, `used` by package number.
    packages: BTreeMap<u32, [i64; 3]>,
    overrun: i64,
    /// What each call was charged of packages, net of corrections.
    charges: BTreeMap<RequestId, i64>,
    refunds: BTreeMap<RequestId, i64>,
    /// What each call was charged of each package and not refunded.
    kept: BTreeMap<(RequestId, u32), i64>,
    kinds: BTreeSet<EntryKind>,
}

pub(super) struct Watched {
    account: Account,
    usage_terms: UsageTerms,
    now_ms: i64,
    pub(super) history: Vec<Decided>,
    pub(super) events: Vec<Event>,
    sums: Sums,
    watching: Watching,
}

impl Watched {
    pub(super) fn run(usage_terms: UsageTerms, steps: &[Step]) -> Self {
        let mut watched = Self {
            account: account_of(usage_terms),
            usage_terms,
            now_ms: START_MS,
            history: Vec::new(),
            events: Vec::new(),
            sums: Sums::default(),
            watching: Watching::new(terms()),
        };
        for step in steps {
            watched.now_ms += step.advance_ms;
            let command = step.command(&watched.account, watched.now_ms);
            watched.decide(&command);
        }
        watched
    }

    pub(super) fn kinds(&self) -> &BTreeSet<EntryKind> {
        &self.sums.kinds
    }

    pub(super) fn decide(&mut self, command: &Command) {
        let before = self.account.clone();
        let mut looked = before.clone();
        looked.decide(&Command::Look, self.now_ms).unwrap();
        let result = self.account.decide(command, self.now_ms);
        let what = format!("{command:?} -> {result:?} at {}", self.now_ms);
        match &result {
            Err(_) => {
                assert_same(&looked, &self.account, &what);
                assert_eq!(looked.changes, self.account.changes, "{what}: a refusal changed something");
            }
            Ok(_) => self.check_repeat(command, &what),
        }
        looked.take_changes();
        self.check_answer(&looked, command, &result, &what);
        let changes = self.account.take_changes();
        let entries = &changes.entries;
        let decision = Decision { before: &before, after: &self.account, command, result: &result, entries, now_ms: self.now_ms };
        let expected = self.watching.follow(&decision);
        self.check_events(changes.events, expected, &what);
        self.watching.check(&self.account, self.now_ms, &what);
        self.take_entries(&changes.entries, &what);
        self.check_balance(&what);
        self.check_calls(&what);
        self.check_due(&what);
        self.history.push((command.clone(), self.now_ms, result));
    }

    fn check_events(&mut self, events: Vec<Event>, expected: Vec<Event>, what: &str) {
        let expected = (self.events.len() as u64 + 1..).zip(expected).map(|(number, event)| Event { number, ..event });
        assert_eq!(events, expected.collect::<Vec<_>>(), "{what}");
        self.events.extend(events);
    }

    /// Until it is due, looking finds nothing; when it is due, it does.
    fn check_due(&self, what: &str) {
        let due_at_ms = self.account.watch().due_at_ms;
        let mut early = self.account.clone();
        early.decide(&Command::Look, due_at_ms.map_or(self.now_ms + 100_000, |at| at - 1)).unwrap();
        assert!(!early.has_changes(), "{what}: there was something to be found before {due_at_ms:?}");
        assert!(due_at_ms.is_none_or(|at| at > self.now_ms), "{what}: still due at {due_at_ms:?}");
    }

    /// Everything but an admission without a key (which a replay counts) changes nothing when it is decided again, now or much later, but what the time does.
    fn check_repeat(&self, command: &Command, what: &str) {
        if matches!(command, Command::Admit(claim) if claim.idempotency_key.is_none()) {
            return;
        }
        // Another time may be the end of another lease, or of a package; and rules that are written again forgive what failed since.
        let depends_on_time =
            matches!(command, Command::LoseHold { .. } | Command::Probe { .. } | Command::SetRules(_) | Command::Admit(_));
        let later_ms = self.now_ms + if depends_on_time { 0 } else { 7 };
        let mut looked = self.account.clone();
        looked.decide(&Command::Look, later_ms).unwrap();
        looked.take_changes();
        // A renewal that repeats writes the same lease again; it may write nothing else.
        let mut again = looked.clone();
        again.decide(command, later_ms).unwrap_or_else(|refusal| panic!("{what}: refused when repeated: {refusal:?}"));
        assert_same(&looked, &again, &format!("{what}: repeated"));
        if !matches!(command, Command::Renew { .. }) {
            assert!(!again.has_changes(), "{what}: repeated, it has something to write: {:?}", again.changes);
        }
    }

    /// Packages that were bought and orders that were credited are the same, one by one.
    pub(super) fn check_credits(&self) {
        let credited = self.watching.orders.iter().filter_map(|order| Some((order.package_number?, order.number)));
        let credited: BTreeMap<u32, u32> = credited.collect();
        let bought: BTreeMap<u32, u32> = self
            .account
            .packages()
            .iter()
            .filter_map(|package| {
                let grants = self.history.iter().filter_map(|(command, _, result)| match (command, result) {
                    (Command::Grant(grant), Ok(_)) | (Command::ConcludeOrder { package: Some(grant), .. }, Ok(_)) => Some(grant),
                    _ => None,
                });
                let grant = grants.into_iter().find(|grant| grant.package_id == package.id).expect("a package was granted");
                Some((package.number, grant.repurchase?))
            })
            .collect();
        assert_eq!(bought, credited);
        let orders_credited: BTreeSet<u32> = credited.values().copied().collect();
        assert_eq!(orders_credited.len(), bought.len(), "an order is credited once");
        let is_succeeded = |number: &u32| self.account.order(*number).unwrap().state == OrderState::Succeeded;
        assert!(orders_credited.iter().all(is_succeeded), "what is credited has succeeded");
    }

    /// Settles, grants and corrections that arrive once more at the end, however much happened since, change nothing.
    pub(super) fn check_late_repeats(&mut self) {
        for (command, _, result) in &self.history {
            let is_repeatable = match command {
                Command::Settle(_) => matches!(result, Ok(Outcome::Settled { .. })),
                Command::Grant(_) | Command::Adjust { .. } | Command::Refund { .. } => result.is_ok(),
                Command::ConcludeOrder { conclusion, .. } => *conclusion == Conclusion::Succeeded && result.is_ok(),
                _ => false,
            };
            if is_repeatable {
                let mut again = self.account.clone();
                again.decide(command, self.now_ms).unwrap();
                assert!(!again.has_changes(), "{command:?}: repeated at the end, it has something to write");
                assert_same(&self.account, &again, "repeated at the end");
            }
        }
    }

    fn check_answer(&self, before: &Account, command: &Command, result: &Result<Outcome, Refusal>, what: &str) {
        match command {
            Command::Admit(Claim { request_id, hold, idempotency_key, .. }) => {
                let expected = reference::admission(before, command, self.usage_terms, self.now_ms);
                assert_eq!(*result, expected.clone().map(|(outcome, _)| outcome), "{what}");
                if let Ok((outcome, legs)) = expected {
                    let call = self.account.call(request_id).unwrap();
                    assert_eq!(call.legs, legs, "{what}");
                    let is_heard = idempotency_key.is_some()
                        && before.call(request_id).is_some_and(|call| call.idempotency_key == *idempotency_key);
                    let is_new = outcome != Outcome::Admitted(Admission::Replay) && !is_heard;
                    let is_limited = !before.balance(self.now_ms).is_unmetered;
                    let available = reference::available(before.packages(), self.now_ms);
                    assert!(!is_new || !is_limited || call.hold <= available, "{what}: above the available {available}");
                    assert!(!is_new || call.hold == *hold || (self.usage_terms.short_hold && call.hold == available), "{what}");
                    let is_blank =
                        call.status.is_none() && call.replays == 0 && !call.lost && !call.is_final && !call.usage_missing;
                    assert!(
                        !is_new || (is_blank && call.created_at_ms == self.now_ms),
                        "{what}: {call:?} keeps something of an earlier attempt"
                    );
                }
            }
            Command::Probe { hold, .. } => {
                let legs = reference::hold(before.packages(), *hold, self.usage_terms, self.now_ms);
                let expected = legs.map(|_| Outcome::Admissible);
                assert_eq!(*result, expected, "{what}");
            }
            Command::Settle(settlement) => self.check_settle(before, settlement, result, what),
            Command::LoseHold { request_id, charge } => {
                let lost =
                    before.call(request_id).filter(|call| call.state == CallState::Held && call.lease_ends_ms <= self.now_ms);
                assert_eq!(matches!(result, Ok(Outcome::Settled { .. })), lost.is_some(), "{what}");
                if let Some(held) = lost {
                    let call = self.account.call(request_id).unwrap();
                    let cost = if *charge { held.hold } else { Quantity::ZERO };
                    assert_eq!((call.charge, call.overrun, call.lost), (cost, Quantity::ZERO, true), "{what}");
                }
            }
            Command::Renew { request_id, attempt, lease_ends_ms } => {
                let Some(known) = before.call(request_id) else {
                    assert_eq!(*result, Err(Refusal::NotFound), "{what}");
                    return;
                };
                let is_alive = known.state == CallState::Held && known.attempt == *attempt;
                let expected = if is_alive { Outcome::Renewed } else { Outcome::AlreadyEnded { charge: known.charge } };
                assert_eq!(*result, Ok(expected), "{what}");
                let lease_ends_ms = if is_alive { known.lease_ends_ms.max(*lease_ends_ms) } else { known.lease_ends_ms };
                let expected = Call { lease_ends_ms, ..known.clone() };
                assert_eq!(self.account.call(request_id), Some(&expected), "{what}");
            }
            Command::Grant(grant) => {
                self.check_grant(before, grant, result, what);
                self.check_overrun(before, what);
            }
            Command::ConcludeOrder { number, conclusion, package: None } => {
                let expected = watching::conclusion(before.order(*number), *conclusion);
                let name = |refusal: &Refusal| format!("{refusal:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
                let answer: Result<(), String> = result.as_ref().map(|_| ()).map_err(name);
                assert_eq!(answer, expected.map_err(str::to_owned), "{what}");
            }
            Command::ConcludeOrder { number, conclusion, package: Some(grant) } => {
                let is_possible = *conclusion == Conclusion::Succeeded && grant.repurchase == Some(*number);
                assert!(is_possible || result.is_err(), "{what}");
                self.check_overrun(before, what);
            }
            Command::Change { package_id, change } => {
                let known = before.packages().iter().find(|package| package.id == *package_id);
                self.check_change(known, *change, result, what);
            }
            _ => {}
        }
    }

    fn check_grant(&self, before: &Account, grant: &Grant, result: &Result<Outcome, Refusal>, what: &str) {
        let granted = self.history.iter().find_map(|(command, _, result)| match (command, result) {
            (Command::Grant(known) | Command::ConcludeOrder { package: Some(known), .. }, Ok(_))
                if known.package_id == grant.package_id =>
            {
                Some(&**known)
            }
            _ => None,
        });
        let is_other = granted.is_some_and(|known| known != grant);
        let order = grant.repurchase.map(|number| before.order(number));
        let is_second = granted.is_none() && order.flatten().is_some_and(|order| order.package_number.is_some());
        let is_of_no_order = granted.is_none() && order == Some(None);
        assert_eq!(matches!(result, Err(Refusal::Conflict(_))), is_other || is_second, "{what}");
        assert_eq!(*result == Err(Refusal::NotFound), is_of_no_order, "{what}");
        assert_eq!(matches!(result, Ok(Outcome::Package(_))), granted.is_some() && !is_other, "{what}");
    }

    /// A package that was granted pays the overrun that there was, as far as it goes, and nothing else pays it.
    fn check_overrun(&self, before: &Account, what: &str) {
        let is_new = |package: &&Package| before.package(package.number).is_none();
        let is_over = |package: &Package| package.expires_at_ms.is_some_and(|at| at <= self.now_ms);
        let new = self.account.packages().iter().find(is_new);
        let is_paying = self.usage_terms.carry_overrun && new.is_some_and(|package| !is_over(package));
        let most = match new.map(|package| package.kind) {
            Some(PackageKind::Prepaid) => new.unwrap().granted,
            _ => Quantity::MAX,
        };
        let paid = if is_paying { before.overrun().min(most) } else { Quantity::ZERO };
        assert_eq!(self.account.overrun().parts(), before.overrun().parts() - paid.parts(), "{what}");
        assert_eq!(new.map_or(Quantity::ZERO, |package| package.used), paid, "{what}");
    }

    fn check_change(&self, known: Option<&Package>, change: PackageChange, result: &Result<Outcome, Refusal>, what: &str) {
        let Some(known) = known else {
            assert_eq!(*result, Err(Refusal::NotFound), "{what}");
            return;
        };
        let mut expected = known.clone();
        match change {
            PackageChange::Freeze => expected.standing = Standing::Frozen,
            PackageChange::Unfreeze => expected.standing = Standing::Open,
            PackageChange::Release => expected.standing = Standing::Released,
            PackageChange::Reschedule { expires_at_ms, priority } => {
                expected.expires_at_ms = expires_at_ms.unwrap_or(known.expires_at_ms);
                expected.priority = priority.unwrap_or(known.priority);
            }
        }
        let is_gone = known.standing == Standing::Released && change != PackageChange::Release;
        let never_starts = expected.expires_at_ms.is_some_and(|at| at <= expected.starts_at_ms);
        match result {
            Err(refusal) if is_gone => assert!(matches!(refusal, Refusal::Conflict(_)), "{what}"),
            Err(refusal) => assert!(never_starts && matches!(refusal, Refusal::Invalid(_)), "{what}"),
            Ok(_) => {
                assert!(!is_gone, "{what}: a released package is released for ever");
                let package = self.account.package(known.number).unwrap();
                expected.phase = package.phase;
                assert_eq!(*package, expected, "{what}");
            }
        }
    }

    fn check_settle(&self, before: &Account, settlement: &Settlement, result: &Result<Outcome, Refusal>, what: &str) {
        let Some(known) = before.call(&settlement.request_id) else {
            assert_eq!(*result, Err(Refusal::NotFound), "{what}");
            return;
        };
        if known.attempt != settlement.attempt || (known.state != CallState::Held && (known.is_final || !known.lost)) {
            assert_eq!(*result, Ok(Outcome::AlreadyEnded { charge: known.charge }), "{what}");
            assert_same(before, &self.account, what);
            return;
        }
        let call = self.account.call(&settlement.request_id).unwrap();
        assert_eq!(*result, Ok(Outcome::Settled { charge: call.charge }), "{what}");
        let cost = settlement.charge.max(known.refunded);
        assert_eq!(call.charge.parts() + call.overrun.parts(), cost.parts(), "{what}");
        assert_eq!((call.status, call.usage_missing), (settlement.status, settlement.usage_missing), "{what}");
        if known.state == CallState::Held {
            let (legs, overrun) = reference::settled(before, &known.legs, settlement.charge, self.now_ms);
            assert_eq!((&call.legs, call.overrun), (&legs, overrun), "{what}");
        }
    }

    fn take_entries(&mut self, entries: &[Entry], what: &str) {
        for entry in entries {
            self.sums.seq += 1;
            assert_eq!(entry.seq, self.sums.seq, "{what}: a gap");
            assert_eq!(entry.at_ms, self.now_ms, "{what}");
            self.sums.kinds.insert(entry.kind);
            let [granted, held, used, overrun] =
                entry.kind.effect().map(|direction| i64::from(direction) * entry.quantity.parts());
            let package = self.sums.packages.entry(entry.package_number).or_default();
            *package = [package[0] + granted, package[1] + held, package[2] + used];
            self.sums.overrun += overrun;
            let Some(request_id) = entry.request_id.clone() else { continue };
            let moved = match entry.kind {
                EntryKind::Refund => self.sums.refunds.entry(request_id.clone()),
                _ => self.sums.charges.entry(request_id.clone()),
            };
            *moved.or_default() += if entry.kind == EntryKind::Refund { -used } else { used };
            *self.sums.kept.entry((request_id, entry.package_number)).or_default() += used;
        }
        assert!(!self.account.has_changes());
    }

    /// Counters are the sums of entries, none is negative, and what live calls hold is what packages say is held.
    fn check_balance(&self, what: &str) {
        let mut held_legs: BTreeMap<u32, i64> = BTreeMap::new();
        let live = self.account.calls().filter(|call| call.state == CallState::Held);
        for leg in live.flat_map(|call| &call.legs) {
            *held_legs.entry(leg.package_number).or_default() += leg.quantity.parts();
        }
        for package in self.account.packages() {
            let counters = [package.granted.parts(), package.held.parts(), package.used.parts()];
            assert_eq!(self.sums.packages.get(&package.number), Some(&counters), "{what}: package {}", package.number);
            assert!(counters.iter().all(|counter| *counter >= 0), "{what}");
            assert_eq!(
                held_legs.remove(&package.number).unwrap_or(0),
                package.held.parts(),
                "{what}: package {}",
                package.number
            );
            if package.kind == PackageKind::Prepaid {
                let [granted, held, used] = counters;
                assert!(used + held <= granted, "{what}: {package:?}");
                assert_eq!(granted, used + held + package.free().parts(), "{what}: {package:?}");
            }
        }
        assert!(held_legs.is_empty(), "{what}: holds of no package {held_legs:?}");
        assert_eq!(self.sums.overrun, self.account.overrun().parts(), "{what}");
        assert_eq!(self.sums.seq, self.account.entry_count(), "{what}");
        let balance = self.account.balance(self.now_ms);
        assert_eq!(balance.available, reference::available(self.account.packages(), self.now_ms), "{what}");
        let usable = self.account.packages().iter().filter(|package| reference::is_usable(package, self.now_ms));
        let prepaid = usable.filter(|package| package.kind == PackageKind::Prepaid);
        let remaining: i64 = prepaid.map(|package| package.granted.parts() - package.used.parts()).sum();
        assert_eq!(balance.remaining.parts(), remaining, "{what}");
    }

    /// A call's own numbers are what its entries say: no attempt, repeat or replay of it was charged besides.
    fn check_calls(&self, what: &str) {
        for call in self.account.calls() {
            let what = format!("{what}: {call:?}");
            let sum = parts(call.legs.iter().map(|leg: &Leg| leg.quantity.parts()).sum());
            let charged = self.sums.charges.get(&call.request_id).copied().unwrap_or(0);
            assert_eq!(charged, call.charge.parts(), "{what}");
            assert_eq!(self.sums.refunds.get(&call.request_id).copied().unwrap_or(0), call.refunded.parts(), "{what}");
            assert!(call.refunded <= call.charge, "{what}");
            let is_free = call.charge.is_zero() && call.overrun.is_zero();
            match call.state {
                CallState::Held => assert!(is_free && sum == call.hold, "{what}"),
                CallState::Settled => assert!(!is_free && sum == call.charge, "{what}"),
                CallState::Released => assert!(is_free, "{what}"),
            }
        }
        for (of, kept) in &self.sums.kept {
            assert!(*kept >= 0, "{what}: {of:?} got back more than it was charged");
        }
    }
}
