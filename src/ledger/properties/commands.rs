//! Random command sequences: few names, so that commands meet the same packages and calls; times that mostly move forward.

use std::sync::Arc;

use proptest::prelude::*;

use super::{correction_id, fingerprint, package_id, parts, request_id};
use crate::ledger::{Account, Command, Grant, Outcome, PackageChange, PackageKind, Refusal, Settlement};
use crate::quantity::Delta;

/// The most commands in one sequence.
const STEPS_MAX: usize = 300;
/// When a sequence starts.
pub(super) const START_MS: i64 = 1_000;
const CALLS: u8 = 7;
const PACKAGES: u8 = 9;
const CORRECTIONS: u8 = 4;

/// One command to come: some of it is only known when its turn is there (the time, the attempt that is alive).
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) advance_ms: i64,
    action: Action,
}

/// A command with the time it was decided at and the answer it got.
pub(super) type Decided = (Command, i64, Result<Outcome, Refusal>);

/// Which attempt of a call a command names.
#[derive(Clone, Copy, Debug)]
enum Attempt {
    Current,
    Before,
    After,
}

#[derive(Clone, Debug)]
enum Action {
    Probe { hold: i64 },
    Admit { call: u8, is_other: bool, hold: i64, lease_ms: i64, replay_limit: u32 },
    Renew { call: u8, attempt: Attempt, lease_ms: i64 },
    Settle { call: u8, attempt: Attempt, charge: i64, status: u16 },
    Lose { call: u8, charge: bool },
    Grant { package: u8, is_unmetered: bool, quantity: i64, starts_in_ms: Option<i64>, lasts_ms: Option<i64>, priority: i32 },
    Freeze { package: u8 },
    Unfreeze { package: u8 },
    Release { package: u8 },
    Reschedule { package: u8, expires_in_ms: Option<Option<i64>>, priority: Option<i32> },
    Adjust { package: u8, correction: u8, quantity: i64 },
    Refund { call: u8, correction: u8, quantity: Option<i64> },
}

pub(super) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..=STEPS_MAX)
}

/// Decides a sequence on one account, unwatched: the account, the time at the end, and what was decided.
pub(super) fn decided(steps: &[Step]) -> (Account, i64, Vec<Decided>) {
    let mut account = Account::default();
    let mut now_ms = START_MS;
    let mut history = Vec::new();
    for step in steps {
        now_ms += step.advance_ms;
        let command = step.command(&account, now_ms);
        let answer = account.decide(&command, now_ms);
        history.push((command, now_ms, answer));
    }
    (account, now_ms, history)
}

fn step() -> impl Strategy<Value = Step> {
    let advance_ms = prop_oneof![4 => Just(0_i64), 5 => 0..=6_i64, 2 => 30..=90_i64, 1 => -20..=-1_i64];
    (advance_ms, action()).prop_map(|(advance_ms, action)| Step { advance_ms, action })
}

fn attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![8 => Just(Attempt::Current), 1 => Just(Attempt::Before), 1 => Just(Attempt::After)]
}

fn action() -> impl Strategy<Value = Action> {
    let call = || 0..CALLS;
    let calls = prop_oneof![
        1 => (1..15_i64).prop_map(|hold| Action::Probe { hold }),
        12 => (call(), prop::bool::weighted(0.05), 1..=12_i64, 0..=80_i64, 0..3_u32).prop_map(
            |(call, is_other, hold, lease_ms, replay_limit)| Action::Admit { call, is_other, hold, lease_ms, replay_limit }),
        2 => (call(), attempt(), -20..=80_i64).prop_map(|(call, attempt, lease_ms)| Action::Renew { call, attempt, lease_ms }),
        8 => (call(), attempt(), prop_oneof![1 => Just(0_i64), 5 => 0..=18_i64], prop_oneof![Just(200_u16), Just(502)])
            .prop_map(|(call, attempt, charge, status)| Action::Settle { call, attempt, charge, status }),
        4 => (call(), any::<bool>()).prop_map(|(call, charge)| Action::Lose { call, charge }),
        4 => (call(), 0..CORRECTIONS, prop::option::weighted(0.7, 0..=9_i64))
            .prop_map(|(call, correction, quantity)| Action::Refund { call, correction, quantity }),
    ];
    prop_oneof![3 => calls, 1 => package_action()]
}

