//! The reading side: what the control API lists and shows.
//!
//! What always holds: a page is cut at its limit and looks at a bounded number of rows, however large the ledger is, and no later insert moves an
//! item from one page to another. The border: rows in, the ledger's own types out; how they look to a client is the control API's business.

mod calls;
mod customers;
mod holds;
mod packages;
mod watch;

pub use calls::{CallList, ListedCall, call, calls};
pub use customers::{CustomerRow, ProductRow, account_keys, customers};
pub use holds::{OverdueHold, overdue_holds};
pub use packages::{OwnedPackage, PackageFilter, package, packages};
pub use watch::{due_accounts, order_by_id, watch};

use super::database::{StoreError, Value};

/// The most rows one page looks at where a filter leaves most of them out.
const SCANNED_ROWS_MAX: i64 = 10_000;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, P> {
    /// What is on it. It may be shorter than asked for and not be the last.
    pub items: Vec<T>,
    /// Where the next page starts; none at the end.
    pub next: Option<P>,
}

/// A limit for SQL: one more than asked for, to learn whether there is more.
fn one_more(limit: usize) -> Value {
    i64::try_from(limit).unwrap_or(i64::MAX - 1).saturating_add(1).into()
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, StoreError> {
    value.text().ok_or_else(|| StoreError::unreadable(what))
}

fn integer(value: &Value, what: &str) -> Result<i64, StoreError> {
    value.integer().ok_or_else(|| StoreError::unreadable(what))
}
