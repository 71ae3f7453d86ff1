//! The reading side: what the control API lists and shows.
//!
//! What always holds: a page is cut at its limit and looks at a bounded number of rows, however large the ledger is, except that of a customer on it, or whose packages
//! are listed, all packages are looked at; and no later insert moves an item from one page to another. The border: rows in, the ledger's own types out; how they look to a client is the control API's business.

mod calls;
mod customers;
mod events;
mod holds;
mod packages;
mod repurchases;
mod watch;
mod webhooks;

pub use calls::{CallList, CallPosition, ListedCall, call, calls};
pub use customers::{CustomerRow, ProductRow, account_keys, customers};
pub use events::{DeliveryFilter, EventFilter, ListedDelivery, ListedEvent, event, events};
pub use holds::{OverdueHold, overdue_holds};
pub use packages::{OwnedPackage, PackageFilter, package, packages};
pub use repurchases::{ListedOrder, repurchase, repurchases};
pub use watch::{due_accounts, order_by_id, watch};
pub use webhooks::{EndpointState, Outbox, enable, endpoint_states, outbox};

use super::database::{Database, StoreError, Value};
use crate::ids::CustomerId;

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

/// Where a page of a list by position looks: so many rows of each of a customer's accounts, or of all.
struct Window {
    /// The list's table and `accounts AS a`, for SQL. A customer's id is its parameter `?5`.
    tables: String,
    /// The lowest position that the page looks at, where there may be rows below it.
    floor: Option<i64>,
}

fn window(
    database: &impl Database,
    table: &str,
    alias: &str,
    customer_id: Option<&CustomerId>,
    below: i64,
) -> Result<Window, StoreError> {
    let last_scanned =
        format!("SELECT position FROM {table} WHERE position < ?1 AND {{}} ORDER BY position DESC LIMIT 1 OFFSET ?2");
    let last_scanned = |condition: &str| last_scanned.replace("{}", condition);
    let mut parameters = vec![below.into(), (SCANNED_ROWS_MAX - 1).into()];
    let (tables, statement) = match customer_id {
        Some(customer_id) => {
            parameters.push(customer_id.as_str().into());
            let of_account = last_scanned("account_id = a.account_id");
            (
                format!(
                    "accounts AS a CROSS JOIN {table} AS {alias} ON {alias}.account_id = a.account_id AND a.customer_id = ?5"
                ),
                format!("SELECT max(({of_account})) FROM accounts AS a WHERE a.customer_id = ?3"),
            )
        }
        None => {
            (format!("{table} AS {alias} CROSS JOIN accounts AS a ON a.account_id = {alias}.account_id"), last_scanned("TRUE"))
        }
    };
    let rows = database.execute(&statement, &parameters)?;
    Ok(Window { tables, floor: rows.first().and_then(|row| row.first()).and_then(Value::integer) })
}
