//! The log: every commit's steps, in the one order of all commits, and the tables that follow it.
//!
//! A step is what one entry moved, with the package and the call as they are after it; or a call that changed without an entry; or a counter of the deployment; or
//! that an account was changed by more than steps. Steps are appended behind the last one that an instance has followed, so two instances cannot both append at one
//! place: who comes second is refused, follows what the other wrote, and decides again. Applying writes what the steps did into the tables, many steps at once.
//!
//! What always holds: positions have no gaps and are never used twice; of a commit all steps are in the log or none; the tables are the sum of the steps up to
//! `log.applied` and of nothing behind it; the last few thousand applied steps stay for those who are not far behind.
//!
//! The border: what a step says about money was decided elsewhere.

use super::database::{Database, StoreError, Value, json};
use super::load::Stored;
use super::rows::{call_detail, integer, state_word};
use crate::ids::RequestId;
use crate::ledger::{Call, CallState, Entry, EntryKind, Package};
use crate::quantity::Quantity;

/// How many values a step is given with: the columns of its table, and whether it claims a request id.
pub(super) const STEP_VALUES: usize = 15;

/// A call that changed without an entry. Above it is the number of an entry's kind.
const CALL_ALONE: i64 = 0;
/// What a call that claims its request id does.
const HOLD: i64 = EntryKind::Hold as i64;
/// A counter of the deployment.
const COUNTER: i64 = -1;
/// An account that was changed by more than steps.
const CHANGED: i64 = -2;

/// One step to append; its first value, the position, is set when it is.
pub(super) type StepRow = [Value; STEP_VALUES];

/// What an entry of a call moved. The call is there with the last of its entries in a commit.
pub(super) fn entry_step(account_id: i64, entry: &Entry, package: &Package, call: Option<&Call>, is_claim: bool) -> StepRow {
    let [state, lease_ends_ms, hold_seq, detail] = call_values(call);
    [
        Value::Null,
        i64::from(entry.kind as u8).into(),
        account_id.into(),
        integer(entry.seq).into(),
        entry.request_id.as_ref().map(RequestId::as_str).into(),
        i64::from(entry.package_number).into(),
        entry.quantity.parts().into(),
        package.used.parts().into(),
        package.held.parts().into(),
        entry.at_ms.into(),
        state,
        lease_ends_ms,
        hold_seq,
        detail,
        is_claim.then_some(1).into(),
    ]
}

/// A call that changed without an entry.
pub(super) fn call_step(account_id: i64, call: &Call, is_claim: bool) -> StepRow {
    let mut row = [const { Value::Null }; STEP_VALUES];
    let [_, kind, account, _, request_id, _, _, _, _, _, state, lease_ends_ms, hold_seq, detail, claim] = &mut row;
    (*kind, *account, *request_id) = (CALL_ALONE.into(), account_id.into(), call.request_id.as_str().into());
    [*state, *lease_ends_ms, *hold_seq, *detail] = call_values(Some(call));
    *claim = is_claim.then_some(1).into();
    row
}

fn call_values(call: Option<&Call>) -> [Value; 4] {
    let Some(call) = call else { return [const { Value::Null }; 4] };
    let lease_ends_ms = (call.state == CallState::Held).then_some(call.lease_ends_ms);
    [state_word(call.state).into(), lease_ends_ms.into(), integer(call.hold_seq).into(), call_detail(call).into()]
}

/// A counter goes up.
pub(super) fn counter_step(name: String, increment: u64) -> StepRow {
    let mut row = [const { Value::Null }; STEP_VALUES];
    let [_, kind, _, _, _, _, quantity, .., detail, _] = &mut row;
    (*kind, *quantity, *detail) = (COUNTER.into(), i64::try_from(increment).unwrap_or(i64::MAX).into(), name.into());
    row
}

/// An account was changed by more than steps: who remembers it must load it.
pub(super) fn changed_step(account_id: i64) -> StepRow {
    let mut row = [const { Value::Null }; STEP_VALUES];
    let [_, kind, account, ..] = &mut row;
    (*kind, *account) = (CHANGED.into(), account_id.into());
    row
}

/// The statement that appends so many steps, of which those without a position are nothing. A step whose position is applied already, and may be gone, is put at the last
/// one that is, where it is refused. A claim of a request id that has a call already becomes a step without a kind, which its column refuses.
pub(super) fn append_statement<D: Database>(rows: usize) -> String {
    let row = format!("({})", ["?"].repeat(STEP_VALUES).join(","));
    let columns: Vec<String> = (3..STEP_VALUES).map(|column| format!("column{column}")).collect();
    format!(
        "INSERT {} INTO steps SELECT max(column1, (SELECT applied FROM log)), iif(column{STEP_VALUES} AND EXISTS \
         (SELECT 1 FROM calls WHERE account_id = column3 AND request_id = column5), NULL, column2), {} \
         FROM (VALUES {}) WHERE column1 IS NOT NULL",
        D::OR_ROLLBACK,
        columns.join(", "),
        [row.as_str()].repeat(rows).join(",")
    )
}

