//! Random command sequences: few names, so that commands meet the same packages and calls; times that mostly move forward.

use std::sync::Arc;

use proptest::prelude::*;

use super::{account_of, correction_id, fingerprint, order_rules, package_id, parts, request_id};
use crate::ledger::{
    Account, Claim, Command, Conclusion, FailureReason, Grant, Outcome, PackageChange, PackageKind, Refusal, Rules, Settlement,
    Threshold, UsageTerms,
};
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
    Admit { call: u8, is_other: bool, hold: i64, lease_ms: i64, replay_limit: u32, key: Option<u8> },
    Renew { call: u8, attempt: Attempt, lease_ms: i64 },
    Settle { call: u8, attempt: Attempt, charge: i64, status: u16 },
    Lose { call: u8, charge: bool },
    Grant(Granting),
    Freeze { package: u8 },
    Unfreeze { package: u8 },
    Release { package: u8 },
    Reschedule { package: u8, expires_in_ms: Option<Option<i64>>, priority: Option<i32> },
    Adjust { package: u8, correction: u8, quantity: i64 },
    Refund { call: u8, correction: u8, quantity: Option<i64> },
    Look,
    SetRules(Rules),
    Conclude { order_back: u32, conclusion: Conclusion, package: Option<Granting> },
}

#[derive(Clone, Copy, Debug)]
struct Granting {
    package: u8,
    is_unmetered: bool,
    quantity: i64,
    starts_in_ms: Option<i64>,
    lasts_ms: Option<i64>,
    priority: i32,
    /// Which of the account's orders it credits, counted from the last one.
    order_back: Option<u32>,
}

pub(super) fn sequence() -> impl Strategy<Value = Vec<Step>> {
    // Some are mostly about orders, which take many commands each.
    prop_oneof![
        1 => prop::collection::vec(step(2), 1..=STEPS_MAX),
        1 => prop::collection::vec(step(15), 1..=STEPS_MAX),
    ]
}

pub(super) fn usage_terms() -> impl Strategy<Value = UsageTerms> {
    any::<(bool, bool)>().prop_map(|(short_hold, carry_overrun)| UsageTerms { short_hold, carry_overrun })
}

