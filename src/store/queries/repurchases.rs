//! Orders of packages by name, and from the newest to the oldest.

use super::customers::read_key;
use super::{Page, Window, integer, one_more, text, window};
use crate::ids::{AccountKey, CustomerId, PackageId, RepurchaseId};
use crate::ledger::{Order, OrderState};
use crate::store::database::{Database, StoreError, Value};
use crate::store::rows::order_state_word;

/// An order as the control API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedOrder {
    /// Its place among all orders.
    pub position: i64,
    /// Its name.
    pub repurchase_id: RepurchaseId,
    /// Whose.
    pub key: AccountKey,
    /// The order.
    pub order: Order,
    /// The package that it credited.
    pub package_id: Option<PackageId>,
}

const COLUMNS: &str = "r.position, r.repurchase_id, a.customer_id, a.product_id, r.detail,
    (SELECT package_id FROM packages WHERE account_id = r.account_id AND number = r.detail ->> '$.package_number')";

/// One order.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn repurchase(database: &impl Database, repurchase_id: &RepurchaseId) -> Result<Option<ListedOrder>, StoreError> {
    let statement =
        format!("SELECT {COLUMNS} FROM repurchases AS r CROSS JOIN accounts AS a USING (account_id) WHERE r.repurchase_id = ?1");
    let rows = database.execute(&statement, &[repurchase_id.as_str().into()])?;
    rows.first().map(|row| read_row(row)).transpose()
}

/// A page of orders, newest first, below a position; from the newest where none is given. The next page starts below the position that is answered.
///
/// # Errors
/// As [`repurchase`].
pub fn repurchases(
    database: &impl Database,
    customer_id: Option<&CustomerId>,
    state: Option<OrderState>,
    below: Option<i64>,
    limit: usize,
) -> Result<Page<ListedOrder, i64>, StoreError> {
    let below = below.unwrap_or(i64::MAX);
    let Window { tables, floor } = window(database, "repurchases", "r", customer_id, below)?;
    let statement = format!(
        "SELECT {COLUMNS} FROM {tables} WHERE r.position < ?1 AND r.position >= ?2 AND (?3 IS NULL OR r.state = ?3) \
         ORDER BY r.position DESC LIMIT ?4"
    );
    let mut parameters = vec![below.into(), floor.unwrap_or(0).into(), state.map(order_state_word).into(), one_more(limit)];
    parameters.extend(customer_id.map(|customer_id| customer_id.as_str().into()));
    let rows = database.execute(&statement, &parameters)?;
    let items = rows.iter().take(limit).map(|row| read_row(row)).collect::<Result<Vec<_>, _>>()?;
    let next = if rows.len() > limit { items.last().map(|last| last.position) } else { floor };
    Ok(Page { items, next })
}

fn read_row(row: &[Value]) -> Result<ListedOrder, StoreError> {
    let unreadable = || StoreError::unreadable("order");
    let [position, repurchase_id, customer_id, product_id, detail, package_id] = row else { return Err(unreadable()) };
    Ok(ListedOrder {
        position: integer(position, "order")?,
        repurchase_id: RepurchaseId::new(text(repurchase_id, "order")?).map_err(|_| unreadable())?,
        key: read_key(customer_id, product_id)?,
        order: serde_json::from_str(text(detail, "order")?).map_err(|_| unreadable())?,
        package_id: package_id.text().map(PackageId::new).transpose().map_err(|_| unreadable())?,
    })
}
