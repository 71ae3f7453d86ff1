//! Commits: what accounts decided, as steps of the log, or where it is more than steps as rows of two views. A commit of nothing but steps is one statement.

use super::database::{Database, StoreError, Value, json};
use super::load::Stored;
use super::log::{self, STEP_VALUES, StepRow};
use super::notices::{self, NOTICE_COLUMNS};
use super::operation::{COLUMNS, Op, Operation};
use super::rows::{call_detail, integer, kind_word, phase_word, standing_word, state_word};
use crate::ids::RequestId;
use crate::ledger::{Account, CallState, Changes, Correction, CorrectionTarget, Entry, EntryKind, Package, PackageKind};
use crate::quantity::{Delta, Quantity};

/// How many rows a statement may have: few numbers, so that a connection prepares few statements. Powers of two, to which steps are filled up.
const ROWS: [usize; 6] = [32, 16, 8, 4, 2, 1];

/// The most rows of one kind in a commit; a batch of the book comes nowhere near.
const ROWS_MAX: usize = 100_000;

/// One transaction in the making: what several accounts decided, and the counters that ride along.
#[derive(Default)]
pub struct Commit {
    /// Rows of [`STEP_VALUES`] values.
    steps: Vec<Value>,
    /// Rows of [`COLUMNS`] values.
    operations: Vec<Value>,
    /// Rows of [`NOTICE_COLUMNS`] values.
    notices: Vec<Value>,
    /// The position of the last step.
    last: i64,
    has_events: bool,
}

impl Commit {
    /// A commit that is decided on the log up to a position.
    #[must_use]
    pub fn behind(followed: i64) -> Self {
        Self { last: followed, ..Self::default() }
    }

    /// Puts a step behind the last one.
    fn add_step(&mut self, mut step: StepRow) {
        self.last += 1;
        let [position, ..] = &mut step;
        *position = self.last.into();
        self.steps.extend(step);
    }

    fn add(&mut self, operation: Operation) {
        self.operations.extend(operation.into_values());
    }

    /// Adds what an account decided since it was loaded, and takes it from the account. Answers how much of it are charges.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where more of a package would be used and held than was granted.
    pub fn add_account(&mut self, stored: &mut Stored) -> Result<Quantity, StoreError> {
        let changes = stored.account.take_changes();
        check_counters(&stored.account, &changes)?;
        let charges = changes.entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Charge | EntryKind::ChargeMore));
        let charged = charges.fold(Quantity::ZERO, |sum, entry| sum.saturating_add(entry.quantity));
        if are_steps(&changes) {
            self.add_steps(stored, &changes);
        } else {
            self.add_step(log::changed_step(stored.account_id));
            self.add_operations(stored, changes);
        }
        Ok(charged)
    }

    /// Whether it writes events.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.has_events
    }

    /// The position of its last step.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Whether the tables follow the log to this commit when it is written.
    #[must_use]
    pub fn is_more_than_steps(&self) -> bool {
        !self.operations.is_empty()
    }

    fn add_operations(&mut self, stored: &Stored, changes: Changes) {
        let (account_id, account) = (stored.account_id, &stored.account);
        let last_hold = changes.entries.iter().rev().find(|entry| entry.kind == EntryKind::Hold);
        self.add(Operation {
            op: Op::SeenAccount,
            account_id: Some(account_id),
            seq: integer(account.entry_count()),
            quantity: Some(account.overrun().parts()),
            at_ms: last_hold.map(|entry| entry.at_ms),
            ..Operation::default()
        });
        for (request_id, is_new) in changes.calls.iter() {
            self.add_call(if *is_new { Op::NewCall } else { Op::ChangedCall }, account_id, account, request_id);
        }
        self.add_packages(account_id, account, &changes);
        for correction in &changes.corrections {
            self.add_correction(account_id, correction);
        }
        self.notices.extend(notices::of(stored, &changes).into_iter().flatten());
        self.has_events |= !changes.events.is_empty();
        self.add_entries(account_id, changes.entries);
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
            detail: Some(json(&(kind, target, &*correction.reason))),
            ..Operation::default()
        });
    }

    /// Adds to a counter of the deployment.
    pub fn add_metric(&mut self, name: String, increment: u64) {
        self.add_step(log::counter_step(name, increment));
    }

    /// A step for each entry, in their order, and for each call that changed without one. The counters of a package are those after all of them.
    fn add_steps(&mut self, stored: &mut Stored, changes: &Changes) {
        let (account_id, account) = (stored.account_id, &stored.account);
        let is_new = |request_id: &RequestId| changes.calls.get(request_id) == Some(&true);
        let mut unwritten: Vec<&RequestId> = changes.calls.keys().collect();
        let mut steps = Vec::new();
        // Backwards, since a call goes with the last of its entries.
        for entry in changes.entries.iter().rev() {
            // Both are there: see `are_steps`.
            let (Some(request_id), Some(package)) = (&entry.request_id, account.package(entry.package_number)) else { continue };
            let place = unwritten.iter().position(|unwritten| *unwritten == request_id);
            let call = place.and_then(|place| account.call(unwritten.swap_remove(place)));
            steps.push(log::entry_step(account_id, entry, package, call, is_new(request_id)));
        }
        for call in unwritten.into_iter().filter_map(|request_id| account.call(request_id)) {
            steps.push(log::call_step(account_id, call, is_new(&call.request_id)));
        }
        steps.into_iter().rev().for_each(|step| self.add_step(step));
        stored.unapplied.extend(changes.calls.keys().filter(|id| is_new(id)).map(|id| (self.last, id.clone())));
    }
}