fn package_action() -> impl Strategy<Value = Action> {
    let package = || 0..PACKAGES;
    let after_ms = || 20..=900_i64;
    prop_oneof![
        6 => (
            package(),
            prop::bool::weighted(0.07),
            prop_oneof![1 => Just(0_i64), 9 => 1..=40_i64],
            prop::option::weighted(0.3, -60..=150_i64),
            prop::option::weighted(0.6, -5..=900_i64),
            -1..=1_i32,
        ).prop_map(|(package, is_unmetered, quantity, starts_in_ms, lasts_ms, priority)| {
            let quantity = if is_unmetered && quantity < 35 { 0 } else { quantity };
            Action::Grant { package, is_unmetered, quantity, starts_in_ms, lasts_ms, priority }
        }),
        2 => package().prop_map(|package| Action::Freeze { package }),
        2 => package().prop_map(|package| Action::Unfreeze { package }),
        1 => package().prop_map(|package| Action::Release { package }),
        2 => (package(), prop::option::of(prop::option::of(prop_oneof![4 => after_ms(), 1 => -900..=0_i64])), prop::option::of(-1..=1_i32))
            .prop_map(|(package, expires_in_ms, priority)| Action::Reschedule { package, expires_in_ms, priority }),
        4 => (package(), 0..CORRECTIONS, -12..=20_i64)
            .prop_map(|(package, correction, quantity)| Action::Adjust { package, correction, quantity }),
    ]
}

impl Step {
    /// The command as it is when its turn has come.
    pub(super) fn command(&self, account: &Account, now_ms: i64) -> Command {
        let attempt_of = |call: u8, attempt: Attempt| {
            let current = account.call(&request_id(call)).map_or(1, |call| call.attempt);
            match attempt {
                Attempt::Current => current,
                Attempt::Before => current - 1,
                Attempt::After => current + 1,
            }
        };
        let reason: Arc<str> = Arc::from("because");
        match self.action.clone() {
            Action::Probe { hold } => Command::Probe { request_id: request_id(200), hold: parts(hold) },
            Action::Admit { call, is_other, hold, lease_ms, replay_limit } => Command::Admit {
                request_id: request_id(call),
                fingerprint: fingerprint(if is_other { "/other" } else { "/" }),
                hold: parts(hold),
                lease_ends_ms: now_ms + lease_ms,
                replay_limit,
            },
            Action::Renew { call, attempt, lease_ms } => Command::Renew {
                request_id: request_id(call),
                attempt: attempt_of(call, attempt),
                lease_ends_ms: now_ms + lease_ms,
            },
            Action::Settle { call, attempt, charge, status } => Command::Settle(Settlement {
                request_id: request_id(call),
                attempt: attempt_of(call, attempt),
                charge: parts(charge),
                status: Some(status),
                usage_missing: charge == 3,
            }),
            Action::Lose { call, charge } => Command::LoseHold { request_id: request_id(call), charge },
            Action::Refund { call, correction, quantity } => Command::Refund {
                request_id: request_id(call),
                refund_id: correction_id(correction),
                quantity: quantity.map(parts),
                reason,
            },
            Action::Adjust { package, correction, quantity } => Command::Adjust {
                package_id: package_id(package),
                adjustment_id: correction_id(correction),
                quantity: Delta::from_parts(quantity).unwrap(),
                reason,
            },
            Action::Grant { .. } => self.grant(now_ms),
            Action::Freeze { package } => change(package, PackageChange::Freeze),
            Action::Unfreeze { package } => change(package, PackageChange::Unfreeze),
            Action::Release { package } => change(package, PackageChange::Release),
            Action::Reschedule { package, expires_in_ms, priority } => {
                let expires_at_ms = expires_in_ms.map(|expiry| expiry.map(|ms| now_ms + ms));
                change(package, PackageChange::Reschedule { expires_at_ms, priority })
            }
        }
    }

    fn grant(&self, now_ms: i64) -> Command {
        let Action::Grant { package, is_unmetered, quantity, starts_in_ms, lasts_ms, priority } = self.action else {
            panic!("not a grant");
        };
        Command::Grant(Box::new(Grant {
            package_id: package_id(package),
            kind: if is_unmetered { PackageKind::Unmetered } else { PackageKind::Prepaid },
            quantity: parts(quantity),
            starts_at_ms: starts_in_ms.map(|ms| now_ms + ms),
            expires_at_ms: lasts_ms.map(|ms| now_ms + starts_in_ms.unwrap_or(0) + ms),
            priority,
            order_id: None,
            repurchase: None,
        }))
    }
}

fn change(package: u8, change: PackageChange) -> Command {
    Command::Change { package_id: package_id(package), change }
}
