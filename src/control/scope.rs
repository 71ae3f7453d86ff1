//! Whom a request concerns: for an edge whose ledger is in parts, one a customer, with an index of what spans them.

use serde::Deserialize;

use super::query::{PathIds, Query};
use super::routes::{self, Action, Routed};
use super::{Request, audit};
use crate::ids::{AccountKey, CustomerId, EventId, PackageId, ProductId, RepurchaseId};

/// Whose part of the ledger answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A customer's own. What it writes may be the first of an account.
    Customer {
        /// Who.
        customer_id: CustomerId,
        /// The account that the request may make.
        makes: Option<ProductId>,
    },
    /// A package is granted: its name is the whole deployment's, the package is a customer's.
    Grant {
        /// Its name.
        package_id: PackageId,
        /// Who gets it.
        key: AccountKey,
    },
    /// Whoever has this package.
    Package(PackageId),
    /// Whoever made this order.
    Repurchase(RepurchaseId),
    /// The index, once it knows all that this customer did.
    IndexAfter(CustomerId),
    /// The index, and then whoever the event happened to: an order hook is its customer's own.
    Redeliver(EventId),
    /// The index.
    Index,
    /// The index and every customer's part where something is due.
    Tick,
    /// A page of customers, each of whom audits itself.
    AuditPage {
        /// The customer before the page; empty for the first one.
        after: String,
        /// How many.
        limit: usize,
    },
}

/// Whom a request concerns. One that is wrong is the index's, which answers why.
#[must_use]
pub fn scope(request: &Request<'_>) -> Scope {
    let method = if request.method == "HEAD" { "GET" } else { request.method };
    match routes::find(method, request.path) {
        Routed::Found { action, path_ids } => scope_of(action, &path_ids, request).unwrap_or(Scope::Index),
        Routed::WrongMethod { .. } | Routed::Unknown => Scope::Index,
    }
}

fn scope_of(action: Action, ids: &PathIds, request: &Request<'_>) -> Option<Scope> {
    let id = |place| ids.id(place, "id", CustomerId::new).ok();
    Some(match action {
        Action::PutPackage => grant(ids, request.body)?,
        Action::GetPackage
        | Action::PatchPackage
        | Action::FreezePackage
        | Action::UnfreezePackage
        | Action::ReleasePackage
        | Action::AdjustPackage => Scope::Package(ids.id(0, "package_id", PackageId::new).ok()?),
        Action::GetBalance | Action::ListCalls | Action::GetCall | Action::RefundCall | Action::GetRules => {
            Scope::Customer { customer_id: id(0)?, makes: None }
        }
        Action::PutRules => Scope::Customer { customer_id: id(0)?, makes: Some(ids.id(1, "product_id", ProductId::new).ok()?) },
        Action::GetRepurchase | Action::ConcludeRepurchase => {
            Scope::Repurchase(ids.id(0, "repurchase_id", RepurchaseId::new).ok()?)
        }
        Action::RedeliverEvent => Scope::Redeliver(ids.id(0, "event_id", EventId::new).ok()?),
        Action::ListPackages => match customer(request, &["customer_id", "product_id", "state", "limit", "cursor"])? {
            Some(customer_id) => Scope::Customer { customer_id, makes: None },
            None => Scope::Index,
        },
        Action::ListRepurchases => {
            customer(request, &["customer_id", "state", "limit", "cursor"])?.map_or(Scope::Index, Scope::IndexAfter)
        }
        Action::ListEvents => {
            customer(request, &["customer_id", "type", "delivery", "limit", "cursor"])?.map_or(Scope::Index, Scope::IndexAfter)
        }
        Action::Audit => audited(request)?,
        Action::Tick => Scope::Tick,
        Action::Health
        | Action::Ready
        | Action::ListCustomers
        | Action::ListWebhooks
        | Action::EnableWebhook
        | Action::Metrics => Scope::Index,
    })
}

fn grant(ids: &PathIds, body: &[u8]) -> Option<Scope> {
    #[derive(Deserialize)]
    struct Granted {
        customer_id: CustomerId,
        product_id: ProductId,
    }
    let Granted { customer_id, product_id } = serde_json::from_slice(body).ok()?;
    let package_id = ids.id(0, "package_id", PackageId::new).ok()?;
    Some(Scope::Grant { package_id, key: AccountKey { customer_id, product_id } })
}

/// The customer that a list is of, where it is of one.
fn customer(request: &Request<'_>, known: &[&'static str]) -> Option<Option<CustomerId>> {
    Query(request.query).read(known).ok()?.id("customer_id", CustomerId::new).ok()
}

fn audited(request: &Request<'_>) -> Option<Scope> {
    let query = Query(request.query).read(&["customer_id", "limit", "cursor"]).ok()?;
    if let Some(customer_id) = query.id("customer_id", CustomerId::new).ok()? {
        return Some(Scope::Customer { customer_id, makes: None });
    }
    let after = query.cursor(audit::LIST, |text| CustomerId::new(text).ok()).ok()?;
    let after = after.map_or_else(String::new, |after| after.to_string());
    Some(Scope::AuditPage { after, limit: query.limit().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Scope, scope};
    use crate::control::{ROUTES, Request};
    use crate::ids::CustomerId;

    fn of(method: &str, path: &str, query: Option<&str>, body: &str) -> Scope {
        scope(&Request { method, path, query, authorization: None, body: body.as_bytes() })
    }

    #[test]
    fn what_names_a_customer_is_that_customers() {
        let customer_id = CustomerId::new("a/b").unwrap();
        for (method, template) in ROUTES.iter().filter(|(_, path)| path.contains("{customer_id}")) {
            let path = template.replace("{customer_id}", "a%2Fb");
            let Scope::Customer { customer_id: found, .. } = of(method, &path, None, "") else { panic!("{method} {path}") };
            assert_eq!(found, customer_id, "{method} {path}");
        }
        let of_customer = Scope::Customer { customer_id: customer_id.clone(), makes: None };
        assert_eq!(of("GET", "/_tollgate/v1/audit", Some("customer_id=a%2Fb"), ""), of_customer);
        assert_eq!(of("HEAD", "/_tollgate/v1/packages", Some("customer_id=a%2Fb"), ""), of_customer);
        assert_eq!(of("GET", "/_tollgate/v1/events", Some("customer_id=a%2Fb"), ""), Scope::IndexAfter(customer_id));
    }

    #[test]
    fn a_request_that_is_wrong_is_the_indexs() {
        assert_eq!(of("PUT", "/_tollgate/v1/packages/p", None, "{}"), Scope::Index);
        assert_eq!(of("GET", "/_tollgate/v1/audit", Some("limit=0"), ""), Scope::Index);
        assert_eq!(of("GET", "/_tollgate/v1/customers/%zz/balance", None, ""), Scope::Index);
        assert_eq!(of("BREW", "/_tollgate/v1/tick", None, ""), Scope::Index);
    }
}
