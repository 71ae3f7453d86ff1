//! Loading: the accounts that commands name, whole, with the calls, corrections and orders they name, in one statement. What is loaded is as the tables have
//! it, so whoever decides on it has them follow the log first.

use serde::Serialize;

use super::database::{Database, StoreError, Value, json};
use super::rows::{CallDetail, PackageRow, read_call, read_package};
use crate::ids::{AccountKey, CorrectionId, CustomerId, PackageId, ProductId, RequestId};
use crate::ledger::{Account, Correction, CorrectionKey, CorrectionTarget, Order, Watch};
use crate::quantity::{Delta, Quantity};

/// An account as the database has it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Whose it is.
    pub key: AccountKey,
    /// Its row.
    pub account_id: i64,
    /// What it holds.
    pub account: Account,
    /// Calls that were claimed by steps that may not be applied yet, each with its step.
    pub(super) unapplied: Vec<(i64, RequestId)>,
}

/// One account to load, with the calls, corrections and orders that matter.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// Whose.
    pub key: AccountKey,
    /// The calls to put in, where they exist.
    pub request_ids: Vec<RequestId>,
    /// The corrections to put in, where they exist.
    pub corrections: Vec<CorrectionKey>,
    /// Numbers of the orders to put in, where they exist. The order in flight is put in without being named.
    pub orders: Vec<u32>,
}

impl LoadRequest {
    /// An account with nothing but what it always has.
    #[must_use]
    pub fn new(key: AccountKey) -> Self {
        Self { key, request_ids: Vec::new(), corrections: Vec::new(), orders: Vec::new() }
    }
}

// An account that had more entries than it knows of cannot be read: the next one would be one of those.
// The arrays of packages, calls, corrections and orders are JSON, so that one statement brings everything.
const LOAD: &str = "
SELECT a.customer_id, a.product_id, a.account_id,
    iif(a.entry_count >= (SELECT coalesce(max(seq), 0) FROM entries WHERE account_id = a.account_id), a.entry_count, NULL), a.overrun, r.watch,
    (SELECT json_group_array(json_array(number, package_id, kind, granted, used, held, starts_at_ms, expires_at_ms, priority,
            created_at_ms, order_id, standing, phase, grant_digest))
        FROM packages WHERE account_id = a.account_id),
    (SELECT json_group_array(json_array(request_id, state, lease_ends_ms, hold_seq, json(detail)))
        FROM calls WHERE account_id = a.account_id AND request_id IN (SELECT value FROM json_each(k.value, '$[2]'))),
    (SELECT json_group_array(json_array(x.target_kind, x.target, x.correction_id, x.quantity, x.reason, x.at_ms))
        FROM json_each(k.value, '$[3]') AS w
        CROSS JOIN corrections AS x ON x.account_id = a.account_id AND x.target_kind = w.value ->> 0 AND x.target = w.value ->> 1
            AND x.correction_id = w.value ->> 2),
    (SELECT json_group_array(json(detail)) FROM repurchases
        WHERE account_id = a.account_id
            AND number IN (SELECT value FROM json_each(k.value, '$[4]') UNION ALL SELECT r.watch ->> '$.order_in_flight'))
FROM json_each(?1) AS k
JOIN accounts AS a ON a.customer_id = k.value ->> 0 AND a.product_id = k.value ->> 1
LEFT JOIN watches AS r ON r.account_id = a.account_id";

/// Loads accounts. One that was never granted a package is not in the answer.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn load(database: &impl Database, requests: &[LoadRequest]) -> Result<Vec<Stored>, StoreError> {
    #[derive(Serialize)]
    struct Wanted<'a>(&'a CustomerId, &'a ProductId, &'a [RequestId], Vec<(&'static str, &'a str, &'a CorrectionId)>, &'a [u32]);
    let wanted: Vec<Wanted<'_>> = requests
        .iter()
        .map(|request| {
            let corrections = request.corrections.iter().map(|key| {
                let (kind, target) = target_words(&key.target);
                (kind, target, &key.id)
            });
            let (key, corrections) = (&request.key, corrections.collect());
            Wanted(&key.customer_id, &key.product_id, &request.request_ids, corrections, &request.orders)
        })
        .collect();
    let rows = database.execute(LOAD, &[json(&wanted).into()])?;
    rows.iter().map(|row| read_stored(row).ok_or_else(|| StoreError::unreadable("account"))?).collect()
}

fn target_words(target: &CorrectionTarget) -> (&'static str, &str) {
    match target {
        CorrectionTarget::Call(request_id) => ("call", request_id.as_str()),
        CorrectionTarget::Package(package_id) => ("package", package_id.as_str()),
    }
}

/// `None` where a column has another type than this version writes.
fn read_stored(row: &[Value]) -> Option<Result<Stored, StoreError>> {
    let [customer_id, product_id, account_id, entry_count, overrun, more @ ..] = row else { return None };
    let [watch, packages, calls, corrections, orders] = more else { return None };
    let packages: Vec<PackageRow> = serde_json::from_str(packages.text()?).ok()?;
    let calls: Vec<(String, String, Option<i64>, u64, CallDetail)> = serde_json::from_str(calls.text()?).ok()?;
    let corrections: Vec<(String, String, String, Option<i64>, String, i64)> = serde_json::from_str(corrections.text()?).ok()?;
    let orders: Vec<Order> = serde_json::from_str(orders.text()?).ok()?;
    let packages: Result<Vec<_>, StoreError> = packages.into_iter().map(read_package).collect();
    let packages = match packages {
        Ok(packages) => packages,
        Err(error) => return Some(Err(error)),
    };
    let overrun = Quantity::from_parts(overrun.integer()?)?;
    let mut account = Account::load(packages, overrun, u64::try_from(entry_count.integer()?).ok()?);
    for (request_id, state, lease_ends_ms, hold_seq, detail) in calls {
        match read_call(&request_id, &state, lease_ends_ms, hold_seq, detail) {
            Ok(call) => account.put_call(call),
            Err(error) => return Some(Err(error)),
        }
    }
    for (kind, target, id, quantity, reason, at_ms) in corrections {
        let target = match kind.as_str() {
            "call" => CorrectionTarget::Call(RequestId::new(&target).ok()?),
            _ => CorrectionTarget::Package(PackageId::new(&target).ok()?),
        };
        let key = CorrectionKey { target, id: CorrectionId::new(&id).ok()? };
        account.put_correction(Correction { key, quantity: quantity.and_then(Delta::from_parts), reason: reason.into(), at_ms });
    }
    account.put_watch(read_watch(watch)?);
    for order in orders {
        account.put_order(order);
    }
    let key = AccountKey {
        customer_id: CustomerId::new(customer_id.text()?).ok()?,
        product_id: ProductId::new(product_id.text()?).ok()?,
    };
    Some(Ok(Stored { key, account_id: account_id.integer()?, account, unapplied: Vec::new() }))
}

/// What an account remembers; nothing where it has no row.
pub(super) fn read_watch(column: &Value) -> Option<Watch> {
    match column {
        Value::Null => Some(Watch::default()),
        column => serde_json::from_str(column.text()?).ok(),
    }
}

/// Makes an account's row where there is none yet: before its first package.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub fn create_account(database: &impl Database, key: &AccountKey, now_ms: i64) -> Result<(), StoreError> {
    let parameters = [key.customer_id.as_str().into(), key.product_id.as_str().into(), now_ms.into()];
    let statement = "INSERT INTO accounts (customer_id, product_id, unfolded_since_ms) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (customer_id, product_id) DO NOTHING";
    database.execute(statement, &parameters).map(drop)
}