/// Decides a sequence on one account, unwatched: the account, the time at the end, and what was decided.
pub(super) fn decided(usage_terms: UsageTerms, steps: &[Step]) -> (Account, i64, Vec<Decided>) {
    let mut account = account_of(usage_terms);
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

fn step(order_weight: u32) -> impl Strategy<Value = Step> {
    let advance_ms = prop_oneof![4 => Just(0_i64), 5 => 0..=6_i64, 2 => 30..=90_i64, 1 => -20..=-1_i64];
    let advance_ms = prop_oneof![30 => advance_ms, 1 => 900..=2_500_i64];
    (advance_ms, action(order_weight)).prop_map(|(advance_ms, action)| Step { advance_ms, action })
}

fn attempt() -> impl Strategy<Value = Attempt> {
    prop_oneof![8 => Just(Attempt::Current), 1 => Just(Attempt::Before), 1 => Just(Attempt::After)]
}

fn action(order_weight: u32) -> impl Strategy<Value = Action> {
    let call = || 0..CALLS;
    let calls = prop_oneof![
        1 => (0..15_i64).prop_map(|hold| Action::Probe { hold }),
        12 => (call(), prop::bool::weighted(0.05), prop_oneof![1 => Just(0_i64), 20 => 1..=12_i64], 0..=80_i64, 0..3_u32, prop::option::of(0..3_u8))
            .prop_map(|(call, is_other, hold, lease_ms, replay_limit, key)| Action::Admit { call, is_other, hold, lease_ms, replay_limit, key }),
        2 => (call(), attempt(), -20..=80_i64).prop_map(|(call, attempt, lease_ms)| Action::Renew { call, attempt, lease_ms }),
        8 => (call(), attempt(), prop_oneof![1 => Just(0_i64), 5 => 0..=18_i64], prop_oneof![Just(200_u16), Just(502)])
            .prop_map(|(call, attempt, charge, status)| Action::Settle { call, attempt, charge, status }),
        4 => (call(), any::<bool>()).prop_map(|(call, charge)| Action::Lose { call, charge }),
        4 => (call(), 0..CORRECTIONS, prop::option::weighted(0.7, 0..=9_i64))
            .prop_map(|(call, correction, quantity)| Action::Refund { call, correction, quantity }),
    ];
    prop_oneof![9 => calls, 3 => package_action(), order_weight => order_action()]
}

fn package_action() -> impl Strategy<Value = Action> {
    let package = || 0..PACKAGES;
    let after_ms = || 20..=900_i64;
    prop_oneof![
        6 => granting(prop::option::weighted(0.2, 0..3_u32).boxed()).prop_map(Action::Grant),
        2 => package().prop_map(|package| Action::Freeze { package }),
        2 => package().prop_map(|package| Action::Unfreeze { package }),
        1 => package().prop_map(|package| Action::Release { package }),
        2 => (package(), prop::option::of(prop::option::of(prop_oneof![4 => after_ms(), 1 => -900..=0_i64])), prop::option::of(-1..=1_i32))
            .prop_map(|(package, expires_in_ms, priority)| Action::Reschedule { package, expires_in_ms, priority }),
        4 => (package(), 0..CORRECTIONS, -12..=20_i64)
            .prop_map(|(package, correction, quantity)| Action::Adjust { package, correction, quantity }),
    ]
}

fn granting(order_back: BoxedStrategy<Option<u32>>) -> impl Strategy<Value = Granting> {
    (
        0..PACKAGES,
        prop::bool::weighted(0.07),
        prop_oneof![1 => Just(0_i64), 9 => 1..=40_i64],
        prop::option::weighted(0.3, -60..=150_i64),
        prop::option::weighted(0.6, -5..=900_i64),
        -1..=1_i32,
        order_back,
    )
        .prop_map(|(package, is_unmetered, quantity, starts_in_ms, lasts_ms, priority, order_back)| {
            let quantity = if is_unmetered && quantity < 35 { 0 } else { quantity };
            Granting { package, is_unmetered, quantity, starts_in_ms, lasts_ms, priority, order_back }
        })
}

fn order_action() -> impl Strategy<Value = Action> {
    let order_back = || prop_oneof![6 => Just(0_u32), 2 => 1..4_u32];
    let conclusion = prop_oneof![
        3 => Just(Conclusion::Pending),
        4 => Just(Conclusion::Succeeded),
        2 => Just(Conclusion::Failed(FailureReason::HookFailed)),
        2 => prop::sample::select(vec![
            FailureReason::SpecDelisted,
            FailureReason::PriceChanged,
            FailureReason::PurchaseRestricted,
            FailureReason::ZeroPrice,
            FailureReason::Timeout,
            FailureReason::CapReached,
        ])
        .prop_map(Conclusion::Failed),
    ];
    prop_oneof![
        1 => Just(Action::Look),
        2 => rules().prop_map(Action::SetRules),
        4 => (order_back(), conclusion).prop_map(|(order_back, conclusion)| Action::Conclude { order_back, conclusion, package: None }),
        2 => (order_back(), granting(Just(Some(0)).boxed()), prop::bool::weighted(0.1)).prop_map(|(order_back, package, is_odd)| {
            let package = Some(Granting { order_back: Some(if is_odd { order_back + 1 } else { order_back }), ..package });
            let conclusion = if is_odd { Conclusion::Pending } else { Conclusion::Succeeded };
            Action::Conclude { order_back, conclusion, package }
        }),
        1 => (order_back(), granting(Just(Some(0)).boxed())).prop_map(|(order_back, package)| {
            Action::Grant(Granting { order_back: Some(order_back), ..package })
        }),
    ]
}

fn threshold() -> impl Strategy<Value = Threshold> {
    // Few different ones, so that equal ones and equal heights meet.
    prop_oneof![
        3 => (0..=6_i64).prop_map(|fives| Threshold::Remaining(parts(5 * fives))),
        1 => (0..=40_i64).prop_map(|level| Threshold::Remaining(parts(level))),
        3 => (1..=4_i64).prop_map(|quarters| Threshold::Percent(parts(250_000 * quarters))),
        1 => (0..=1_000_001_i64).prop_map(|percent| Threshold::Percent(parts(percent))),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let alerts = prop::option::weighted(0.7, prop::collection::vec(threshold(), 0..6));
    let repurchase = (
        prop::bool::weighted(0.9),
        prop_oneof![threshold(), Just(Threshold::Percent(parts(1_000_000)))],
        1..=3_i64,
        (0..=4_u32, prop::option::of(0..=8_i64), prop_oneof![1 => Just(0_i64), 6 => 1..=400_i64, 3 => 400..=5_000_i64]),
        prop_oneof![Just(0_i64), 0..=60_i64],
    )
        .prop_map(|(enabled, trigger, price, (count, spend, period_ms), cooldown_ms)| {
            let mut rule = order_rules(trigger, count, period_ms).repurchase.unwrap();
            (rule.enabled, rule.cooldown_ms) = (enabled, cooldown_ms);
            (rule.package.price, rule.cap.spend) = (parts(price), spend.map(parts));
            rule
        });
    (alerts, prop::option::weighted(0.9, repurchase)).prop_map(|(alerts, repurchase)| Rules { alerts, repurchase })
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
            Action::Admit { call, is_other, hold, lease_ms, replay_limit, key } => Command::Admit(Claim {
                request_id: request_id(call),
                fingerprint: fingerprint(if is_other { "/other" } else { "/" }),
                hold: parts(hold),
                lease_ends_ms: now_ms + lease_ms,
                replay_limit,
                idempotency_key: key.map(u64::from),
            }),
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
            Action::Grant(granting) => Command::Grant(Box::new(granting.grant(account, now_ms))),
            Action::Look => Command::Look,
            Action::SetRules(rules) => Command::SetRules(Box::new(rules)),
            Action::Conclude { order_back, conclusion, package } => Command::ConcludeOrder {
                number: order_number(account, order_back),
                conclusion,
                package: package.map(|granting| Box::new(granting.grant(account, now_ms))),
            },
            Action::Freeze { package } => change(package, PackageChange::Freeze),
            Action::Unfreeze { package } => change(package, PackageChange::Unfreeze),
            Action::Release { package } => change(package, PackageChange::Release),
            Action::Reschedule { package, expires_in_ms, priority } => {
                let expires_at_ms = expires_in_ms.map(|expiry| expiry.map(|ms| now_ms + ms));
                change(package, PackageChange::Reschedule { expires_at_ms, priority })
            }
        }
    }
}

impl Granting {
    fn grant(self, account: &Account, now_ms: i64) -> Grant {
        let Self { package, is_unmetered, quantity, starts_in_ms, lasts_ms, priority, order_back } = self;
        Grant {
            package_id: package_id(package),
            kind: if is_unmetered { PackageKind::Unmetered } else { PackageKind::Prepaid },
            quantity: parts(quantity),
            starts_at_ms: starts_in_ms.map(|ms| now_ms + ms),
            expires_at_ms: lasts_ms.map(|ms| now_ms + starts_in_ms.unwrap_or(0) + ms),
            priority,
            order_id: None,
            repurchase: order_back.map(|order_back| order_number(account, order_back)),
        }
    }
}

/// Zero, which is no order, where there are not as many.
fn order_number(account: &Account, order_back: u32) -> u32 {
    account.watch().order_count.saturating_sub(order_back)
}

fn change(package: u8, change: PackageChange) -> Command {
    Command::Change { package_id: package_id(package), change }
}
