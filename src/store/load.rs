//! Loading: the accounts that commands name, with the calls, corrections and orders they name, in one statement. What is loaded is as the tables have
//! it, so whoever decides on it has them follow the log first.
//!
//! Of an account's packages the last hundred are loaded, and all that are not spent for good; of the others those that a command names, or a call that one names. What is left is the
//! archive, of which there are sums.

use serde::Serialize;

use super::database::{Database, StoreError, Value, json};
use super::rows::{CallDetail, PackageRow, read_call, read_package};
use crate::ids::{AccountKey, CorrectionId, CustomerId, PackageId, ProductId, RequestId};
use crate::ledger::{Account, Archive, Correction, CorrectionKey, CorrectionTarget, Order, Package, Watch};
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

/// So many packages of an account, the last ones, are loaded whatever became of them.
const UNARCHIVED_PACKAGES: i64 = if cfg!(test) { 2 } else { 100 };

/// A package is archived only so long after the time that makes it spent (its end, or its start where it is used up), so that clocks which differ agree on it.
const ARCHIVED_AFTER_MS: i64 = if cfg!(test) { 0 } else { 86_400_000 };

/// One account to load, with the calls, corrections and orders that matter.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// Whose.
    pub key: AccountKey,
    /// The calls to put in, where they exist.
    pub request_ids: Vec<RequestId>,
    /// The packages to load although they may be archived, where they exist.
    pub package_ids: Vec<PackageId>,
    /// The corrections to put in, where they exist.
    pub corrections: Vec<CorrectionKey>,
    /// Numbers of the orders to put in, where they exist. The order in flight is put in without being named.
    pub orders: Vec<u32>,
}

impl LoadRequest {
    /// An account with nothing but what it always has.
    #[must_use]
    pub fn new(key: AccountKey) -> Self {
        Self { key, request_ids: Vec::new(), package_ids: Vec::new(), corrections: Vec::new(), orders: Vec::new() }
    }
}

// An account that had more entries than it knows of cannot be read: the next one would be one of those.
// The arrays of packages, calls, corrections and orders are JSON, so that one statement brings everything. Of packages there are those that are not archived, the sums of those that
// are, and those that are named or paid for a call that is: by an index, so that an archive of thousands costs one pass over it.
const LOAD: &str = "
SELECT a.customer_id, a.product_id, a.account_id,
    iif(a.entry_count >= (SELECT coalesce(max(seq), 0) FROM entries WHERE account_id = a.account_id), a.entry_count, NULL), a.overrun, r.watch,
    coalesce((SELECT max(number) FROM packages WHERE account_id = a.account_id), 0),
    (SELECT '[' || coalesce(group_concat(p.row), '') || ']' FROM (SELECT max(number) - ?2 AS last_archived FROM packages WHERE account_id = a.account_id)
        CROSS JOIN package_rows AS p WHERE p.account_id = a.account_id
            AND (p.number > last_archived OR p.spent_at_ms IS NULL OR p.spent_at_ms > ?3)),
    (SELECT json_group_array(json_array(standing, phase, count, granted, used)) FROM
        (SELECT standing, phase, count(*) AS count, sum(granted) AS granted, CAST(min(total(used), ?4) AS INTEGER) AS used
        FROM (SELECT max(number) - ?2 AS last_archived FROM packages WHERE account_id = a.account_id)
        CROSS JOIN package_rows AS p WHERE p.account_id = a.account_id AND p.number <= last_archived AND p.spent_at_ms <= ?3
        GROUP BY standing, phase)),
    (SELECT '[' || coalesce(group_concat(p.row), '') || ']' FROM json_each(k.value, '$[5]') AS w
        CROSS JOIN package_rows AS p ON p.package_id = w.value AND p.account_id = a.account_id),
    (SELECT '[' || coalesce(group_concat(p.row), '') || ']' FROM json_each(k.value, '$[2]') AS w
        CROSS JOIN calls AS c ON c.account_id = a.account_id AND c.request_id = w.value
        CROSS JOIN json_each(c.detail, '$.legs') AS leg
        CROSS JOIN package_rows AS p ON p.account_id = a.account_id AND p.number = leg.value ->> 0),
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

