//! The ledger's rules, checked: random command sequences against a reference written from the contract's words, and a few examples a reader learns from.
//!
//! [`commands`] makes the sequences, [`reference`] says in the most naive way what the contract wants, [`watched`] decides commands one by one and
//! checks every rule after each, [`watching`] says what alerts and orders must come of each, [`rows`] is a store as far as the ledger can tell. Quantities are small whole numbers of parts here: rules break
//! where amounts meet, and small ones meet often.

mod commands;
mod examples;
mod limit_examples;
mod order_examples;
mod reference;
mod rows;
mod sequences;
mod usage_examples;
mod watch_examples;
mod watched;
mod watching;

use std::sync::Arc;

use crate::ids::{CorrectionId, PackageId, RequestId};
use crate::ledger::{
    Account, Call, Cap, Claim, Command, Fingerprint, Grant, Package, PackageKind, Purchase, RepurchaseRule, Rules, Settlement,
    Terms, Threshold, UsageTerms,
};
use crate::quantity::Quantity;

fn parts(number: i64) -> Quantity {
    Quantity::from_parts(number).unwrap()
}

fn request_id(number: u8) -> RequestId {
    RequestId::new(&format!("call-{number}")).unwrap()
}

fn package_id(number: u8) -> PackageId {
    PackageId::new(&format!("package-{number}")).unwrap()
}

fn correction_id(number: u8) -> CorrectionId {
    CorrectionId::new(&format!("correction-{number}")).unwrap()
}

fn fingerprint(path: &str) -> Fingerprint {
    Fingerprint::of("GET", path, None)
}

fn prepaid(package: u8, quantity: i64) -> Grant {
    Grant {
        package_id: package_id(package),
        kind: PackageKind::Prepaid,
        quantity: parts(quantity),
        starts_at_ms: None,
        expires_at_ms: None,
        priority: 0,
        order_id: None,
        repurchase: None,
    }
}

/// How long an order may stay without its outcome.
const TIMEOUT_MS: i64 = 200;

fn terms() -> Arc<Terms> {
    terms_with(UsageTerms::default())
}

fn terms_with(usage: UsageTerms) -> Arc<Terms> {
    Arc::new(Terms {
        unit: "call".to_owned(),
        alerts: vec![Threshold::Percent(parts(500_000)), Threshold::Remaining(parts(5))],
        repurchase_timeout_ms: Some(TIMEOUT_MS),
        usage,
    })
}

/// An account without packages, whose product has terms.
fn account() -> Account {
    let mut account = Account::default();
    account.put_terms(terms());
    account
}

/// One whose calls are metered by usage, or not.
fn account_of(usage_terms: UsageTerms) -> Account {
    let mut account = account();
    account.put_terms(terms_with(usage_terms));
    account
}

/// A rule without cooldown that buys 10 parts for 3.
fn order_rules(trigger: Threshold, count: u32, period_ms: i64) -> Rules {
    let package = Purchase { spec_id: "ten".to_owned(), quantity: parts(10), price: parts(3), currency: "CNY".to_owned() };
    let cap = Cap { count, spend: None, period_ms };
    let rule = RepurchaseRule { enabled: true, trigger, package, cap, cooldown_ms: 0 };
    Rules { alerts: None, repurchase: Some(rule) }
}

/// A hold whose lease ends at 100 ms, replayed once at most.
fn admit(call: u8, hold: i64) -> Command {
    Command::Admit(Claim {
        request_id: request_id(call),
        fingerprint: fingerprint("/"),
        hold: parts(hold),
        lease_ends_ms: 100,
        replay_limit: 1,
        idempotency_key: None,
    })
}

fn settle(call: u8, attempt: u32, charge: i64) -> Command {
    Command::Settle(Settlement {
        request_id: request_id(call),
        attempt,
        charge: parts(charge),
        status: Some(200),
        usage_missing: false,
    })
}

/// Everything an account is but the changes that were not taken.
fn assert_same(left: &Account, right: &Account, what: &str) {
    assert_eq!(left.packages, right.packages, "{what}");
    assert_eq!(left.calls, right.calls, "{what}");
    assert_eq!(left.corrections, right.corrections, "{what}");
    assert_eq!(left.orders, right.orders, "{what}");
    assert_eq!(left.watch, right.watch, "{what}");
    assert_eq!((left.overrun, left.entry_count), (right.overrun, right.entry_count), "{what}");
}

fn package_numbered(account: &Account, number: u32) -> &Package {
    account.package(number).unwrap()
}

fn call_of(account: &Account, call: u8) -> &Call {
    account.call(&request_id(call)).unwrap()
}
