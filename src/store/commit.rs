//! Commits: what accounts decided, as operations written by one statement.

use std::sync::LazyLock;

use super::database::{Database, StoreError, Value};
use super::load::Stored;
use super::operation::{COLUMNS, Op, Operation};
use super::rows::{call_detail, kind_word, standing_word, state_word};
use crate::ids::RequestId;
use crate::ledger::{Account, CallState, Changes, Correction, CorrectionTarget, EntryKind, Package};
use crate::quantity::Delta;

/// The numbers of rows that statements are made for: few, so that a connection prepares few, and the last as many as SQLite binds values for.
const ROWS: [usize; 6] = [4, 12, 40, 160, 640, 2900];

/// For each of [`ROWS`] the statement's text.
static STATEMENTS: [LazyLock<String>; ROWS.len()] = [
    LazyLock::new(|| statement(4)),
    LazyLock::new(|| statement(12)),
    LazyLock::new(|| statement(40)),
    LazyLock::new(|| statement(160)),
    LazyLock::new(|| statement(640)),
    LazyLock::new(|| statement(2900)),
];

fn statement(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS].join(","));
    format!("INSERT INTO operations VALUES {}", vec![row; rows].join(","))
}

/// One transaction in the making: what several accounts decided, and the counters that ride along.
#[derive(Default)]
pub struct Commit {
    values: Vec<Value>,
}

/// A whole number as SQLite has it; counts and sequences never come near its end.
fn integer(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

impl Commit {
    fn add(&mut self, operation: Operation) {
        self.values.extend(operation.into_values());
    }

    /// Adds what an account decided since it was loaded, and takes it from the account.
    pub fn add_account(&mut self, stored: &mut Stored) {
        let changes = stored.account.take_changes();
        let (account_id, account) = (stored.account_id, &stored.account);
        let last_hold = changes.entries.iter().rev().find(|entry| entry.kind == EntryKind::Hold);
        self.add(Operation {
            op: Op::SeenAccount,
            account_id: Some(account_id),
            seq: integer(account.entry_count()),
            quantity: Some(account.overrun().parts()),
            at_ms: last_hold.map(|entry| entry.at_ms),
            number_1: Some(stored.version),
            ..Operation::default()
        });
        self.add_packages(account_id, account, &changes);
        for request_id in &changes.new_calls {
            self.add_call(Op::NewCall, account_id, account, request_id);
        }
        for request_id in &changes.changed_calls {
            self.add_call(Op::ChangedCall, account_id, account, request_id);
        }
        self.add_entries_and_events(account_id, changes.clone());
        for correction in changes.corrections {
            self.add_correction(account_id, &correction);
        }
    }

    fn add_packages(&mut self, account_id: i64, account: &Account, changes: &Changes) {
        for package in changes.rewritten_packages.iter().filter_map(|number| account.package(*number)) {
            self.add(Operation {
                op: Op::RewrittenPackage,
                account_id: Some(account_id),
                package_number: Some(package.number.into()),
                detail: Some(package_detail(package)),
                ..Operation::default()
            });
        }
        let moved = changes.moved_packages.iter().filter(|number| !changes.rewritten_packages.contains(number));
        for package in moved.filter_map(|number| account.package(*number)) {
            self.add(Operation {
                op: Op::MovedPackage,
                account_id: Some(account_id),
                package_number: Some(package.number.into()),
                quantity: Some(package.granted.parts()),
                number_1: Some(package.used.parts()),
                number_2: Some(package.held.parts()),
                ..Operation::default()
            });
        }
    }

    fn add_call(&mut self, op: Op, account_id: i64, account: &Account, request_id: &RequestId) {
        let Some(call) = account.call(request_id) else { return };
        self.add(Operation {
            op,
            account_id: Some(account_id),
            seq: integer(call.hold_seq),
            request_id: Some(request_id.to_string()),
            number_1: (call.state == CallState::Held).then_some(call.lease_ends_ms),
            word: Some(state_word(call.state).to_owned()),
            detail: Some(call_detail(call)),
            ..Operation::default()
        });
    }

    fn add_entries_and_events(&mut self, account_id: i64, changes: Changes) {
        for entry in changes.entries {
            self.add(Operation {
                op: Op::Entry,
                account_id: Some(account_id),
                seq: integer(entry.seq),
                request_id: entry.request_id.map(|id| id.to_string()),
                package_number: Some(entry.package_number.into()),
                quantity: Some(entry.quantity.parts()),
                at_ms: Some(entry.at_ms),
                number_1: Some(i64::from(entry.kind as u8)),
                word: entry.correction_id.map(|id| id.to_string()),
                ..Operation::default()
            });
        }
        for event in changes.events {
            self.add(Operation {
                op: Op::Event,
                account_id: Some(account_id),
                seq: integer(event.seq),
                request_id: event.request_id.map(|id| id.to_string()),
                package_number: event.package_number.map(i64::from),
                at_ms: Some(event.at_ms),
                word: Some(event.kind.as_str().to_owned()),
                ..Operation::default()
            });
        }
    }

    fn add_correction(&mut self, account_id: i64, correction: &Correction) {
        let (kind, target) = match &correction.key.target {
            CorrectionTarget::Call(request_id) => ("call", request_id.as_str()),
            CorrectionTarget::Package(package_id) => ("package", package_id.as_str()),
        };
        self.add(Operation {
            op: Op::Correction,
            account_id: Some(account_id),
            at_ms: Some(correction.at_ms),
            number_1: correction.quantity.map(Delta::parts),
            word: Some(correction.key.id.to_string()),
            detail: Some(serde_json::json!([kind, target, &*correction.reason]).to_string()),
            ..Operation::default()
        });
    }

    /// Adds to a counter of the deployment.
    pub fn add_metric(&mut self, name: String, increment: u64) {
        self.add(Operation { op: Op::Metric, quantity: integer(increment), word: Some(name), ..Operation::default() });
    }
}

fn package_detail(package: &Package) -> String {
    serde_json::json!([
        package.id,
        kind_word(package.kind),
        package.granted.parts(),
        package.used.parts(),
        package.held.parts(),
        package.starts_at_ms,
        package.expires_at_ms,
        package.priority,
        package.created_at_ms,
        package.order_id,
        standing_word(package.standing),
        package.grant_digest,
    ])
    .to_string()
}

/// Writes a commit: all of it or nothing.
///
/// # Errors
/// [`StoreError::Stale`] and [`StoreError::ClaimTaken`] where another instance was faster; [`StoreError::Unavailable`] where it is larger than one
/// statement can be, which no batch of the book comes near.
pub fn commit(database: &impl Database, commit: Commit) -> Result<(), StoreError> {
    let rows = commit.values.len() / COLUMNS;
    let fitting = ROWS.iter().zip(&STATEMENTS).find(|(capacity, _)| **capacity >= rows);
    let Some((capacity, statement)) = fitting else {
        return Err(StoreError::Unavailable(format!("a commit of {rows} operations is too large")));
    };
    let mut values = commit.values;
    for _ in rows..*capacity {
        values.extend(Operation::default().into_values());
    }
    database.execute(statement, &values).map(drop)
}