/// Has the tables follow the log to its end, in one statement and all or nothing. Does nothing where they have.
///
/// # Errors
/// [`StoreError::Unavailable`], also where the tables contradict the log: whose commit finds that out is not to blame, and all of it must wait until a person has
/// seen to it.
pub fn apply<D: Database>(database: &D) -> Result<(), StoreError> {
    let last = "(SELECT max(position) FROM steps)";
    let statement = format!("UPDATE {} log SET applied = {last} WHERE applied < {last}", D::OR_ROLLBACK);
    let applied = database.execute(&statement, &[]).map(drop);
    applied.map_err(|error| StoreError::Unavailable(format!("the log cannot be applied: {error}")))
}

/// Appends that an account was changed by more than steps, where the tables follow the log to its end, and goes on doing so. In the transaction of that change.
pub(super) fn append_changed<D: Database>(database: &D, account_id: i64) -> Result<(), StoreError> {
    let statement = "INSERT INTO steps (position, kind, account_id) SELECT coalesce(max(position), 0) + 1, ?1, ?2 FROM steps";
    database.execute(statement, &[CHANGED.into(), account_id.into()])?;
    apply(database)
}

/// Where the log and the tables are: the last step, and the last one that is applied.
///
/// # Errors
/// As [`follow`].
pub fn ends(database: &impl Database) -> Result<(i64, i64), StoreError> {
    let rows = database.execute("SELECT coalesce((SELECT max(position) FROM steps), 0), applied FROM log", &[])?;
    match rows.first().map(Vec::as_slice) {
        Some([Value::Integer(last), Value::Integer(applied)]) => Ok((*last, *applied)),
        _ => Err(StoreError::unreadable("log")),
    }
}

/// A step as those follow it who did not write it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its place in the log.
    pub position: i64,
    /// The account that it is of; a counter's is of none.
    pub account_id: Option<i64>,
    /// The call that it is of.
    pub request_id: Option<RequestId>,
    kind: i64,
    seq: Option<u64>,
    /// The package that moved, with what of it is used and held.
    package: Option<(u32, Quantity, Quantity)>,
}

/// What others appended.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Everything behind the position that was asked from, or as much of it as is still there.
    pub steps: Vec<Step>,
    /// The last step that is applied.
    pub applied: i64,
}

/// The steps behind a position: all, or those of some accounts.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn follow(database: &impl Database, position: i64, accounts: Option<&[i64]>) -> Result<Followed, StoreError> {
    let accounts = accounts.map(|accounts| json(&accounts));
    let rows = database.execute(
        "SELECT position, kind, account_id, seq, request_id, package_number, used, held, applied FROM steps CROSS JOIN log
        WHERE position > ?1 AND (?2 IS NULL OR account_id IN (SELECT value FROM json_each(?2))) ORDER BY position",
        &[position.into(), accounts.into()],
    )?;
    let applied = rows.first().and_then(|row| row.last()).and_then(Value::integer).unwrap_or(position);
    let steps =
        rows.into_iter().map(|row| read_step(row).ok_or_else(|| StoreError::unreadable("step"))).collect::<Result<_, _>>()?;
    Ok(Followed { steps, applied })
}

/// `None` where a column has another type than this version writes.
fn read_step(row: Vec<Value>) -> Option<Step> {
    let [position, kind, account_id, seq, request_id, package_number, used, held, _] = <[Value; 9]>::try_from(row).ok()?;
    let request_id = match request_id {
        Value::Null => None,
        request_id => Some(RequestId::new(request_id.text()?).ok()?),
    };
    let package = match package_number.integer() {
        Some(number) => {
            let (used, held) = (Quantity::from_parts(used.integer()?)?, Quantity::from_parts(held.integer()?)?);
            Some((u32::try_from(number).ok()?, used, held))
        }
        None => None,
    };
    Some(Step {
        position: position.integer()?,
        account_id: account_id.integer(),
        request_id,
        kind: kind.integer()?,
        seq: seq.integer().and_then(|seq| u64::try_from(seq).ok()),
        package,
    })
}

impl Stored {
    /// Brings the account up to date with a step of another instance, where it is the account's; false where it must be loaded. The call of the step is not
    /// remembered: only its own instance settles it from memory.
    pub fn follow(&mut self, step: &Step) -> bool {
        if step.account_id != Some(self.account_id) {
            return true;
        }
        if let Some(request_id) = &step.request_id {
            self.account.forget_call(request_id);
            // The claim of any other came before it.
            if matches!(step.kind, HOLD | CALL_ALONE) {
                self.unapplied.push((step.position, request_id.clone()));
            }
        }
        if let Some(seq) = step.seq {
            self.account.put_entry_count(seq);
        }
        let moved = step.package.is_none_or(|(number, used, held)| self.account.put_counters(number, used, held));
        moved && step.kind != CHANGED
    }

    /// Whether a call was claimed by a step that may not be applied yet: another claim of its id would not find it in the tables.
    #[must_use]
    pub fn has_unapplied(&self, request_id: &RequestId) -> bool {
        self.unapplied.iter().any(|(_, claimed)| claimed == request_id)
    }

    /// All steps up to a position are applied.
    pub fn applied_to(&mut self, position: i64) {
        self.unapplied.retain(|(claimed_at, _)| *claimed_at > position);
    }
}
