//! Holds whose leases have ended.

use super::text;
use crate::ids::{AccountKey, RequestId};
use crate::store::database::{Database, StoreError, Value};

/// A hold whose lease has ended: it is lost unless its call ends it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverdueHold {
    /// Whose.
    pub key: AccountKey,
    /// The call.
    pub request_id: RequestId,
}

/// The holds whose leases ended first, so many at most.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn overdue_holds(database: &impl Database, limit: usize, now_ms: i64) -> Result<Vec<OverdueHold>, StoreError> {
    let statement = "SELECT a.customer_id, a.product_id, c.request_id FROM calls AS c \
                     CROSS JOIN accounts AS a USING (account_id) WHERE c.lease_ends_ms <= ?1 ORDER BY c.lease_ends_ms LIMIT ?2";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = database.execute(statement, &[now_ms.into(), limit.into()])?;
    rows.iter().map(|row| read_row(row)).collect()
}

fn read_row(row: &[Value]) -> Result<OverdueHold, StoreError> {
    let [customer_id, product_id, request_id] = row else { return Err(StoreError::unreadable("hold")) };
    Ok(OverdueHold {
        key: super::customers::read_key(customer_id, product_id)?,
        request_id: RequestId::new(text(request_id, "request id")?).map_err(|_| StoreError::unreadable("request id"))?,
    })
}
