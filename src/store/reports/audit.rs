//! The audit: entries added up, and compared with every counter and every call.

use super::numbers;
use crate::ids::{AccountKey, CustomerId, ProductId};
use crate::store::database::{Database, StoreError, Value};

/// The most differences that one account's audit lists of its calls.
const CALL_DIFFERENCES_MAX: i64 = 100;

/// An account to be audited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedAccount {
    /// Whose.
    pub key: AccountKey,
    account_id: i64,
}

/// What an account's audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many calls were checked.
    pub calls: u64,
    /// What the ledger says and its entries do not.
    pub differences: Vec<Difference>,
}

/// A number that is not what the entries add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The package it is about.
    pub package_id: Option<String>,
    /// The call it is about.
    pub request_id: Option<String>,
    /// Which number.
    pub what: &'static str,
    /// What is written, in parts for quantities.
    pub recorded: i64,
    /// What the entries add up to.
    pub recomputed: i64,
}

impl Difference {
    fn between(what: &'static str, recorded: i64, recomputed: i64) -> Option<Self> {
        (recorded != recomputed).then_some(Self { package_id: None, request_id: None, what, recorded, recomputed })
    }

    /// True where the numbers are quantities in parts, false where they count.
    #[must_use]
    pub fn is_quantity(&self) -> bool {
        self.what != ENTRIES && self.what != LIVE
    }
}

/// How many entries an account has had.
const ENTRIES: &str = "entries";

/// Whether a held call, and no other, has a lease.
const LIVE: &str = "live";

// Entries and folded days of an account, summed per package. Package 0 is the account's overrun.
const SUMS: &str = "
SELECT number, sum(k.granted * quantity), sum(k.held * quantity), sum(k.used * quantity), sum(k.overrun * quantity), sum(entries)
FROM (
    SELECT package_number AS number, kind, quantity, 1 AS entries FROM entries WHERE account_id = ?1
    UNION ALL
    SELECT package_number, kind, quantity, entries FROM daily WHERE account_id = ?1
) JOIN entry_kinds AS k USING (kind)
GROUP BY number ORDER BY number";

const PACKAGES: &str = "
SELECT p.number, p.package_id, p.granted, p.held, p.used, coalesce(live.held, 0)
FROM packages AS p LEFT JOIN (
    SELECT leg.value ->> 0 AS number, sum(leg.value ->> 1) AS held
    FROM calls AS c, json_each(c.detail, '$.legs') AS leg
    WHERE c.account_id = ?1 AND c.state = 'held' GROUP BY 1
) AS live USING (number)
WHERE p.account_id = ?1";

// The legs of a released call are what it had reserved when it was lost: nothing moved by them any more.
// A call is its current attempt: the entries of earlier ones came before its hold and moved nothing in sum. Refunds are apart, since a charge stays
// what it was. A call whose hold is folded has folded entries, and is gone with them.
const CALLS: &str = "
WITH moved AS (
    SELECT e.request_id, sum(k.held * e.quantity) AS held, sum(k.overrun * e.quantity) AS overrun,
        sum(CASE WHEN e.kind = 9 THEN 0 ELSE k.used * e.quantity END) AS charge,
        sum(CASE WHEN e.kind = 9 THEN e.quantity ELSE 0 END) AS refunded
    FROM entries AS e JOIN entry_kinds AS k USING (kind)
    JOIN calls AS c ON c.account_id = e.account_id AND c.request_id = e.request_id AND c.hold_seq <= e.seq
    WHERE e.account_id = ?1 GROUP BY e.request_id
), recorded AS (
    SELECT request_id, coalesce(detail ->> '$.charge', 0) AS charge, coalesce(detail ->> '$.refunded', 0) AS refunded,
        coalesce(detail ->> '$.overrun', 0) AS overrun, state = 'held' AS is_held, lease_ends_ms IS NOT NULL AS is_live,
        iif(state = 'released', 0, (SELECT coalesce(sum(value ->> 1), 0) FROM json_each(detail, '$.legs'))) AS legs
    FROM calls WHERE account_id = ?1 AND hold_seq > ?2
), compared AS (
    SELECT r.request_id, is_held, is_live, legs, r.charge, r.refunded, r.overrun, coalesce(m.held, 0) AS sum_held,
        coalesce(m.charge, 0) AS sum_charge, coalesce(m.refunded, 0) AS sum_refunded, coalesce(m.overrun, 0) AS sum_overrun
    FROM recorded AS r LEFT JOIN moved AS m USING (request_id)
)
SELECT * FROM compared
WHERE is_held <> is_live OR charge <> sum_charge OR refunded <> sum_refunded OR overrun <> sum_overrun
    OR legs <> iif(is_held, sum_held, sum_charge) OR (NOT is_held AND sum_held <> 0)
LIMIT ?3";

/// A page of customers: the accounts of so many, and the last customer where there are more behind.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn audited_accounts(
    database: &impl Database,
    only: Option<&CustomerId>,
    after: &str,
    limit: usize,
) -> Result<(Vec<AuditedAccount>, Option<CustomerId>), StoreError> {
    let statement = "SELECT a.customer_id, a.product_id, a.account_id
        FROM (SELECT DISTINCT customer_id FROM accounts
            WHERE customer_id > ?1 AND (?2 IS NULL OR customer_id = ?2) ORDER BY customer_id LIMIT ?3) AS page
        CROSS JOIN accounts AS a ON a.customer_id = page.customer_id
        ORDER BY a.customer_id, a.product_id";
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX - 1).saturating_add(1);
    let rows = database.execute(statement, &[after.into(), only.map(CustomerId::as_str).into(), one_more.into()])?;
    let mut accounts = rows.iter().map(|row| read_account(row)).collect::<Result<Vec<_>, _>>()?;
    let mut customers: Vec<CustomerId> = accounts.iter().map(|account| account.key.customer_id.clone()).collect();
    customers.dedup();
    let last = limit.checked_sub(1).and_then(|index| customers.get(index)).filter(|_| customers.len() > limit).cloned();
    if let Some(last) = &last {
        accounts.retain(|account| account.key.customer_id <= *last);
    }
    Ok((accounts, last))
}

