//! Calls by id, and a customer's calls from the newest to the oldest.
//!
//! No index knows when a call was made: an account's calls are in the order of their holds' entries, and entries are numbered without gaps. So a
//! list walks each account's entries downwards, merges the accounts by time, and its position is one entry number per account: exact whatever the
//! clocks of the instances said, and unmoved by newer calls.

use std::collections::VecDeque;

use super::{Page, SCANNED_ROWS_MAX, integer, one_more, text};
use crate::ids::{CustomerId, PackageId, ProductId, RequestId};
use crate::ledger::{Call, CallState};
use crate::store::database::{Database, StoreError, Value};
use crate::store::rows::{read_call, state_word};

/// A call, with what its numbers stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCall {
    /// The product that was called.
    pub product_id: ProductId,
    /// The call.
    pub call: Call,
    /// The ids of the packages that its legs name by number.
    pub package_ids: Vec<(u32, PackageId)>,
}

/// Where a page ends: per product the entry number below which the next one goes on.
pub type CallPosition = Vec<(String, i64)>;

fn position_of(position: &CallPosition, product_id: &ProductId) -> Option<i64> {
    position.iter().find(|(of, _)| *of == product_id.as_str()).map(|(_, below)| *below)
}

/// Which calls are listed.
#[derive(Clone, Debug)]
pub struct CallList<'a> {
    /// Whose.
    pub customer_id: &'a CustomerId,
    /// Of which product; of all where it is not said.
    pub product_id: Option<&'a ProductId>,
    /// In which state; in any where it is not said.
    pub state: Option<CallState>,
    /// The position that the page before answered; none for the first page.
    pub from: Option<&'a CallPosition>,
}

const CALL_COLUMNS: &str = "c.request_id, c.state, c.lease_ends_ms, c.hold_seq, json(c.detail),
    (SELECT json_group_array(json_array(number, package_id)) FROM packages
        WHERE account_id = c.account_id AND number IN (SELECT value ->> 0 FROM json_each(c.detail, '$.legs')))";

/// One account of the list: the calls fetched, and the entry number below which there may be more.
struct Walk {
    product_id: ProductId,
    calls: VecDeque<ListedCall>,
    more_below: Option<i64>,
}

impl Walk {
    fn rest(&self) -> Option<i64> {
        let next = self.calls.front().and_then(|listed| i64::try_from(listed.call.hold_seq).ok());
        next.map(|seq| seq + 1).or(self.more_below)
    }
}

/// The calls of a customer that have this request id: one per product at most, and at most two are answered.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn call(
    database: &impl Database,
    customer_id: &CustomerId,
    product_id: Option<&ProductId>,
    request_id: &RequestId,
) -> Result<Vec<ListedCall>, StoreError> {
    let statement = format!(
        "SELECT a.product_id, {CALL_COLUMNS} FROM accounts AS a CROSS JOIN calls AS c USING (account_id) \
         WHERE a.customer_id = ?1 AND (?2 IS NULL OR a.product_id = ?2) AND c.request_id = ?3 LIMIT 2"
    );
    let parameters = [customer_id.as_str().into(), product_id.map(ProductId::as_str).into(), request_id.as_str().into()];
    let rows = database.execute(&statement, &parameters)?;
    rows.iter()
        .map(|row| {
            let (product_id, columns) = row.split_first().ok_or_else(|| StoreError::unreadable("call"))?;
            read_row(&read_product_id(product_id)?, columns)
        })
        .collect()
}

/// A page of calls, newest first, and the position of the next.
///
/// # Errors
/// As [`call`].
pub fn calls(database: &impl Database, list: &CallList<'_>, limit: usize) -> Result<Page<ListedCall, CallPosition>, StoreError> {
    let mut walks = Vec::new();
    let statement = "SELECT product_id, account_id, entry_count, folded_seq FROM accounts \
                     WHERE customer_id = ?1 AND (?2 IS NULL OR product_id = ?2) ORDER BY product_id";
    let parameters = [list.customer_id.as_str().into(), list.product_id.map(ProductId::as_str).into()];
    for row in database.execute(statement, &parameters)? {
        let [product_id, account_id, entry_count, folded_seq] = row.as_slice() else {
            return Err(StoreError::unreadable("account"));
        };
        let product_id = read_product_id(product_id)?;
        let newest = integer(entry_count, "entry count")?.saturating_add(1);
        // An account that the position does not name had no more calls; what it got since is newer than the list.
        let Some(below) = list.from.map_or(Some(newest), |from| position_of(from, &product_id)) else { continue };
        let span = (integer(folded_seq, "folded entries")?, below);
        walks.push(walk(database, (integer(account_id, "account")?, product_id), span, list.state, limit)?);
    }
    let items = merge(&mut walks, limit);
    let next: CallPosition =
        walks.iter().filter_map(|walk| walk.rest().map(|below| (walk.product_id.to_string(), below))).collect();
    Ok(Page { items, next: Some(next).filter(|next| !next.is_empty()) })
}

