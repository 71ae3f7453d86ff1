//! Commits: what accounts decided, as operations written by one statement.

use super::database::{Database, StoreError, Value};
use super::load::Stored;
use super::notices::{self, NOTICE_COLUMNS};
use super::operation::{COLUMNS, Op, Operation};
use super::rows::{call_detail, kind_word, phase_word, standing_word, state_word};
use crate::ids::RequestId;
use crate::ledger::{Account, Call, CallState, Changes, Correction, CorrectionTarget, Entry, EntryKind, Package};
use crate::quantity::{Delta, Quantity};

/// How many rows a statement may have: few numbers, so that a connection prepares few statements.
const ROWS: [usize; 4] = [32, 8, 3, 1];

/// How many columns an admission or a settlement has.
const CALL_COLUMNS: usize = 10;

/// The most operations of a commit; a batch of the book comes nowhere near.
const OPERATIONS_MAX: usize = 100_000;

/// One transaction in the making: what several accounts decided, and the counters that ride along.
#[derive(Default)]
pub struct Commit {
    /// Rows of [`CALL_COLUMNS`] values.
    admissions: Vec<Value>,
    /// Rows of [`CALL_COLUMNS`] values.
    settlements: Vec<Value>,
    /// Rows of [`COLUMNS`] values.
    operations: Vec<Value>,
    /// Rows of [`NOTICE_COLUMNS`] values.
    notices: Vec<Value>,
    has_events: bool,
}

/// A whole number as SQLite has it; counts and sequences never come near its end.
fn integer(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

impl Commit {
    fn add(&mut self, operation: Operation) {
        self.operations.extend(operation.into_values());
    }

    /// Adds what an account decided since it was loaded, takes it from the account, and moves the account's version to what the commit makes it.
    /// Answers how much of it are charges.
    pub fn add_account(&mut self, stored: &mut Stored) -> Quantity {
        let changes = stored.account.take_changes();
        let charges = changes.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Charge | EntryKind::ChargeMore));
        let charged = charges.fold(Quantity::ZERO, |sum, entry| sum.saturating_add(entry.quantity));
        match plain_calls(&stored.account, &changes) {
            Some(EntryKind::Hold) => add_plain_calls(&mut self.admissions, stored, &changes.entries),
            Some(_) => add_plain_calls(&mut self.settlements, stored, &changes.entries),
            None => self.add_operations(stored, changes),
        }
        charged
    }

    /// Whether it writes events.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.has_events
    }

    fn add_operations(&mut self, stored: &mut Stored, changes: Changes) {
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
        for correction in &changes.corrections {
            self.add_correction(account_id, correction);
        }
        self.notices.extend(notices::of(stored, &changes).into_iter().flatten());
        self.has_events |= !changes.events.is_empty();
        self.add_entries(account_id, changes.entries);
        stored.version += 1;
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

    fn add_entries(&mut self, account_id: i64, entries: Vec<Entry>) {
        for entry in entries {
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
        phase_word(package.phase),
        package.grant_digest,
    ])
    .to_string()
}

/// Whether the changes are nothing but plain admissions (`Hold`) or plain settles (`Charge`): each call with one entry on the same package, held until
/// now or from now on, and nothing to be told of it.
fn plain_calls(account: &Account, changes: &Changes) -> Option<EntryKind> {
    let first = changes.entries.first()?;
    let (calls, none, state) = match first.kind {
        EntryKind::Hold => (&changes.new_calls, &changes.changed_calls, CallState::Held),
        EntryKind::Charge => (&changes.changed_calls, &changes.new_calls, CallState::Settled),
        _ => return None,
    };
    let is_plain = |entry: &Entry| {
        let call = entry.request_id.as_ref().filter(|id| calls.contains(id)).and_then(|id| account.call(id));
        let alike = entry.kind == first.kind && entry.package_number == first.package_number;
        alike && call.is_some_and(|call: &Call| call.state == state && call.legs.len() == 1)
    };
    let nothing_else = none.is_empty()
        && changes.rewritten_packages.is_empty()
        && changes.corrections.is_empty()
        && changes.events.is_empty()
        && changes.orders.is_empty()
        && !changes.watch
        && changes.entries.len() == calls.len();
    (nothing_else && changes.entries.iter().all(is_plain)).then_some(first.kind)
}

/// A row for each of the calls. The package's counters are those after all of them.
fn add_plain_calls(rows: &mut Vec<Value>, stored: &mut Stored, entries: &[Entry]) {
    for entry in entries {
        let call = entry.request_id.as_ref().and_then(|id| stored.account.call(id));
        let (Some(call), Some(package)) = (call, stored.account.package(entry.package_number)) else { continue };
        let last = if entry.kind == EntryKind::Hold { call.lease_ends_ms } else { package.used.parts() };
        let row: [Value; CALL_COLUMNS] = [
            stored.account_id.into(),
            stored.version.into(),
            integer(entry.seq).into(),
            call.request_id.as_str().into(),
            i64::from(entry.package_number).into(),
            entry.quantity.parts().into(),
            package.held.parts().into(),
            entry.at_ms.into(),
            last.into(),
            call_detail(call).into(),
        ];
        rows.extend(row);
        stored.version += 1;
    }
}

/// One INSERT of some rows. A row that is refused rolls all of it back, and the transaction with it, so that SQLite need not be able to undo the
/// statement alone, for which it would copy every page first.
fn statement(insert: &str, view: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", ["?"].repeat(columns).join(","));
    format!("{insert} INTO {view} VALUES {}", [row.as_str()].repeat(rows).join(","))
}

/// The statements that write some rows, largest first, each with its values.
fn statements<'a, D: Database>(view: &'static str, columns: usize, mut values: &'a [Value]) -> Vec<(String, &'a [Value])> {
    let mut statements = Vec::new();
    for rows in ROWS.into_iter().filter(|rows| rows * columns <= D::PARAMETERS_MAX) {
        while let Some((now, later)) = values.split_at_checked(rows * columns) {
            statements.push((statement(D::INSERT, view, columns, rows), now));
            values = later;
        }
    }
    statements
}

/// Writes a commit: all of it or nothing. Inside a transaction that the caller began it is part of it; elsewhere it is one of its own.
///
/// # Errors
/// [`StoreError::Stale`] and [`StoreError::ClaimTaken`] where another instance was faster.
pub fn commit<D: Database>(database: &D, commit: &Commit, in_transaction: bool) -> Result<(), StoreError> {
    if commit.operations.len() > OPERATIONS_MAX * COLUMNS || commit.notices.len() > OPERATIONS_MAX * NOTICE_COLUMNS {
        return Err(StoreError::Unavailable("a commit is too large".to_owned()));
    }
    let mut all = statements::<D>("admissions", CALL_COLUMNS, &commit.admissions);
    all.extend(statements::<D>("settlements", CALL_COLUMNS, &commit.settlements));
    all.extend(statements::<D>("operations", COLUMNS, &commit.operations));
    // After the operations, which check the versions.
    all.extend(statements::<D>("notices", NOTICE_COLUMNS, &commit.notices));
    let run = || all.iter().try_for_each(|(statement, values)| database.execute(statement, values).map(drop));
    if in_transaction || all.len() == 1 { run() } else { database.transaction(run) }
}
