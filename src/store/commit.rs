//! Commits: what accounts decided, as rows of three views. A commit of nothing but plain steps is one statement.

use super::database::{Database, StoreError, Value};
use super::load::Stored;
use super::notices::{self, NOTICE_COLUMNS};
use super::operation::{COLUMNS, Op, Operation};
use super::rows::{call_detail, kind_word, phase_word, standing_word, state_word};
use crate::ids::RequestId;
use crate::ledger::{Account, Call, CallState, Changes, Correction, CorrectionTarget, Entry, EntryKind, Package};
use crate::quantity::{Delta, Quantity};

/// How many rows a statement may have: few numbers, so that a connection prepares few statements. Powers of two, to which steps are filled up.
const ROWS: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// How many columns a step has.
const STEP_COLUMNS: usize = 11;

/// What a step does: the first of its columns.
const ADMISSION: i64 = 1;
const SETTLEMENT: i64 = 2;
const COUNTER: i64 = 3;

/// The most operations of a commit; a batch of the book comes nowhere near.
const OPERATIONS_MAX: usize = 100_000;

/// One transaction in the making: what several accounts decided, and the counters that ride along.
#[derive(Default)]
pub struct Commit {
    /// Rows of [`STEP_COLUMNS`] values.
    steps: Vec<Value>,
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
        if are_plain_steps(&stored.account, &changes) {
            self.add_steps(stored, &changes.entries);
        } else {
            self.add_operations(stored, changes);
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
        for request_id in &changes.new_calls {
            self.add_call(Op::NewCall, account_id, account, request_id, false);
        }
        for request_id in &changes.changed_calls {
            self.add_call(Op::ChangedCall, account_id, account, request_id, changes.held_calls.contains(request_id));
        }
        // After the calls: what is decided on a call that another instance has ended is refused for that, whatever it makes of the counters.
        self.add_packages(account_id, account, &changes);
        for correction in &changes.corrections {
            self.add_correction(account_id, correction);
        }
        self.notices.extend(notices::of(stored, &changes).into_iter().flatten());
        self.has_events |= !changes.events.is_empty();
        self.add_entries(account_id, changes.entries);
        stored.version += 1;
        stored.shape += 1;
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

    fn add_call(&mut self, op: Op, account_id: i64, account: &Account, request_id: &RequestId, was_held: bool) {
        let Some(call) = account.call(request_id) else { return };
        self.add(Operation {
            op,
            account_id: Some(account_id),
            seq: integer(call.hold_seq),
            request_id: Some(request_id.to_string()),
            number_1: (call.state == CallState::Held).then_some(call.lease_ends_ms),
            number_2: was_held.then_some(1),
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
        let mut row = [const { Value::Null }; STEP_COLUMNS];
        let [kind, .., quantity, _, _, _, detail] = &mut row;
        (*kind, *quantity, *detail) = (COUNTER.into(), integer(increment).into(), name.into());
        self.steps.extend(row);
    }

    /// A row for each of the entries, in their order. A package's counters are those after all of them.
    fn add_steps(&mut self, stored: &mut Stored, entries: &[Entry]) {
        for entry in entries {
            let call = entry.request_id.as_ref().and_then(|id| stored.account.call(id));
            // Both are there: the entry is of a call that has just changed, on a package that it has a leg on.
            let (Some(call), Some(package)) = (call, stored.account.package(entry.package_number)) else { continue };
            let (kind, number) = match entry.kind {
                EntryKind::Hold => (ADMISSION, call.lease_ends_ms),
                _ => (SETTLEMENT, package.used.parts()),
            };
            let row: [Value; STEP_COLUMNS] = [
                kind.into(),
                stored.account_id.into(),
                stored.version.into(),
                integer(entry.seq).into(),
                call.request_id.as_str().into(),
                i64::from(entry.package_number).into(),
                entry.quantity.parts().into(),
                package.held.parts().into(),
                entry.at_ms.into(),
                number.into(),
                call_detail(call).into(),
            ];
            self.steps.extend(row);
            stored.version += 1;
        }
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

/// Whether the changes are nothing but plain admissions and settles: of each call one entry on one package, held from now on or until now, and nothing to
/// be told of it.
fn are_plain_steps(account: &Account, changes: &Changes) -> bool {
    let is_plain = |entry: &Entry| {
        let (calls, state) = match entry.kind {
            EntryKind::Hold => (&changes.new_calls, CallState::Held),
            EntryKind::Charge => (&changes.changed_calls, CallState::Settled),
            _ => return false,
        };
        let call = entry.request_id.as_ref().filter(|id| calls.contains(id)).and_then(|id| account.call(id));
        call.is_some_and(|call: &Call| call.state == state && call.legs.len() == 1)
    };
    let nothing_else = changes.rewritten_packages.is_empty()
        && changes.corrections.is_empty()
        && changes.events.is_empty()
        && changes.orders.is_empty()
        && !changes.watch
        && changes.entries.len() == changes.new_calls.len() + changes.changed_calls.len();
    nothing_else && changes.entries.iter().all(is_plain)
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

/// Fills steps up with rows of nothing, so that so many as one statement may have make one statement, and a commit of them no more.
fn fill_up<D: Database>(steps: &mut Vec<Value>) {
    let sizes = ROWS.into_iter().filter(|rows| rows * STEP_COLUMNS <= D::PARAMETERS_MAX);
    let rows_max = sizes.max().unwrap_or(1);
    let left = (steps.len() / STEP_COLUMNS) % rows_max;
    if left > 0 {
        let filled = steps.len() + (left.next_power_of_two() - left) * STEP_COLUMNS;
        steps.resize(filled, Value::Null);
    }
}

/// Writes a commit: all of it or nothing. Inside a transaction that the caller began it is part of it; elsewhere it is one of its own.
///
/// # Errors
/// [`StoreError::Stale`] and [`StoreError::ClaimTaken`] where another instance was faster.
pub fn commit<D: Database>(database: &D, commit: &mut Commit, in_transaction: bool) -> Result<(), StoreError> {
    if commit.operations.len() > OPERATIONS_MAX * COLUMNS || commit.notices.len() > OPERATIONS_MAX * NOTICE_COLUMNS {
        return Err(StoreError::Unavailable("a commit is too large".to_owned()));
    }
    fill_up::<D>(&mut commit.steps);
    let mut all = statements::<D>("steps", STEP_COLUMNS, &commit.steps);
    all.extend(statements::<D>("operations", COLUMNS, &commit.operations));
    // After the operations, which check the versions.
    all.extend(statements::<D>("notices", NOTICE_COLUMNS, &commit.notices));
    let run = || all.iter().try_for_each(|(statement, values)| database.execute(statement, values).map(drop));
    if in_transaction || all.len() == 1 { run() } else { database.transaction(run) }
}
