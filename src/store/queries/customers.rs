//! Customers and their accounts.

use super::packages::STATE;
use super::{Page, integer, one_more, text};
use crate::ids::{AccountKey, CustomerId, ProductId};
use crate::quantity::Quantity;
use crate::store::database::{Database, StoreError, Value};

/// A customer in the list of customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomerRow {
    /// Who.
    pub customer_id: CustomerId,
    /// Its products, by id.
    pub products: Vec<ProductRow>,
}

/// A customer's product in the list of customers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductRow {
    /// Which.
    pub product_id: ProductId,
    /// Granted and not charged, of the usable prepaid packages.
    pub remaining: Quantity,
    /// Unix milliseconds of the last hold, where there was one.
    pub last_call_at_ms: Option<i64>,
}

pub(super) fn read_key(customer_id: &Value, product_id: &Value) -> Result<AccountKey, StoreError> {
    let invalid = |_| StoreError::unreadable("account");
    Ok(AccountKey {
        customer_id: CustomerId::new(text(customer_id, "customer id")?).map_err(invalid)?,
        product_id: ProductId::new(text(product_id, "product id")?).map_err(invalid)?,
    })
}

/// A page of customers, by id. The next page starts after the id that is answered.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn customers(
    database: &impl Database,
    after: &str,
    limit: usize,
    now_ms: i64,
) -> Result<Page<CustomerRow, String>, StoreError> {
    let statement = format!(
        "SELECT a.customer_id, a.product_id, a.last_call_at_ms,
            (SELECT coalesce(sum(granted - used), 0) FROM packages
                WHERE account_id = a.account_id AND kind = 'prepaid' AND {STATE} IN ('active', 'exhausted'))
        FROM (SELECT DISTINCT customer_id FROM accounts WHERE customer_id > ?2 ORDER BY customer_id LIMIT ?3) AS page
        CROSS JOIN accounts AS a ON a.customer_id = page.customer_id
        ORDER BY a.customer_id, a.product_id"
    );
    let rows = database.execute(&statement, &[now_ms.into(), after.into(), one_more(limit)])?;
    let mut items: Vec<CustomerRow> = Vec::new();
    for row in &rows {
        let [customer_id, product_id, last_call_at_ms, remaining] = row.as_slice() else {
            return Err(StoreError::unreadable("customer"));
        };
        let AccountKey { customer_id, product_id } = read_key(customer_id, product_id)?;
        let remaining =
            Quantity::from_parts(integer(remaining, "remaining")?).ok_or_else(|| StoreError::unreadable("remaining"))?;
        let product = ProductRow { product_id, remaining, last_call_at_ms: last_call_at_ms.integer() };
        match items.last_mut().filter(|last| last.customer_id == customer_id) {
            Some(last) => last.products.push(product),
            None => items.push(CustomerRow { customer_id, products: vec![product] }),
        }
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more).map(|last| last.customer_id.to_string());
    Ok(Page { items, next })
}

/// The accounts of a customer, by product. None for one that nobody knows.
///
/// # Errors
/// As [`customers`].
pub fn account_keys(database: &impl Database, customer_id: &CustomerId) -> Result<Vec<AccountKey>, StoreError> {
    let statement = "SELECT customer_id, product_id FROM accounts WHERE customer_id = ?1 ORDER BY product_id";
    let rows = database.execute(statement, &[customer_id.as_str().into()])?;
    rows.iter()
        .map(|row| match row.as_slice() {
            [customer_id, product_id] => read_key(customer_id, product_id),
            _ => Err(StoreError::unreadable("account")),
        })
        .collect()
}
