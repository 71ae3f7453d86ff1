//! What accounts remember: rules, orders, and when the clock alone changes something.

use super::customers::read_key;
use super::text;
use crate::ids::{AccountKey, RepurchaseId};
use crate::ledger::{Order, Watch};
use crate::store::database::{Database, StoreError, Value};
use crate::store::load::read_watch;

/// The accounts that are to be looked at because of the time, longest due first, so many at most.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn due_accounts(database: &impl Database, now_ms: i64, limit: usize) -> Result<Vec<AccountKey>, StoreError> {
    let statement = "SELECT customer_id, product_id FROM accounts WHERE due_at_ms <= ?1 ORDER BY due_at_ms LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = database.execute(statement, &[now_ms.into(), limit.into()])?;
    rows.iter()
        .map(|row| match row.as_slice() {
            [customer_id, product_id] => read_key(customer_id, product_id),
            _ => Err(StoreError::unreadable("account")),
        })
        .collect()
}

/// What an account remembers, with its order in flight and its last one, by number. None for an account that is not there.
///
/// # Errors
/// As [`due_accounts`].
pub fn watch(database: &impl Database, key: &AccountKey) -> Result<Option<(Watch, Vec<Order>)>, StoreError> {
    let statement = "SELECT w.watch, (SELECT json_group_array(json(detail)) FROM (
            SELECT detail FROM repurchases WHERE account_id = a.account_id
                AND number IN (w.watch ->> '$.order_in_flight', w.watch ->> '$.order_count') ORDER BY number))
        FROM accounts AS a LEFT JOIN watches AS w USING (account_id) WHERE a.customer_id = ?1 AND a.product_id = ?2";
    let rows = database.execute(statement, &[key.customer_id.as_str().into(), key.product_id.as_str().into()])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let [watch, orders] = row.as_slice() else { return Err(StoreError::unreadable("account")) };
    let watch = read_watch(watch).ok_or_else(|| StoreError::unreadable("rules"))?;
    let orders = serde_json::from_str(text(orders, "order")?).map_err(|_| StoreError::unreadable("order"))?;
    Ok(Some((watch, orders)))
}

/// An order by the name under which the merchant's hook knows it, and whose it is.
///
/// # Errors
/// As [`due_accounts`].
pub fn order_by_id(database: &impl Database, repurchase_id: &RepurchaseId) -> Result<Option<(AccountKey, Order)>, StoreError> {
    let statement = "SELECT a.customer_id, a.product_id, r.detail FROM repurchases AS r CROSS JOIN accounts AS a USING (account_id) \
                     WHERE r.repurchase_id = ?1";
    let rows = database.execute(statement, &[repurchase_id.as_str().into()])?;
    rows.first().map(|row| read_order(row)).transpose()
}

fn read_order(row: &[Value]) -> Result<(AccountKey, Order), StoreError> {
    let [customer_id, product_id, detail] = row else { return Err(StoreError::unreadable("order")) };
    let order = serde_json::from_str(text(detail, "order")?).map_err(|_| StoreError::unreadable("order"))?;
    Ok((read_key(customer_id, product_id)?, order))
}