/// Loads accounts, to decide at a time (unix milliseconds). One that was never granted a package is not in the answer.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn load(database: &impl Database, requests: &[LoadRequest], now_ms: i64) -> Result<Vec<Stored>, StoreError> {
    #[derive(Serialize)]
    struct Wanted<'a>(
        &'a CustomerId,
        &'a ProductId,
        &'a [RequestId],
        Vec<(&'static str, &'a str, &'a CorrectionId)>,
        &'a [u32],
        &'a [PackageId],
    );
    let wanted: Vec<Wanted<'_>> = requests
        .iter()
        .map(|request| {
            let corrections = request.corrections.iter().map(|key| {
                let (kind, target) = target_words(&key.target);
                (kind, target, &key.id)
            });
            let (key, corrections) = (&request.key, corrections.collect());
            Wanted(&key.customer_id, &key.product_id, &request.request_ids, corrections, &request.orders, &request.package_ids)
        })
        .collect();
    let spent_until_ms = now_ms.saturating_sub(ARCHIVED_AFTER_MS);
    let parameters = [json(&wanted).into(), UNARCHIVED_PACKAGES.into(), spent_until_ms.into(), Quantity::MAX.parts().into()];
    let rows = database.execute(LOAD, &parameters)?;
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
    let [watch, last_number, unarchived, archived, named, paying, calls, corrections, orders] = more else { return None };
    let (packages, archive) = match read_packages([last_number, unarchived, archived, named, paying])? {
        Ok(packages) => packages,
        Err(error) => return Some(Err(error)),
    };
    let calls: Vec<(String, String, Option<i64>, u64, CallDetail)> = serde_json::from_str(calls.text()?).ok()?;
    let corrections: Vec<(String, String, String, Option<i64>, String, i64)> = serde_json::from_str(corrections.text()?).ok()?;
    let orders: Vec<Order> = serde_json::from_str(orders.text()?).ok()?;
    let overrun = Quantity::from_parts(overrun.integer()?)?;
    let mut account = Account::load(packages, archive, overrun, u64::try_from(entry_count.integer()?).ok()?);
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

/// What is archived in one standing and phase: how many packages, and what was granted and charged of them.
type ArchivedSum = (String, String, u32, i64, i64);

/// The packages to load, and what there is to know of the others.
fn read_packages(columns: [&Value; 5]) -> Option<Result<(Vec<Package>, Archive), StoreError>> {
    let [last_number, unarchived, archived, named, paying] = columns;
    let mut packages: Vec<PackageRow> = serde_json::from_str(unarchived.text()?).ok()?;
    let mut sums: Vec<ArchivedSum> = serde_json::from_str(archived.text()?).ok()?;
    for column in [named, paying] {
        let rows: Vec<PackageRow> = serde_json::from_str(column.text()?).ok()?;
        for row in rows {
            if packages.iter().any(|package| package.0 == row.0) {
                continue;
            }
            let (.., standing, phase, _) = &row;
            let (_, _, count, granted, used) = sums.iter_mut().find(|sum| sum.0 == *standing && sum.1 == *phase)?;
            (*count, *granted, *used) = (count.checked_sub(1)?, *granted - row.3, (*used - row.4).max(0));
            packages.push(row);
        }
    }
    let mut archive = Archive { last_number: u32::try_from(last_number.integer()?).ok()?, ..Archive::default() };
    for (standing, phase, _, granted, used) in sums.iter().filter(|(_, _, count, ..)| *count > 0) {
        let granted = Quantity::from_parts(*granted)?;
        archive.granted = archive.granted.saturating_add(granted);
        archive.used = archive.used.saturating_add(Quantity::from_parts(*used)?);
        match (standing.as_str(), phase.as_str()) {
            ("released", _) => {}
            (_, "over") => archive.has_expired = true,
            _ => archive.exhausted = Some(granted),
        }
    }
    let packages: Result<Vec<_>, _> = packages.into_iter().map(read_package).collect();
    Some(packages.map(|packages| (packages, archive)))
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

#[cfg(test)]
mod tests {
    use super::{LoadRequest, load};
    use crate::ids::{AccountKey, CustomerId, PackageId, ProductId, RequestId};
    use crate::quantity::Quantity;
    use crate::store::database::Database;
    use crate::store::testing::memory;

    #[test]
    fn an_archive_costs_one_pass_however_much_is_named() {
        let database = memory();
        let key = AccountKey { customer_id: CustomerId::new("c").unwrap(), product_id: ProductId::new("p").unwrap() };
        super::create_account(&database, &key, 1).unwrap();
        let fill = "INSERT INTO packages WITH RECURSIVE n (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n LIMIT 2000) \
                    SELECT 1, number, 'p' || number, 'prepaid', 5, 2, 0, 1, 2, 0, 1, NULL, 'open', 'over', '' FROM n";
        database.execute(fill, &[]).unwrap();
        let name = |number: i32| format!("p{number}");
        let request = LoadRequest {
            request_ids: (0..256).map(|number| RequestId::new(&name(number)).unwrap()).collect(),
            package_ids: (1..33).map(|number| PackageId::new(&name(number)).unwrap()).collect(),
            ..LoadRequest::new(key.clone())
        };
        for (request, packages) in [(LoadRequest::new(key), 2), (request, 34)] {
            let account = load(&database, &[request], 10).unwrap().remove(0).account;
            assert_eq!((account.packages().len(), account.balance(10).used), (packages, Quantity::from_parts(4_000).unwrap()));
            let steps_per_package = database.worked() / 2000;
            assert!(steps_per_package < 100, "{steps_per_package}");
        }
    }
}
