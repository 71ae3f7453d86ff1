//! What the ledger as a whole says of itself: the audit of its balances, and the counters of the deployment.
//!
//! The audit trusts entries, and the days that old ones are folded into, and nothing else: it adds them up and names every counter and every call
//! that says otherwise. What always holds: one account's audit reads one state of the database. The border: differences out; nothing is repaired.

mod audit;
mod counters;

pub use audit::{AuditedAccount, Difference, Findings, audit, audited_accounts};
pub use counters::{Counters, counters};

use super::database::{StoreError, Value};

/// Rows of whole numbers.
fn numbers<const N: usize>(rows: &[Vec<Value>]) -> Result<Vec<[i64; N]>, StoreError> {
    let read = |row: &Vec<Value>| row.iter().map(Value::integer).collect::<Option<Vec<_>>>()?.try_into().ok();
    rows.iter().map(|row| read(row).ok_or_else(|| StoreError::unreadable("sum"))).collect()
}
