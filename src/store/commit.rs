//! Commits: the document that carries what accounts decided into the database, in one statement. `apply_commit.sql` reads it.

use serde::Serialize;

use super::database::{Database, StoreError, Value};
use super::load::Stored;
use super::rows::{CallDetail, call_detail, kind_word, standing_word, state_word};
use crate::ids::RequestId;
use crate::ledger::{CallState, CorrectionTarget, EntryKind, Package};
use crate::quantity::Delta;

/// One transaction in the making: what several accounts decided, and the counters that ride along.
#[derive(Default, Serialize)]
pub struct Commit {
    v: Vec<(i64, i64, u64, i64, Option<i64>)>,
    u: Vec<(i64, u32, i64, i64, i64)>,
    p: Vec<PackageRow>,
    n: Vec<CallRow>,
    c: Vec<CallRow>,
    e: Vec<EntryRow>,
    x: Vec<CorrectionRow>,
    o: Vec<EventRow>,
    m: Vec<(String, u64)>,
}

type PackageRow =
    (i64, u32, String, &'static str, i64, i64, i64, i64, Option<i64>, i32, i64, Option<String>, &'static str, String);
type CallRow = (i64, String, &'static str, Option<i64>, u64, CallDetail);
type EntryRow = (i64, u64, u8, u32, i64, Option<String>, Option<String>, i64);
type CorrectionRow = (i64, &'static str, String, String, Option<i64>, String, i64);
type EventRow = (i64, u64, &'static str, Option<u32>, Option<String>, i64);

fn package_row(account_id: i64, package: &Package) -> PackageRow {
    (
        account_id,
        package.number,
        package.id.to_string(),
        kind_word(package.kind),
        package.granted.parts(),
        package.used.parts(),
        package.held.parts(),
        package.starts_at_ms,
        package.expires_at_ms,
        package.priority,
        package.created_at_ms,
        package.order_id.clone(),
        standing_word(package.standing),
        package.grant_digest.clone(),
    )
}

impl Commit {
    /// Adds what an account decided since it was loaded, and takes it from the account.
    pub fn add_account(&mut self, stored: &mut Stored) {
        let changes = stored.account.take_changes();
        let (account_id, account) = (stored.account_id, &stored.account);
        let last_call_at_ms = changes.entries.iter().rev().find(|entry| entry.kind == EntryKind::Hold).map(|entry| entry.at_ms);
        self.v.push((account_id, stored.version, account.entry_count(), account.overrun().parts(), last_call_at_ms));
        for package in changes.rewritten_packages.iter().filter_map(|number| account.package(*number)) {
            self.p.push(package_row(account_id, package));
        }
        let moved = changes.moved_packages.iter().filter(|number| !changes.rewritten_packages.contains(number));
        for package in moved.filter_map(|number| account.package(*number)) {
            self.u.push((account_id, package.number, package.granted.parts(), package.used.parts(), package.held.parts()));
        }
        let call_row = |request_id: &RequestId| {
            account.call(request_id).map(|call| {
                let lease_ends_ms = (call.state == CallState::Held).then_some(call.lease_ends_ms);
                (account_id, request_id.to_string(), state_word(call.state), lease_ends_ms, call.hold_seq, call_detail(call))
            })
        };
        self.n.extend(changes.new_calls.iter().filter_map(call_row));
        self.c.extend(changes.changed_calls.iter().filter_map(call_row));
        let text = |id: Option<&RequestId>| id.map(ToString::to_string);
        for entry in &changes.entries {
            let correction_id = entry.correction_id.as_ref().map(ToString::to_string);
            let (kind, quantity) = (entry.kind as u8, entry.quantity.parts());
            let row =
                (account_id, entry.seq, kind, entry.package_number, quantity, text(entry.request_id.as_ref()), correction_id);
            self.e.push((row.0, row.1, row.2, row.3, row.4, row.5, row.6, entry.at_ms));
        }
        for made in changes.corrections {
            let (target_kind, target) = match &made.key.target {
                CorrectionTarget::Call(request_id) => ("call", request_id.to_string()),
                CorrectionTarget::Package(package_id) => ("package", package_id.to_string()),
            };
            let quantity = made.quantity.map(Delta::parts);
            self.x.push((
                account_id,
                target_kind,
                target,
                made.key.id.to_string(),
                quantity,
                made.reason.to_string(),
                made.at_ms,
            ));
        }
        for event in &changes.events {
            let request_id = text(event.request_id.as_ref());
            self.o.push((account_id, event.seq, event.kind.as_str(), event.package_number, request_id, event.at_ms));
        }
    }

    /// Adds to a counter of the deployment.
    pub fn add_metric(&mut self, name: String, increment: u64) {
        self.m.push((name, increment));
    }
}

/// Writes a commit: all of it or nothing.
///
/// # Errors
/// [`StoreError::Stale`] and [`StoreError::ClaimTaken`] where another instance was faster.
pub fn commit(database: &impl Database, commit: &Commit) -> Result<(), StoreError> {
    let document = serde_json::to_string(commit).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    database.execute("INSERT INTO commits (document) VALUES (jsonb(?1))", &[Value::Text(document)]).map(drop)
}
