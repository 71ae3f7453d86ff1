//! Packages by id, by customer, by product, by state.

use super::{Page, SCANNED_ROWS_MAX, one_more, text};
use crate::ids::{AccountKey, CustomerId, PackageId, ProductId};
use crate::ledger::{Package, PackageState};
use crate::store::database::{Database, StoreError, Value};
use crate::store::rows::{PackageRow, read_package};

/// [`Package::state`] in SQL, at the time `?1`: the clock moves states, so no column can hold them.
pub(super) const STATE: &str = "CASE
    WHEN standing = 'released' THEN 'released'
    WHEN expires_at_ms <= ?1 THEN 'expired'
    WHEN standing = 'frozen' THEN 'frozen'
    WHEN ?1 < starts_at_ms THEN 'scheduled'
    WHEN kind = 'prepaid' AND used >= granted THEN 'exhausted'
    ELSE 'active' END";

/// A package and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedPackage {
    /// The account it belongs to.
    pub key: AccountKey,
    /// The package.
    pub package: Package,
}

/// Which packages are listed. What is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct PackageFilter {
    /// Whose.
    pub customer_id: Option<CustomerId>,
    /// Of which product.
    pub product_id: Option<ProductId>,
    /// In which state now.
    pub state: Option<PackageState>,
}

const fn state_word(state: PackageState) -> &'static str {
    match state {
        PackageState::Scheduled => "scheduled",
        PackageState::Active => "active",
        PackageState::Frozen => "frozen",
        PackageState::Exhausted => "exhausted",
        PackageState::Expired => "expired",
        PackageState::Released => "released",
    }
}

fn read_row(row: &[Value]) -> Result<OwnedPackage, StoreError> {
    let [customer_id, product_id, package] = row else { return Err(StoreError::unreadable("package")) };
    let package: PackageRow = serde_json::from_str(text(package, "package")?).map_err(|_| StoreError::unreadable("package"))?;
    Ok(OwnedPackage { key: super::customers::read_key(customer_id, product_id)?, package: read_package(package)? })
}

/// One package.
///
/// # Errors
/// [`StoreError::Unavailable`], or [`StoreError::Corrupt`] where a row cannot be read.
pub fn package(database: &impl Database, package_id: &PackageId) -> Result<Option<OwnedPackage>, StoreError> {
    let statement =
        "SELECT customer_id, product_id, row FROM package_rows JOIN accounts USING (account_id) WHERE package_id = ?1";
    let rows = database.execute(statement, &[package_id.as_str().into()])?;
    rows.first().map(|row| read_row(row)).transpose()
}

/// A page of packages, by id. The next page starts after the id that is answered.
///
/// # Errors
/// As [`package`].
pub fn packages(
    database: &impl Database,
    filter: &PackageFilter,
    after: &str,
    limit: usize,
    now_ms: i64,
) -> Result<Page<OwnedPackage, String>, StoreError> {
    // Of a customer's packages all are looked at; of all packages, a page looks at so many and the next one goes on from there.
    let (tables, scanned_to) = match filter.customer_id {
        Some(_) => ("accounts CROSS JOIN package_rows USING (account_id)", None),
        None => ("package_rows CROSS JOIN accounts USING (account_id)", scan_end(database, after)?),
    };
    let statement = format!(
        "SELECT customer_id, product_id, row FROM {tables} \
         WHERE package_id > ?2 AND (?3 IS NULL OR package_id <= ?3) AND (?4 IS NULL OR product_id = ?4) \
         AND (?5 IS NULL OR {STATE} = ?5) AND {of_customer} ORDER BY package_id LIMIT ?7",
        of_customer = if filter.customer_id.is_some() { "customer_id = ?6" } else { "?6 IS NULL" },
    );
    let parameters = [
        now_ms.into(),
        after.into(),
        scanned_to.as_deref().into(),
        filter.product_id.as_ref().map(ProductId::as_str).into(),
        filter.state.map(state_word).into(),
        filter.customer_id.as_ref().map(CustomerId::as_str).into(),
        one_more(limit),
    ];
    let rows = database.execute(&statement, &parameters)?;
    let items = rows.iter().take(limit).map(|row| read_row(row)).collect::<Result<Vec<_>, _>>()?;
    let next = if rows.len() > limit { items.last().map(|last| last.package.id.to_string()) } else { scanned_to };
    Ok(Page { items, next })
}

/// The id up to which one page looks, where there are packages behind it.
fn scan_end(database: &impl Database, after: &str) -> Result<Option<String>, StoreError> {
    let statement = "SELECT package_id FROM packages WHERE package_id > ?1 ORDER BY package_id LIMIT 1 OFFSET ?2";
    let rows = database.execute(statement, &[after.into(), (SCANNED_ROWS_MAX - 1).into()])?;
    rows.first().and_then(|row| row.first()).map(|id| text(id, "package id").map(str::to_owned)).transpose()
}

#[cfg(test)]
mod tests {
    use super::{PackageFilter, packages};
    use crate::ledger::PackageState;
    use crate::store::database::Database;
    use crate::store::testing::memory;

    #[test]
    fn a_filter_that_few_packages_pass_is_walked_in_bounded_steps_to_the_end() {
        let database = memory();
        database
            .execute("INSERT INTO accounts (account_id, customer_id, product_id, unfolded_since_ms) VALUES (1, 'c', 'p', 0)", &[])
            .unwrap();
        let statement = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
            INSERT INTO packages SELECT 1, i, printf('p%06d', i), 'prepaid', 10, 0, 0, 0, NULL, 0, 0, NULL,
                iif(i % 12000 = 0, 'frozen', 'open'), 'running', '' FROM n";
        database.execute(statement, &[]).unwrap();
        let filter = PackageFilter { state: Some(PackageState::Frozen), ..PackageFilter::default() };
        let (mut after, mut found, mut pages) = (String::new(), Vec::new(), 0);
        loop {
            let page = packages(&database, &filter, &after, 100, 1).unwrap();
            found.extend(page.items.into_iter().map(|owned| owned.package.id.to_string()));
            pages += 1;
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!((found, pages), (vec!["p012000".to_owned(), "p024000".to_owned()], 3));
    }
}
