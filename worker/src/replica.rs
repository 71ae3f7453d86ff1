//! What customers' objects tell the index, so that it can list what spans customers: copies of accounts, packages, orders, events and counters.
//!
//! A customer's object is right at once; the index is as old as the last telling. Telling the same twice changes nothing, and an older telling never replaces
//! a newer one: each has a number, and the index answers with the newest that it knows. What of it lists show is in the same tables, so that the same
//! statements read them.

pub(crate) mod copies;
pub(crate) mod originals;

use serde::{Deserialize, Serialize};
use tollgate::ids::{CustomerId, ProductId};
use tollgate::store::Value;

/// A telling. Rows are JSON arrays, as SQLite writes and reads them.
#[derive(Serialize, Deserialize)]
pub(crate) struct Telling {
    customer_id: CustomerId,
    /// A later telling of the customer has a higher one.
    pub(crate) number: i64,
    /// The accounts that changed.
    accounts: Vec<AccountCopy>,
    /// `[event_id, product_id, type, at_ms, data]`: the new ones.
    events: String,
    /// Up to which position events are told with this.
    events_to: i64,
    /// `[event_id, kind, url, state, attempts, next_at_ms, last_status, last_error, ended_at_ms]`: those that changed.
    deliveries: String,
    /// The changes of deliveries that are told with this.
    delivery_changes: String,
    /// `[name, value]`: the object's counters as they are now.
    counters: String,
    /// When something is due next.
    due_at_ms: Option<i64>,
    /// More is to be told.
    pub(crate) more: bool,
}

impl Telling {
    /// Whether it tells of events, which go on to webhooks.
    pub(crate) fn has_events(&self) -> bool {
        self.events != NO_ROWS
    }
}

#[derive(Serialize, Deserialize)]
struct AccountCopy {
    product_id: ProductId,
    account_id: i64,
    version: i64,
    /// `[entry_count, overrun, last_call_at_ms]`.
    row: String,
    /// The packages that changed, as they are loaded.
    packages: String,
    /// The changes of packages that are told with this.
    package_changes: String,
    orders: String,
}

/// What SQLite writes for no rows.
const NO_ROWS: &str = "[]";

/// The first column of the first row.
fn first(rows: &[Vec<Value>]) -> Option<&Value> {
    rows.first()?.first()
}