fn read_account(row: &[Value]) -> Result<AuditedAccount, StoreError> {
    let read = || {
        let [customer_id, product_id, account_id] = row else { return None };
        let customer_id = CustomerId::new(customer_id.text()?).ok()?;
        let key = AccountKey { customer_id, product_id: ProductId::new(product_id.text()?).ok()? };
        Some(AuditedAccount { key, account_id: account_id.integer()? })
    };
    read().ok_or_else(|| StoreError::unreadable("account"))
}

/// Adds up an account's entries and compares.
///
/// # Errors
/// As [`audited_accounts`].
pub fn audit(database: &impl Database, account: &AuditedAccount) -> Result<Findings, StoreError> {
    database.snapshot(|| compare(database, account.account_id))
}

fn compare(database: &impl Database, account_id: i64) -> Result<Findings, StoreError> {
    let statement = "SELECT entry_count, overrun, folded_seq, (SELECT count(*) FROM calls WHERE account_id = ?1) FROM accounts \
                     WHERE account_id = ?1";
    let account = numbers::<4>(&database.execute(statement, &[account_id.into()])?)?;
    let [[entry_count, overrun, folded_seq, calls]] = account.as_slice() else { return Err(StoreError::unreadable("account")) };
    let sums = numbers::<6>(&database.execute(SUMS, &[account_id.into()])?)?;

    let entries = sums.iter().map(|[.., entries]| entries).sum();
    let overruns = sums.iter().map(|[.., overrun, _]| overrun).sum();
    let mut differences = Vec::new();
    differences.extend(Difference::between(ENTRIES, *entry_count, entries));
    differences.extend(Difference::between("overrun", *overrun, overruns));
    differences.extend(compare_packages(database, account_id, sums)?);
    differences.extend(compare_calls(database, account_id, *folded_seq)?);
    Ok(Findings { calls: u64::try_from(*calls).unwrap_or(0), differences })
}

fn compare_packages(database: &impl Database, account_id: i64, mut sums: Vec<[i64; 6]>) -> Result<Vec<Difference>, StoreError> {
    let mut differences = Vec::new();
    for row in database.execute(PACKAGES, &[account_id.into()])? {
        let Some((package_id, columns)) = split_off_text::<5>(&row, 1) else { return Err(StoreError::unreadable("package")) };
        let [number, granted, held, used, live_legs] = columns;
        // What is compared is emptied.
        let place = sums.binary_search_by_key(&number, |[number, ..]| *number).ok();
        let [_, sum_granted, sum_held, sum_used, ..] = place
            .and_then(|place| sums.get_mut(place))
            .map(|sum| std::mem::replace(sum, [number, 0, 0, 0, 0, 0]))
            .unwrap_or_default();
        let found = [
            Difference::between("granted", granted, sum_granted),
            Difference::between("held", held, sum_held),
            Difference::between("used", used, sum_used),
            Difference::between("held by calls", live_legs, sum_held),
        ];
        differences.extend(found.into_iter().flatten().map(|found| Difference { package_id: Some(package_id.clone()), ..found }));
    }
    // What is left moved no package that exists; the account's overrun is none.
    for [number, granted, held, used, ..] in sums.into_iter().filter(|[number, ..]| *number != 0) {
        let found = [("granted", granted), ("held", held), ("used", used)].map(|(what, sum)| Difference::between(what, 0, sum));
        let missing = Some(format!("number {number}"));
        differences.extend(found.into_iter().flatten().map(|found| Difference { package_id: missing.clone(), ..found }));
    }
    Ok(differences)
}

fn compare_calls(database: &impl Database, account_id: i64, folded_seq: i64) -> Result<Vec<Difference>, StoreError> {
    let mut differences = Vec::new();
    for row in database.execute(CALLS, &[account_id.into(), folded_seq.into(), CALL_DIFFERENCES_MAX.into()])? {
        let Some((request_id, columns)) = split_off_text::<10>(&row, 0) else { return Err(StoreError::unreadable("call")) };
        let [is_held, is_live, legs, charge, refunded, overrun, sum_held, sum_charge, sum_refunded, sum_overrun] = columns;
        let is_held_call = is_held != 0;
        let found = [
            Difference::between(LIVE, is_live, is_held),
            Difference::between("charge", charge, sum_charge),
            Difference::between("refunded", refunded, sum_refunded),
            Difference::between("overrun", overrun, sum_overrun),
            Difference::between("legs", legs, if is_held_call { sum_held } else { sum_charge }),
            Difference::between("held", if is_held_call { legs } else { 0 }, sum_held).filter(|_| !is_held_call),
        ];
        differences.extend(found.into_iter().flatten().map(|found| Difference { request_id: Some(request_id.clone()), ..found }));
    }
    Ok(differences)
}

/// A row of whole numbers with one text among them.
fn split_off_text<const N: usize>(row: &[Value], at: usize) -> Option<(String, [i64; N])> {
    let text = row.get(at)?.text()?.to_owned();
    let others = row.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, value)| value.integer());
    Some((text, others.collect::<Option<Vec<_>>>()?.try_into().ok()?))
}