/// Fetches an account's calls whose holds are above the folded entries and below a number.
fn walk(
    database: &impl Database,
    (account_id, product_id): (i64, ProductId),
    (folded_seq, below): (i64, i64),
    state: Option<CallState>,
    limit: usize,
) -> Result<Walk, StoreError> {
    // Live calls are few and have an index; of the others, a page looks at so many entries and the next one goes on from there.
    let (source, floor) = match state {
        Some(CallState::Held) => ("calls AS c INDEXED BY calls_live WHERE c.lease_ends_ms IS NOT NULL AND", folded_seq),
        _ => (
            "entries AS e CROSS JOIN calls AS c ON c.account_id = e.account_id AND c.request_id = e.request_id \
             WHERE e.account_id = ?1 AND e.seq > ?2 AND e.seq < ?3 AND e.kind = 4 AND e.seq = c.hold_seq AND",
            folded_seq.max(below.saturating_sub(SCANNED_ROWS_MAX)),
        ),
    };
    let order = if state == Some(CallState::Held) { "c.hold_seq" } else { "e.seq" };
    let statement = format!(
        "SELECT {CALL_COLUMNS} FROM {source} c.account_id = ?1 AND c.hold_seq > ?2 AND c.hold_seq < ?3 \
         AND (?4 IS NULL OR c.state = ?4) ORDER BY {order} DESC LIMIT ?5"
    );
    let parameters = [account_id.into(), floor.into(), below.into(), state.map(state_word).into(), one_more(limit)];
    let rows = database.execute(&statement, &parameters)?;
    let calls = rows.iter().map(|row| read_row(&product_id, row)).collect::<Result<VecDeque<_>, _>>()?;
    let more_below = match calls.back() {
        Some(last) if calls.len() > limit => i64::try_from(last.call.hold_seq).ok(),
        _ => (floor > folded_seq).then(|| floor.saturating_add(1)),
    };
    Ok(Walk { product_id, calls, more_below })
}

/// Takes the newest call of all walks until the page is full, or a walk has no fetched call left and may have more.
fn merge(walks: &mut [Walk], limit: usize) -> Vec<ListedCall> {
    let mut items = Vec::new();
    while items.len() < limit && !walks.iter().any(|walk| walk.calls.is_empty() && walk.more_below.is_some()) {
        let newest = walks
            .iter_mut()
            .filter(|walk| !walk.calls.is_empty())
            .max_by_key(|walk| walk.calls.front().map(|listed| listed.call.created_at_ms));
        let Some(call) = newest.and_then(|walk| walk.calls.pop_front()) else { break };
        items.push(call);
    }
    items
}

fn read_product_id(value: &Value) -> Result<ProductId, StoreError> {
    ProductId::new(text(value, "product id")?).map_err(|_| StoreError::unreadable("product id"))
}

fn read_row(product_id: &ProductId, row: &[Value]) -> Result<ListedCall, StoreError> {
    let [request_id, state, lease_ends_ms, hold_seq, detail, package_ids] = row else {
        return Err(StoreError::unreadable("call"));
    };
    let hold_seq = u64::try_from(integer(hold_seq, "call")?).map_err(|_| StoreError::unreadable("call"))?;
    let detail = serde_json::from_str(text(detail, "call")?).map_err(|_| StoreError::unreadable("call"))?;
    let call = read_call(text(request_id, "call")?, text(state, "call")?, lease_ends_ms.integer(), hold_seq, detail)?;
    let package_ids = serde_json::from_str(text(package_ids, "call")?).map_err(|_| StoreError::unreadable("call's packages"))?;
    Ok(ListedCall { product_id: product_id.clone(), call, package_ids })
}

#[cfg(test)]
mod tests {
    use super::{CallList, calls};
    use crate::ids::CustomerId;
    use crate::ledger::CallState;
    use crate::store::database::Database;
    use crate::store::testing::memory;

    #[test]
    fn a_state_that_few_calls_have_is_walked_in_bounded_steps_to_the_end() {
        let database = memory();
        for statement in [
            "INSERT INTO accounts (account_id, customer_id, product_id, entry_count, folded_seq, unfolded_since_ms)
                VALUES (1, 'c', 'p', 25000, 0, 0), (2, 'c', 'q', 3, 0, 0)",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
                INSERT INTO entries SELECT 1, i, 4, 1, 1, 'r' || i, NULL, i FROM n",
            "INSERT INTO entries SELECT 2, seq, kind, package_number, quantity, request_id, NULL, at_ms FROM entries WHERE seq <= 3",
            "INSERT INTO calls SELECT account_id, request_id, iif(seq % 12000 = 3, 'released', 'settled'), NULL, seq,
                json_object('fingerprint', printf('%032d', 0), 'attempt', 1, 'hold', 1, 'legs', json('[]'), 'created_at_ms', at_ms)
                FROM entries",
        ] {
            database.execute(statement, &[]).unwrap();
        }
        let customer_id = CustomerId::new("c").unwrap();
        let (mut from, mut found, mut pages) = (None, Vec::new(), 0);
        loop {
            let state = Some(CallState::Released);
            let list = CallList { customer_id: &customer_id, product_id: None, state, from: from.as_ref() };
            let page = calls(&database, &list, 100).unwrap();
            found.extend(page.items.into_iter().map(|listed| (listed.product_id.to_string(), listed.call.hold_seq)));
            pages += 1;
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        found[2..].sort();
        let expected = [("p", 24003), ("p", 12003), ("p", 3), ("q", 3)];
        assert_eq!((found, pages), (expected.map(|(product_id, seq)| (product_id.to_owned(), seq)).to_vec(), 3));
    }
}