/// No counter leaves its package, and no entry is of a package that is not there, whatever was decided on.
fn check_counters(account: &Account, changes: &Changes) -> Result<(), StoreError> {
    // 0 is the account's overrun, which is no package.
    if changes.entries.iter().any(|entry| entry.package_number != 0 && account.package(entry.package_number).is_none()) {
        return Err(StoreError::Corrupt("an entry is of a package that was not loaded".to_owned()));
    }
    let moved = changes.moved_packages.iter().chain(&changes.rewritten_packages).filter_map(|number| account.package(*number));
    let mut prepaid = moved.filter(|package| package.kind == PackageKind::Prepaid);
    let is_over = |package: &Package| package.used.saturating_add(package.held) > package.granted;
    if prepaid.any(is_over) {
        return Err(StoreError::Corrupt("more of a package is used and held than was granted".to_owned()));
    }
    Ok(())
}

fn package_detail(package: &Package) -> String {
    json(&(
        &package.id,
        kind_word(package.kind),
        package.granted.parts(),
        package.used.parts(),
        package.held.parts(),
        package.starts_at_ms,
        package.expires_at_ms,
        package.priority,
        package.created_at_ms,
        &package.order_id,
        standing_word(package.standing),
        phase_word(package.phase),
        &package.grant_digest,
    ))
}

/// Whether the changes are nothing but calls and what they moved of packages.
fn are_steps(changes: &Changes) -> bool {
    // 0 is the account's overrun, which is no package.
    let is_step = |entry: &Entry| entry.request_id.is_some() && entry.correction_id.is_none() && entry.package_number != 0;
    changes.rewritten_packages.is_empty()
        && changes.corrections.is_empty()
        && changes.events.is_empty()
        && changes.orders.is_empty()
        && !changes.watch
        && changes.entries.iter().all(is_step)
}

/// One INSERT of some rows into a view.
fn insert_statement<D: Database>(view: &str, columns: usize, rows: usize) -> String {
    let row = format!("({})", ["?"].repeat(columns).join(","));
    format!("INSERT {} INTO {view} VALUES {}", D::OR_ROLLBACK, [row.as_str()].repeat(rows).join(","))
}

/// The statements that write some rows, largest first, each with its values.
fn statements<D: Database>(mut values: &[Value], columns: usize, statement: fn(usize) -> String) -> Vec<(String, &[Value])> {
    let mut statements = Vec::new();
    for rows in ROWS.into_iter().filter(|rows| rows * columns <= D::PARAMETERS_MAX) {
        while let Some((now, later)) = values.split_at_checked(rows * columns) {
            statements.push((statement(rows), now));
            values = later;
        }
    }
    statements
}

/// Fills steps up with rows of nothing, so that so many as one statement may have make one statement, and a commit of them no more.
fn fill_up<D: Database>(steps: &mut Vec<Value>) {
    let sizes = ROWS.into_iter().filter(|rows| rows * STEP_VALUES <= D::PARAMETERS_MAX);
    let left = (steps.len() / STEP_VALUES) % sizes.max().unwrap_or(1);
    if left > 0 {
        let filled = steps.len() + (left.next_power_of_two() - left) * STEP_VALUES;
        steps.resize(filled, Value::Null);
    }
}

/// Writes a commit: all of it or nothing. Inside a transaction that the caller began it is part of it; elsewhere it is one of its own.
///
/// # Errors
/// [`StoreError::Stale`] where the log is longer by now than what it was decided on, [`StoreError::ClaimTaken`] where a claimed request id has a call already.
pub fn commit<D: Database>(database: &D, commit: &mut Commit, in_transaction: bool) -> Result<(), StoreError> {
    let rows = [commit.steps.len() / STEP_VALUES, commit.operations.len() / COLUMNS, commit.notices.len() / NOTICE_COLUMNS];
    if rows.iter().any(|rows| *rows > ROWS_MAX) {
        return Err(StoreError::Unavailable("a commit is too large".to_owned()));
    }
    fill_up::<D>(&mut commit.steps);
    let appends = statements::<D>(&commit.steps, STEP_VALUES, log::append_statement::<D>);
    let mut others = statements::<D>(&commit.operations, COLUMNS, |rows| insert_statement::<D>("operations", COLUMNS, rows));
    others
        .extend(statements::<D>(&commit.notices, NOTICE_COLUMNS, |rows| insert_statement::<D>("notices", NOTICE_COLUMNS, rows)));
    let write = |(statement, values): &(String, &[Value])| database.execute(statement, values).map(drop);
    let run = || {
        appends.iter().try_for_each(write)?;
        if commit.is_more_than_steps() {
            // Operations say how a table's row is from now on, so all that came before must be in it.
            log::apply(database)?;
        }
        others.iter().try_for_each(write)
    };
    let is_one_statement = appends.len() == 1 && !commit.is_more_than_steps();
    if in_transaction || is_one_statement { run() } else { database.transaction(run) }
}
