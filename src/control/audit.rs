//! The audit, a page of customers at a time.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::query::{Query, write_cursor};
use super::{Context, Response, json};
use crate::ids::{AccountKey, CustomerId, ProductId};
use crate::quantity::Delta;
use crate::step_aside::step_aside;
use crate::store::Database;
use crate::store::reports::{Difference, audit, audited_accounts};

pub(super) const LIST: &str = "audit";

/// The most differences that a page lists. One is enough to know that something is wrong.
const DIFFERENCES_MAX: usize = 100;

/// A page of the audit.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditPage {
    balanced: bool,
    customers: usize,
    calls: u64,
    differences: Vec<DifferenceView>,
    next_cursor: Option<String>,
}

impl AuditPage {
    /// A page on which nobody is yet. `last` is its last customer, where more come after it.
    #[must_use]
    pub fn empty(last: Option<&str>) -> Self {
        let next_cursor = last.map(|last| write_cursor(LIST, last));
        Self { balanced: true, customers: 0, calls: 0, differences: Vec::new(), next_cursor }
    }

    /// Adds who is on another page, which says nothing of where this one ends.
    pub fn add(&mut self, other: Self) {
        self.balanced &= other.balanced;
        self.customers += other.customers;
        self.calls += other.calls;
        self.list(other.differences);
    }

    fn list(&mut self, differences: impl IntoIterator<Item = DifferenceView>) {
        let room = DIFFERENCES_MAX.saturating_sub(self.differences.len());
        self.differences.extend(differences.into_iter().take(room));
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct DifferenceView {
    customer_id: CustomerId,
    product_id: ProductId,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    what: Cow<'static, str>,
    recorded: String,
    recomputed: String,
}

impl DifferenceView {
    fn new(key: &AccountKey, difference: Difference) -> Self {
        let is_quantity = difference.is_quantity();
        let show = |number: i64| match Delta::from_parts(number) {
            Some(quantity) if is_quantity => quantity.to_string(),
            _ => number.to_string(),
        };
        Self {
            customer_id: key.customer_id.clone(),
            product_id: key.product_id.clone(),
            package_id: difference.package_id,
            request_id: difference.request_id,
            what: difference.what.into(),
            recorded: show(difference.recorded),
            recomputed: show(difference.recomputed),
        }
    }
}

pub(super) async fn page<D: Database>(context: &Context<'_, D>, query: Query<'_>) -> Result<Response, Failure> {
    let query = query.read(&["customer_id", "limit", "cursor"])?;
    let only = query.id("customer_id", CustomerId::new)?;
    let after = query.cursor(LIST, |text| CustomerId::new(text).ok())?;
    let after = after.as_ref().map_or("", CustomerId::as_str);
    let tables = context.tables()?;
    let (accounts, next) = audited_accounts(tables, only.as_ref(), after, query.limit()?)?;
    let mut page = AuditPage::empty(next.as_ref().map(CustomerId::as_str));
    let mut customer_before = None;
    for account in &accounts {
        let findings = audit(tables, account)?;
        page.customers += usize::from(customer_before != Some(&account.key.customer_id));
        customer_before = Some(&account.key.customer_id);
        page.calls += findings.calls;
        page.balanced &= findings.differences.is_empty();
        page.list(findings.differences.into_iter().map(|found| DifferenceView::new(&account.key, found)));
        // An account is audited in one go; others' calls go on in between.
        step_aside().await;
    }
    json::response(200, &page)
}
